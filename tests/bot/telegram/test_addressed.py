"""What in a group is for the bot, and what is left of a text without the bot's name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from telegram import Message

from bot.telegram import addressed
from bot.telegram.outgoing import TelegramBot
from tests.telegram_server.entities import automatic

BOT = cast(TelegramBot, SimpleNamespace(id=7, username="Familiar_Bot"))
ADA = {"id": 101, "is_bot": False, "first_name": "Ada"}
US = {"id": 7, "is_bot": True, "first_name": "Familiar", "username": "Familiar_Bot"}
GROUP = {"id": -1001, "title": "Team", "type": "supergroup"}


def message(text: str = "", **fields: Any) -> Message:
    written = {"text": text, "entities": automatic(text)} if text else {}
    made = {"message_id": 5, "date": 1_790_000_000, "chat": GROUP, "from": ADA, **written, **fields}
    return Message.de_json(made, None)


def answering(sender: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"message_id": 4, "date": 1_790_000_000, "chat": GROUP, "from": sender, "text": "Before.", **fields}


@pytest.mark.parametrize(
    "text",
    ["@Familiar_Bot hi", "hi @familiar_bot", "so @FAMILIAR_BOT, hi", "/new", "/NEW@familiar_bot x", "😀 @familiar_bot"],
)
def test_a_mention_and_a_command_are_for_the_bot(text: str) -> None:
    assert addressed.is_for(BOT, message(text))


@pytest.mark.parametrize(
    "text",
    ["hi", "@other_bot hi", "@familiar_bots hi", "familiar_bot", "/new@other_bot", "/weather", "/weather@other_bot x"],
)
def test_what_names_nobody_or_another_bot_is_not(text: str) -> None:
    assert not addressed.is_for(BOT, message(text))


def test_an_answer_to_the_bot_is_for_it_and_one_to_somebody_else_is_not() -> None:
    assert addressed.is_for(BOT, message("yes", reply_to_message=answering(US)))
    assert addressed.is_for(BOT, message("/weather", reply_to_message=answering(US)))
    assert not addressed.is_for(BOT, message("yes", reply_to_message=answering(ADA)))
    assert not addressed.is_for(BOT, message("/new@other_bot", reply_to_message=answering(US)))


def test_what_stands_in_a_topic_that_the_bot_opened_does_not_answer_it() -> None:
    opening = answering(US, forum_topic_created={"name": "Plans", "icon_color": 7322096})
    assert not addressed.is_for(BOT, message("hi all", reply_to_message=opening, is_topic_message=True))


def test_somebody_picked_from_the_list_of_members_is_mentioned_by_number() -> None:
    picked = {"type": "text_mention", "offset": 0, "length": 8}
    assert addressed.is_for(BOT, message("Familiar hi", entities=[{**picked, "user": US}]))
    assert not addressed.is_for(BOT, message("Familiar hi", entities=[{**picked, "user": ADA}]))


def test_a_caption_can_mention_the_bot() -> None:
    marked = {"type": "mention", "offset": 0, "length": 13}
    pictured = message(caption="@familiar_bot what is this?", caption_entities=[marked])
    assert addressed.is_for(BOT, pictured)
    assert addressed.text_of(BOT, pictured) == "what is this?"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("@familiar_bot what is a monad?", "what is a monad?"),
        ("@Familiar_Bot, what is a monad?", "what is a monad?"),
        ("@familiar_bot：什么是单子？", "什么是单子？"),
        ("what is a monad, @familiar_bot", "what is a monad"),
        ("@familiar_bot @familiar_bot hi @familiar_bot", "hi"),
        ("  @familiar_bot\n\n two\nlines ", "two\nlines "),
        ("😀😀 hi @familiar_bot", "😀😀 hi"),
        ("who is @familiar_bot really?", "who is @familiar_bot really?"),
        ("@familiar_bot's name is long", "@familiar_bot's name is long"),
        ("@other_bot and @familiar_bot", "@other_bot and"),
        ("@other_bot hi", "@other_bot hi"),
        ("no mention ", "no mention "),
        ("@familiar_bot", "@familiar_bot"),
    ],
)
def test_the_bots_name_is_left_out_at_the_ends_only(text: str, kept: str) -> None:
    assert addressed.text_of(BOT, message(text)) == kept


def test_a_caption_that_is_only_the_name_says_nothing() -> None:
    marked = {"type": "mention", "offset": 0, "length": 13}
    assert addressed.text_of(BOT, message(caption="@familiar_bot", caption_entities=[marked])) == ""
    assert addressed.text_of(BOT, message()) == ""


@pytest.mark.parametrize("offset", [-3, 1, 5, 10**9])
@pytest.mark.parametrize("length", [0, 1, 10**9])
def test_marks_that_do_not_fit_the_text_do_no_harm(offset: int, length: int) -> None:
    """1 is in the middle of the emoji; half of another one stands at the end."""
    wrong = [{"type": kind, "offset": offset, "length": length} for kind in ("mention", "text_mention", "bot_command")]
    odd = message("😀 hi \ud83d", entities=wrong)
    assert not addressed.is_for(BOT, odd)
    assert addressed.text_of(BOT, odd) == "😀 hi \ud83d"


def test_who_is_a_person() -> None:
    assert addressed.by_a_person(message("hi"))
    assert not addressed.by_a_person(message("hi", **{"from": US}))
    assert not addressed.by_a_person(message("hi", sender_chat={"id": -1009, "title": "News", "type": "channel"}))
    assert not addressed.by_an_anonymous_admin(
        message("hi", sender_chat={"id": -1009, "title": "N", "type": "channel"})
    )
    assert addressed.by_an_anonymous_admin(message("hi", sender_chat=GROUP))
