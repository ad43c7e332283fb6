"""Messages that the bot sends, changes and deletes, and what the server refuses."""

from __future__ import annotations

import pytest
from telegram import (
    Bot,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    Message,
    MessageEntity,
    ReplyParameters,
)
from telegram.error import BadRequest, Forbidden

from tests.telegram_server import Button, Chat, TelegramServer, User

THUMBS = InlineKeyboardMarkup(
    [[InlineKeyboardButton("👍", callback_data="up"), InlineKeyboardButton("👎 1", url="https://x.org")]]
)


async def test_a_message_is_shown_with_all_that_it_carries(bot: Bot, chat: Chat) -> None:
    asked = chat.send("hi")
    entities = [MessageEntity("bold", 2, 3)]
    sent = await bot.send_message(
        101, "👍abc \n", entities=entities, reply_markup=THUMBS, reply_parameters=ReplyParameters(asked.id)
    )
    shown = chat.last
    assert shown is not None
    assert (shown.id, shown.text, shown.sender, shown.reply_to) == (sent.message_id, "👍abc", "bot", asked.id)
    assert shown.entities == [{"type": "bold", "offset": 2, "length": 3}]
    assert shown.keyboard == [[Button("👍", "up"), Button("👎 1", "https://x.org")]]
    assert (sent.text, sent.entities, sent.reply_markup) == ("👍abc", tuple(entities), THUMBS)
    assert sent.reply_to_message is not None
    assert sent.reply_to_message.text == "hi"


@pytest.mark.parametrize("text", ["", " \n", "\u200b", "\x01"])
async def test_a_text_with_nothing_to_show_is_refused(bot: Bot, chat: Chat, text: str) -> None:
    with pytest.raises(BadRequest, match="Message text is empty"):
        await bot.send_message(101, text)


async def test_a_text_is_measured_in_utf_16_units_after_trimming(bot: Bot, chat: Chat) -> None:
    await bot.send_message(101, "👍" * 2048 + "\n\n")
    with pytest.raises(BadRequest, match="Message is too long"):
        await bot.send_message(101, "👍" * 2048 + "x")
    assert len(chat.replies) == 1


@pytest.mark.parametrize(
    ("entity", "problem"),
    [
        (MessageEntity("bold", 0, 9), "ends after the end of the text"),
        (MessageEntity("bold", 1, 1), "begins in a middle"),
        (MessageEntity("bold", 0, 1), "ends in a middle"),
        (MessageEntity("bold", -1, 2), "incorrect offset"),
        (MessageEntity("sparkling", 0, 2), "unsupported entity type"),
    ],
)
async def test_an_entity_that_does_not_fit_its_text_is_refused(
    bot: Bot, chat: Chat, entity: MessageEntity, problem: str
) -> None:
    with pytest.raises(BadRequest, match=problem):
        await bot.send_message(101, "👍abc", entities=[entity])


async def test_entities_move_with_the_text_when_it_is_trimmed(bot: Bot, chat: Chat) -> None:
    await bot.send_message(101, " \na\rbc  ", entities=[MessageEntity("code", 4, 4)])
    assert (chat.last.text, chat.last.entities) == ("abc", [{"type": "code", "offset": 1, "length": 2}])


async def test_blank_space_at_the_start_stays_as_far_as_an_entity_covers_it(bot: Bot, chat: Chat) -> None:
    await bot.send_message(101, " \n x", entities=[MessageEntity("pre", 1, 3)])
    assert (chat.last.text, chat.last.entities) == ("\n x", [{"type": "pre", "offset": 0, "length": 3}])


async def test_entities_beyond_a_hundred_are_left_out_and_counted(bot: Bot, chat: Chat) -> None:
    sent = await bot.send_message(101, "x" * 103, entities=[MessageEntity("bold", n, 1) for n in range(103)])
    assert (len(sent.entities), chat.last.entities_cut) == (100, 3)


async def test_html_becomes_entities_and_a_mistake_in_it_an_error(bot: Bot, chat: Chat) -> None:
    await bot.send_message(101, "👍<b>a &lt; <i>b</i></b>", parse_mode="HTML")
    kinds = [(entity["type"], entity["offset"], entity["length"]) for entity in chat.last.entities]
    assert (chat.last.text, kinds) == ("👍a < b", [("bold", 2, 5), ("italic", 6, 1)])
    for broken in ("<b>a", "a</b>", "<x>a</x>", "a < b"):
        with pytest.raises(BadRequest, match="Can't parse entities"):
            await bot.send_message(101, broken, parse_mode="HTML")


@pytest.mark.parametrize("text", ["*open", "1. one", "`a"])
async def test_unescaped_markdown_is_refused(bot: Bot, chat: Chat, text: str) -> None:
    await bot.send_message(101, r"*a* \. `b.c`", parse_mode="MarkdownV2")
    assert chat.last.text == "a . b.c"
    with pytest.raises(BadRequest, match="Can't parse entities"):
        await bot.send_message(101, text, parse_mode="MarkdownV2")


async def test_the_bot_cannot_write_where_it_was_never_spoken_to(bot: Bot, server: TelegramServer, bo: User) -> None:
    with pytest.raises(BadRequest, match="Chat not found"):
        await bot.send_message(7, "hi")
    with pytest.raises(Forbidden, match="can't initiate"):
        await bot.send_message(bo.id, "hi")


async def test_a_blocked_bot_is_told_so_and_refused(bot: Bot, server: TelegramServer, chat: Chat, ada: User) -> None:
    server.block(ada)
    with pytest.raises(Forbidden, match="bot was blocked by the user"):
        await bot.send_message(101, "hi")
    (update,) = await bot.get_updates()
    assert update.my_chat_member.new_chat_member.status == "kicked"
    server.unblock(ada)
    await bot.send_message(101, "hi")
    assert chat.last.text == "hi"


async def test_a_reply_to_a_message_that_is_gone_is_refused_unless_allowed(bot: Bot, chat: Chat) -> None:
    with pytest.raises(BadRequest, match="Message to be replied not found"):
        await bot.send_message(101, "hi", reply_parameters=ReplyParameters(99))
    await bot.send_message(101, "hi", reply_parameters=ReplyParameters(99, allow_sending_without_reply=True))
    assert chat.last.reply_to is None


@pytest.mark.parametrize(
    ("button", "problem"),
    [
        (InlineKeyboardButton("x", callback_data="好" * 22), "Button_data_invalid"),
        (InlineKeyboardButton("x"), "text buttons are unallowed"),
        (InlineKeyboardButton(" ", callback_data="x"), "must not be empty"),
    ],
)
async def test_a_button_that_telegram_would_not_take_is_refused(
    bot: Bot, chat: Chat, button: InlineKeyboardButton, problem: str
) -> None:
    with pytest.raises(BadRequest, match=problem):
        await bot.send_message(101, "hi", reply_markup=InlineKeyboardMarkup([[button]]))
    assert chat.last is None


async def test_an_edit_replaces_text_and_keyboard_and_the_earlier_text_is_remembered(bot: Bot, chat: Chat) -> None:
    sent = await bot.send_message(101, "one", reply_markup=THUMBS)
    await bot.edit_message_text("two", 101, sent.message_id)
    edited = await bot.edit_message_text("three", 101, sent.message_id, reply_markup=THUMBS)
    assert isinstance(edited, Message)
    assert edited.edit_date is not None
    assert (chat.last.text, chat.last.edits, len(chat.last.keyboard)) == ("three", ["one", "two"], 1)
    await bot.edit_message_reply_markup(101, sent.message_id)
    assert (chat.last.text, chat.last.keyboard) == ("three", [])


async def test_an_edit_that_changes_nothing_is_refused(bot: Bot, chat: Chat) -> None:
    sent = await bot.send_message(101, "one", reply_markup=THUMBS)
    with pytest.raises(BadRequest, match="Message is not modified"):
        await bot.edit_message_text("one\n", 101, sent.message_id, reply_markup=THUMBS)
    with pytest.raises(BadRequest, match="Message is not modified"):
        await bot.edit_message_reply_markup(101, sent.message_id, reply_markup=THUMBS)
    await bot.edit_message_text("one", 101, sent.message_id)  # without the keyboard it is another message


async def test_only_own_messages_that_are_there_can_be_edited(bot: Bot, chat: Chat) -> None:
    theirs = chat.send("mine")
    with pytest.raises(BadRequest, match="Message can't be edited"):
        await bot.edit_message_text("yours", 101, theirs.id)
    with pytest.raises(BadRequest, match="Message to edit not found"):
        await bot.edit_message_text("x", 101, 999)
    assert theirs.text == "mine"


async def test_a_deleted_message_is_not_seen_any_more(bot: Bot, chat: Chat) -> None:
    ids = [(await bot.send_message(101, text)).message_id for text in "abc"]
    await bot.delete_message(101, ids[0])
    await bot.delete_messages(101, [ids[0], ids[1], 999])
    assert [message.text for message in chat.messages] == ["c"]
    with pytest.raises(BadRequest, match="Message to delete not found"):
        await bot.delete_message(101, ids[0])


async def test_a_person_edits_a_message_and_the_bot_hears_of_it(bot: Bot, chat: Chat) -> None:
    asked = chat.send("helo")
    chat.edit(asked, "hello")
    first, second = await bot.get_updates()
    assert (first.message.text, second.edited_message.text) == ("helo", "hello")
    assert second.edited_message.edit_date is not None
