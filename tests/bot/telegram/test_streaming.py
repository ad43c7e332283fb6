"""How a reply appears in a chat while it is written, and when it is done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from engine.state import State
from store import posts
from tests.bot.telegram.conftest import Talk
from tests.fakes.vllm import FakeConnection, Fault, Hold, Reply, eventually
from tests.telegram_server import User


async def test_a_message_is_answered_with_buttons_under_the_answer(talk: Talk) -> None:
    talk.vllm.script(Reply("Good", " evening", "!"))
    ada = talk.private()
    ada.send("Hello")
    await ada.wait_for(lambda: ada.last and ada.last.text == "Good evening!")
    assert ada.last is not None
    assert [text for text, _ in ada.last.keyboard[0]] == ["👍", "👎", "🔁"]
    assert talk.vllm.chats[0].body["messages"][-1] == {"role": "user", "content": "Hello"}


async def test_in_a_private_chat_the_growing_reply_is_a_draft_that_can_be_stopped(talk: Talk) -> None:
    hold = Hold()
    talk.vllm.script(Reply("One", " two", hold, " three"))
    ada = talk.private()
    ada.send("Count")
    await ada.wait_for(lambda: ada.draft is not None and ada.draft.text == "One two")
    assert ada.draft is not None
    assert ada.draft.can_stop
    assert ada.last is None
    hold.release.set()
    await ada.wait_for(lambda: ada.last and ada.last.text == "One two three")
    assert ada.draft is None
    assert len(ada.replies) >= 1


async def test_a_reply_that_has_not_begun_is_shown_as_thinking(talk: Talk) -> None:
    hold = Hold()
    talk.vllm.script(Reply(hold, "Yes"))
    ada = talk.private()
    ada.send("Hello")
    await ada.wait_for(lambda: ada.draft is not None and ada.draft.text == "")
    hold.release.set()
    await ada.wait_for(lambda: ada.last and ada.last.text == "Yes")


@pytest.mark.parametrize("refused", [True, "unknown"])
async def test_where_a_server_knows_no_drafts_one_message_is_edited(talk: Talk, refused: Any) -> None:
    talk.server.refuse_drafts = refused
    hold = Hold()
    talk.vllm.script(Reply("One", " two", hold, " three"))
    ada = talk.private()
    ada.send("Count")
    await ada.wait_for(lambda: ada.last and ada.last.text == "One two")
    assert ada.last is not None
    assert [data.split(":")[0] for _, data in ada.last.keyboard[0]] == ["stop"]
    hold.release.set()
    await ada.wait_for(lambda: [text for text, _ in ada.last.keyboard[0]] == ["👍", "👎", "🔁"])
    assert ada.last.text == "One two three"
    tried = len(talk.server.calls_of("sendMessageDraft"))
    ada.send("And again")
    await ada.wait_for(lambda: ada.last and ada.last.text == "Hello there!")
    assert len(talk.server.calls_of("sendMessageDraft")) == tried


async def test_an_older_text_is_never_shown_after_a_newer_one(talk: Talk) -> None:
    talk.server.refuse_drafts = True
    words = [f" w{number}" for number in range(200)]
    talk.vllm.script(Reply(*words))
    ada = talk.private()
    ada.send("Count")
    await ada.wait_for(lambda: ada.last and ada.last.text.endswith("w199") and len(ada.last.keyboard[0]) == 3)
    assert ada.last is not None
    lengths = [len(text) for text in ada.last.edits]
    assert lengths == sorted(lengths)


async def test_a_flood_warning_slows_the_drafts_and_loses_nothing(talk: Talk) -> None:
    talk.server.flood(1, method="sendMessageDraft", times=2)
    talk.vllm.script(Reply("All", " of", " it"))
    ada = talk.private()
    ada.send("Hello")
    await ada.wait_for(lambda: ada.last and ada.last.text == "All of it")


async def test_a_flooded_final_message_arrives_once_the_pause_is_over(talk: Talk) -> None:
    talk.server.flood(1, method="sendMessage", times=1)
    ada = talk.private()
    ada.send("Hello")
    await ada.wait_for(lambda: ada.last and ada.last.text == "Hello there!")
    assert [message.text for message in ada.messages].count("Hello there!") == 1


async def test_markdown_is_shown_as_formatting_also_while_it_is_unfinished(talk: Talk) -> None:
    hold = Hold()
    talk.vllm.script(Reply("**Bold", hold, "** and `code`"))
    ada = talk.private()
    ada.send("Hello")
    await hold.reached.wait()
    hold.release.set()
    await ada.wait_for(lambda: ada.last and ada.last.text == "Bold and code")
    assert ada.last is not None
    assert [entity["type"] for entity in ada.last.entities] == ["bold", "code"]


async def test_refused_formatting_goes_out_plain(talk: Talk) -> None:
    talk.vllm.script(Reply("**Bold**"))
    talk.server.reject_entities(times=50)
    ada = talk.private()
    ada.send("Hello")
    await ada.wait_for(lambda: ada.last and ada.last.text == "Bold")
    assert ada.last is not None
    assert not ada.last.entities


async def test_a_long_reply_fills_several_messages_with_the_buttons_under_the_last(talk: Talk) -> None:
    paragraphs = [f"Paragraph {number}: {'word ' * 60}\n\n" for number in range(30)]
    talk.vllm.script(Reply(*paragraphs))
    ada = talk.private()
    ada.send("Tell me everything")
    await ada.wait_for(lambda: ada.last and "Paragraph 29" in ada.last.text and ada.last.keyboard)
    said = [message for message in ada.replies if "Paragraph" in message.text]
    assert len(said) >= 3
    assert all(len(message.text) <= 4096 for message in said)
    assert [bool(message.keyboard) for message in said] == [False] * (len(said) - 1) + [True]
    text = " ".join(message.text for message in said)
    assert all(text.count(f"Paragraph {number}:") == 1 for number in range(30))


async def test_a_reply_that_breaks_off_keeps_what_was_shown_and_says_why(talk: Talk) -> None:
    talk.vllm.script(Reply("Half of", Fault()))
    ada = talk.private()
    ada.send("Hello")
    await ada.wait_for(lambda: ada.last and "/retry" in ada.last.text)
    assert "Half of" in [message.text for message in ada.replies]


async def test_waiting_for_the_engine_is_shown(
    talk: Talk, connection: FakeConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = asyncio.Event()

    async def wait() -> AsyncIterator[State]:
        yield State(phase="loading", since=time.time() - 12)
        await loaded.wait()
        yield State(phase="ready", since=0, address=connection.address)

    monkeypatch.setattr(connection, "wait", wait)
    ada = talk.private()
    ada.send("Hello")
    await ada.wait_for(lambda: ada.draft is not None and ada.draft.text.startswith("Loading the model… 1"))
    loaded.set()
    await ada.wait_for(lambda: ada.last and ada.last.text == "Hello there!")


async def test_an_empty_reply_is_said_to_be_one(talk: Talk) -> None:
    talk.vllm.script(Reply())
    ada = talk.private()
    ada.send("Hello")
    await ada.wait_for(lambda: ada.last and "no answer came" in ada.last.text)


async def test_in_a_group_the_reply_answers_the_message_it_is_for(talk: Talk) -> None:
    ada = talk.server.user(101, "Ada", language_code="en")
    group = talk.server.group(-1001, "Team", members=[ada], bot_admin=True)
    asked = group.send("@familiar_bot Hello", sender=ada)
    await group.wait_for(lambda: group.last and group.last.text == "Hello there!")
    assert group.last is not None
    assert group.last.reply_to == asked.id
    assert not talk.server.calls_of("sendMessageDraft")


async def test_chinese_and_emoji_arrive_intact(talk: Talk) -> None:
    talk.vllm.script(Reply("**你好", "，世界** 👩‍👩‍👧‍👦", " `代码`"))
    ada = talk.private(language="zh-hans")
    ada.send("你好 👋")
    await ada.wait_for(lambda: ada.last and ada.last.text == "你好，世界 👩‍👩‍👧‍👦 代码")
    assert talk.vllm.chats[0].body["messages"][-1]["content"] == "你好 👋"


async def test_a_person_who_blocked_the_bot_stops_nothing(talk: Talk) -> None:
    hold = Hold()
    talk.vllm.script(Reply("One", hold))
    ada, bo = talk.private(), talk.private(102, "Bo")
    ada.send("Hello")
    await hold.reached.wait()
    assert ada.person is not None
    talk.server.block(ada.person)
    hold.release.set()
    bo.send("Hello")
    await bo.wait_for(lambda: bo.last and bo.last.text == "Hello there!")


async def test_what_was_shown_can_be_found_by_its_message(talk: Talk) -> None:
    ada = talk.private()
    asked = ada.send("Hello")
    await ada.wait_for(lambda: ada.last and ada.last.text == "Hello there!")
    shown = ada.last
    assert shown is not None

    def at(message_id: int) -> str | None:
        found = posts.message_at(talk.store, "telegram", str(ada.id), str(message_id))
        return found.content if found else None

    await eventually(lambda: (at(shown.id), at(asked.id)) == ("Hello there!", "Hello"))
    assert isinstance(ada.members[0], User)


async def test_a_reply_cut_inside_code_says_so_outside_of_it(talk: Talk) -> None:
    talk.vllm.script(Reply("Here:\n\n```python\n", "x = 1", finish="length"))
    ada = talk.private()
    ada.send("Hello")
    await ada.wait_for(lambda: ada.last and "length limit" in ada.last.text)
    assert ada.last is not None
    assert "```" not in ada.last.text
    assert [entity["type"] for entity in ada.last.entities] == ["pre", "italic"]
    code = ada.last.entities[0]
    assert ada.last.text[code["offset"] : code["offset"] + code["length"]].strip() == "x = 1"
