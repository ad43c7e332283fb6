"""The way of a message: in order, once, stopped when asked, and not lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from store import conversations, inbox, people
from store.tables import Message
from tests.bot.telegram.conftest import Talk
from tests.fakes.vllm import Hold, Reply, eventually
from tests.telegram_server import Chat

SECOND = Reply("Second", " answer")


def logged(talk: Talk, chat: Chat) -> list[Message]:
    """The branch shown of the conversation that a person last used."""
    person = people.with_identity(talk.store, "telegram", str(chat.id))
    assert person is not None
    assert person.id is not None
    conversation = conversations.latest(talk.store, person.id, "telegram")
    if conversation is None or conversation.head_id is None:
        return []
    return conversations.path(talk.store, conversation.head_id)


def asked(talk: Talk) -> list[str]:
    return [request.body["messages"][-1]["content"] for request in talk.vllm.chats]


async def test_messages_of_one_chat_are_answered_in_order_one_after_the_other(talk: Talk) -> None:
    hold = Hold()
    talk.vllm.script(Reply("First", hold, " answer"), SECOND)
    ada = talk.private()
    ada.send("One")
    await hold.reached.wait()
    ada.send("Two")
    await eventually(lambda: talk.channel.inbox.waiting == 2)
    assert asked(talk) == ["One"]
    hold.release.set()
    await ada.wait_for(lambda: [m.text for m in ada.replies if "answer" in m.text] == ["First answer", "Second answer"])
    assert asked(talk) == ["One", "Two"]
    assert [message.content for message in logged(talk, ada)] == ["One", "First answer", "Two", "Second answer"]


async def test_one_chat_does_not_wait_for_another(talk: Talk) -> None:
    hold = Hold()
    talk.vllm.script(Reply("Slow", hold), Reply("Quick"))
    ada, bo = talk.private(), talk.private(102, "Bo")
    ada.send("One")
    await hold.reached.wait()
    bo.send("Two")
    await bo.wait_for(lambda: bo.last and bo.last.text == "Quick")
    hold.release.set()
    await ada.wait_for(lambda: ada.last and ada.last.text == "Slow")


async def test_the_pieces_of_a_long_text_are_one_turn(talk: Talk) -> None:
    text = " ".join(f"word{number}" for number in range(1200))
    ada = talk.private()
    pieces = ada.paste(text)
    assert len(pieces) > 2
    await ada.wait_for(lambda: ada.last and ada.last.text == "Hello there!")
    assert asked(talk) == [text]
    assert [message.content for message in logged(talk, ada)] == [text, "Hello there!"]


async def test_messages_far_apart_are_turns_of_their_own(talk: Talk) -> None:
    ada = talk.private()
    ada.send("One")
    await ada.wait_for(lambda: ada.last and ada.last.text == "Hello there!")
    ada.send("Two")
    await eventually(lambda: asked(talk) == ["One", "Two"])


@pytest.mark.parametrize("how", ["command", "native", "button"])
async def test_a_stop_ends_the_request_in_the_engine_and_keeps_what_was_written(talk: Talk, how: str) -> None:
    talk.server.refuse_drafts = how == "button"
    hold = Hold()
    talk.vllm.script(Reply("Kept", " part", hold, " never"))
    ada = talk.private()
    ada.send("Tell me")
    if how == "button":
        await ada.wait_for(lambda: ada.last and ada.last.text == "Kept part")
        assert ada.last is not None
        ada.press(ada.last, "◼ Stop")
    else:
        await ada.wait_for(lambda: ada.draft is not None and ada.draft.text == "Kept part")
        if how == "native":
            ada.stop_generation()
        else:
            ada.command("/stop")
    await ada.wait_for(lambda: ada.last and ada.last.text.startswith("Kept part") and "stopped" in ada.last.text)
    await eventually(lambda: len(talk.vllm.aborted) == 1)
    reply = logged(talk, ada)[-1]
    assert (reply.content, reply.finish) == ("Kept part", "stopped")
    assert ada.last is not None
    assert [text for text, _ in ada.last.keyboard[0]] == ["👍", "👎", "🔁"]


async def test_a_stop_before_the_first_word_says_so(talk: Talk) -> None:
    hold = Hold()
    talk.vllm.script(Reply(hold, "never"))
    ada = talk.private()
    ada.send("Tell me")
    await hold.reached.wait()
    ada.command("/stop")
    await ada.wait_for(lambda: ada.last and "/retry" in ada.last.text)


async def test_stop_overtakes_a_message_that_waits(talk: Talk) -> None:
    hold = Hold()
    talk.vllm.script(Reply("First", hold), SECOND)
    ada = talk.private()
    ada.send("One")
    await hold.reached.wait()
    ada.send("Two")
    await eventually(lambda: talk.channel.inbox.waiting == 2)
    ada.command("/stop")
    await ada.wait_for(lambda: ada.last and ada.last.text == "Second answer")
    assert len(talk.vllm.aborted) == 1


async def test_stop_with_nothing_to_stop_says_so(talk: Talk) -> None:
    ada = talk.private()
    ada.command("/stop")
    await ada.wait_for(lambda: ada.last and "Nothing is being written" in ada.last.text)


async def test_an_update_that_is_delivered_twice_is_answered_once(talk: Talk) -> None:
    ada = talk.private()
    ada.send("Hello")
    await ada.wait_for(lambda: ada.last and ada.last.text == "Hello there!")
    update = {
        "update_id": talk.server.acknowledged or talk.server.pending[-1]["update_id"],
        "message": {
            "message_id": 1,
            "date": 1,
            "chat": {"id": ada.id, "type": "private", "first_name": "Ada"},
            "from": {"id": ada.id, "is_bot": False, "first_name": "Ada"},
            "text": "Hello",
        },
    }
    from telegram import Update

    await talk.channel.inbox.put(Update.de_json(update, talk.channel.bot))
    ada.send("Again")
    await eventually(lambda: asked(talk)[-1] == "Again")
    assert asked(talk) == ["Hello", "Again"]


async def test_nothing_is_confirmed_before_it_is_written_down(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    from store.errors import StoreFull

    real, refused = inbox.receive, asyncio.Event()
    loop = asyncio.get_running_loop()

    def full(*_: Any, **__: Any) -> None:
        loop.call_soon_threadsafe(refused.set)
        raise StoreFull("no room")

    monkeypatch.setattr(inbox, "receive", full)
    ada = talk.private()
    ada.send("Hello")
    await refused.wait()
    assert len(talk.server.pending) == 1
    monkeypatch.setattr(inbox, "receive", real)
    await ada.wait_for(lambda: ada.last and ada.last.text == "Hello there!")
    assert asked(talk) == ["Hello"]


async def test_a_shutdown_lets_a_running_reply_end(talk: Talk) -> None:
    hold = Hold()
    talk.vllm.script(Reply("The", hold, " end"))
    ada = talk.private()
    ada.send("Hello")
    await hold.reached.wait()
    stopping = asyncio.create_task(talk.stop())
    await asyncio.sleep(0.1)
    hold.release.set()
    assert await stopping == 0
    assert ada.last is not None
    assert ada.last.text == "The end"
    await talk.start()
    ada.send("More")
    await ada.wait_for(lambda: ada.last and ada.last.text == "Hello there!")
    assert asked(talk) == ["Hello", "More"]


async def test_what_a_shutdown_cuts_short_is_answered_after_the_next_start(talk: Talk) -> None:
    hold = Hold()
    talk.vllm.script(Reply("Half", hold), Reply("Whole"), SECOND)
    ada = talk.private()
    ada.send("One")
    await hold.reached.wait()
    ada.send("Two")
    await eventually(lambda: talk.channel.inbox.waiting == 2)
    talk.service.end()
    talk.service.end()  # in a hurry
    assert talk.task is not None
    assert await talk.task == 0
    talk.task = None
    await talk.start()
    await ada.wait_for(lambda: [m.text for m in ada.replies][-2:] == ["Whole", "Second answer"])
    assert [m.text for m in ada.replies].count("Whole") == 1
    assert [message.content for message in logged(talk, ada)] == ["One", "Whole", "Two", "Second answer"]


async def test_a_reply_that_was_logged_but_not_shown_is_delivered_after_the_next_start(talk: Talk) -> None:
    ada = talk.private()
    hold = Hold()
    talk.vllm.script(Reply("Written", hold, " down"))
    ada.send("Hello")
    await hold.reached.wait()
    talk.server.fail(method="sendMessage", status=502, times=1000)
    hold.release.set()
    await eventually(lambda: len(logged(talk, ada)) == 2)
    await eventually(lambda: any(call.status == 502 for call in talk.server.calls_of("sendMessage")))
    talk.service.end()
    await talk.stop()
    talk.server.faults.clear()
    await talk.start()
    await ada.wait_for(lambda: ada.last and ada.last.text == "Written down")
    assert asked(talk) == ["Hello"]
    assert [m.text for m in ada.replies].count("Written down") == 1
