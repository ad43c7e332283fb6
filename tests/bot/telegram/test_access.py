"""Who may talk on Telegram, as whom, and how much."""

from __future__ import annotations

import re
from datetime import date
from typing import Any

import pytest
from sqlmodel import select

from bot import pairing
from settings import Access as AccessSettings
from store import access as standings
from store import people, usage
from store.tables import Conversation, Inbox, Person
from tests.bot.telegram.conftest import Talk
from tests.fakes.vllm import Hold, Reply, eventually
from tests.telegram_server import Chat, Shown

PAIRING = AccessSettings(mode="pairing", messages_per_minute=0)
SECRET = "quokka"


@pytest.fixture
def ada(talk: Talk) -> Chat:
    return talk.private()


async def said(chat: Chat, text: str) -> Shown:
    await chat.wait_for(lambda: text in chat.last.text)  # type: ignore[union-attr]
    assert chat.last is not None
    return chat.last


async def said_times(chat: Chat, text: str, times: int) -> None:
    await chat.wait_for(lambda: sum(text in message.text for message in chat.replies) == times)


async def all_is_handled(talk: Talk) -> None:
    await eventually(lambda: talk.channel.inbox.waiting == 0 and not talk.server.pending)


def payloads(talk: Talk) -> list[dict[str, Any]]:
    """What the inbox still holds of each update."""
    with talk.store.reading() as session:
        return [row.payload for row in session.exec(select(Inbox))]


def code_in(shown: Shown) -> str:
    found = re.search(r"\b[A-Z0-9]{4}-[A-Z0-9]{4}\b", shown.text)
    assert found, shown.text
    return found[0]


# Strangers


@pytest.mark.parametrize("access", [PAIRING])
async def test_a_stranger_gets_a_code_and_is_answered_once_the_operator_has_let_them_in(talk: Talk, ada: Chat) -> None:
    ada.send("Hello")
    code = code_in(await said(ada, "familiar users approve"))
    ada.command("/start")
    await said_times(ada, code, 2)  # the same one
    assert not talk.vllm.chats
    pairing.approve(talk.store, code.lower().replace("-", " "))
    ada.send("Hello again")
    await said(ada, "Hello there!")
    assert talk.prompt() == ["Hello again"]


@pytest.mark.parametrize("access", [PAIRING, AccessSettings(mode="allowlist")])
async def test_nothing_that_a_stranger_writes_is_kept(talk: Talk, ada: Chat) -> None:
    ada.send(f"I like a {SECRET}")
    ada.command(f"/edit {SECRET}")
    ada.document(f"{SECRET}.txt", SECRET.encode())
    await ada.wait_for(lambda: len(ada.replies) == 3)
    await eventually(lambda: payloads(talk) == [{}, {}, {}])
    with talk.store.reading() as session:
        assert list(session.exec(select(Person))) == []
        assert list(session.exec(select(Conversation))) == []
    assert not talk.vllm.chats
    assert not talk.server.calls_of("getFile")


@pytest.mark.parametrize(
    ("access", "answered"),
    [
        (AccessSettings(mode="open", messages_per_minute=0), True),
        (AccessSettings(mode="allowlist"), False),
        (AccessSettings(mode="allowlist", allow=("telegram:101",)), True),
        (AccessSettings(mode="allowlist", allow=("terminal:101", "telegram:1010")), False),
        (AccessSettings(mode="allowlist", admins=("telegram:101",)), True),
        (AccessSettings(mode="pairing", allow=("telegram:101",)), True),
    ],
)
async def test_who_is_answered_depends_on_the_mode_and_the_lists(talk: Talk, ada: Chat, answered: bool) -> None:
    ada.send("Hello")
    await said(ada, "Hello there!" if answered else "on my operator's list")
    assert len(talk.vllm.chats) == answered


@pytest.mark.parametrize("access", [PAIRING])
async def test_in_a_group_a_stranger_is_sent_to_the_private_chat_and_gets_no_code_there(talk: Talk, ada: Chat) -> None:
    assert ada.person is not None
    group = talk.server.group(-1001, "Team", [ada.person], bot_admin=True)
    group.send("@familiar_bot Hello", sender=ada.person)
    shown = await said(group, "Write to me, Familiar, in a private chat first")
    assert not re.search(r"[A-Z0-9]{4}-[A-Z0-9]{4}", shown.text)
    assert not talk.vllm.chats


# Who is shut out


async def test_who_is_shut_out_while_the_bot_runs_is_not_answered_any_more(talk: Talk, ada: Chat) -> None:
    ada.send("Hello")
    await said(ada, "Hello there!")
    reply = ada.replies[0]
    pairing.block(talk.store, "telegram:101")
    ada.send("Hello?")
    await said(ada, "I do not talk with you")
    ada.press(reply, "🔁")
    await ada.wait_for(lambda: any("I do not talk with you" in text for text, _ in ada.answers))
    assert len(talk.vllm.chats) == 1
    pairing.unblock(talk.store, "telegram:101")
    ada.send("And now?")
    await said(ada, "Hello there!")


async def test_a_block_outlives_forgetting(talk: Talk, ada: Chat) -> None:
    ada.send("Hello")
    await said(ada, "Hello there!")
    pairing.block(talk.store, "telegram:101")
    person = people.with_identity(talk.store, "telegram", "101")
    assert person is not None
    people.forget(talk.store, person.id or 0)
    ada.send("Hello?")
    await said(ada, "I do not talk with you")


async def test_a_reaction_of_somebody_who_is_shut_out_counts_for_nothing_and_is_not_remarked(
    talk: Talk, ada: Chat
) -> None:
    ada.send("Hello")
    await said(ada, "Hello there!")
    pairing.block(talk.store, "telegram:101")
    ada.react(ada.replies[0], ["👎"])
    await all_is_handled(talk)
    assert len(ada.replies) == 1
    assert "✓" not in str(ada.replies[0].keyboard)


@pytest.mark.parametrize("access", [AccessSettings(mode="open", admins=("telegram:101",))])
async def test_admins_of_the_settings_cannot_be_shut_out(talk: Talk, ada: Chat) -> None:
    standings.decide(talk.store, "telegram", "101", state="blocked")
    ada.send("Hello")
    await said(ada, "Hello there!")


@pytest.mark.parametrize(
    "command", ["/users", "/approve AAAA-AAAA", "/block 101", "/unblock 101", "/broadcast hi", "/adapter"]
)
async def test_commands_for_admins_are_refused_to_others(talk: Talk, ada: Chat, command: str) -> None:
    ada.command(command)
    await said(ada, "for the people who run this bot")


async def test_buttons_for_admins_are_refused_to_others(talk: Talk, ada: Chat) -> None:
    shown = ada.send("Hello")
    assert ada.person is not None
    for data in ("approve:AAAA-AAAA", "broadcast:send", "adapter:x@2"):
        talk.server.pressed(ada, shown, data, ada.person)
    await ada.wait_for(
        lambda: [text for text, _ in ada.answers] == ["This command is for the people who run this bot."] * 3
    )


async def test_what_the_bot_is_sent_by_another_bot_is_passed_over(talk: Talk, ada: Chat) -> None:
    message: dict[str, Any] = {"message_id": 77, "date": 1, "text": "Hello", "chat": ada.json()}
    talk.server.push({"message": {**message, "from": {"id": 999, "is_bot": True, "first_name": "Bot"}}})
    talk.server.push({"message": {**message, "sender_chat": {"id": -100, "type": "channel", "title": "News"}}})
    ada.send("And me?")
    await said(ada, "Hello there!")
    assert talk.prompt() == ["And me?"]


# How much


@pytest.mark.parametrize("access", [AccessSettings(mode="open", messages_per_minute=2)])
async def test_more_messages_than_a_minute_allows_are_refused_with_the_time_to_wait(talk: Talk, ada: Chat) -> None:
    bo = talk.private(102, "Bo")
    for number in (1, 2):
        ada.send(f"Message {number}")
        await said_times(ada, "Hello there!", number)
    ada.send("One too many")
    shown = await said(ada, "messages per minute: 2")
    assert re.search(r"again in \d+ s", shown.text)
    ada.command("/retry")
    await said_times(ada, "messages per minute: 2", 2)
    ada.command("/help")  # costs nothing
    await said(ada, "/privacy")
    bo.send("Hello")
    await said(bo, "Hello there!")
    assert len(talk.vllm.chats) == 3
    assert [message.content for message in talk.branch(ada)][::2] == ["Message 1", "Message 2"]


@pytest.mark.parametrize("access", [AccessSettings(mode="open", messages_per_minute=0, tokens_per_day=10)])
async def test_after_the_tokens_of_a_day_the_person_is_told_when_there_is_more(talk: Talk, ada: Chat) -> None:
    ada.send("One two three four five")
    await said(ada, "Hello there!")
    await all_is_handled(talk)
    ada.send("Hello again")
    shown = await said(ada, "10 tokens")
    assert re.search(r"at most \d+ h", shown.text)
    assert usage.used(talk.store, "telegram", "101", date.today()).messages == 1
    await talk.restart()
    ada.send("And after a restart?")
    await said_times(ada, "10 tokens", 2)
    assert len(talk.vllm.chats) == 1


@pytest.mark.parametrize("access", [AccessSettings(mode="open", tokens_per_day=10)])
async def test_forgetting_everything_does_not_refill_a_quota(talk: Talk, ada: Chat) -> None:
    ada.send("One two three four five")
    await said(ada, "Hello there!")
    ada.command("/forget all")
    asked = await said(ada, "Delete everything")
    ada.press(asked, "Everything about me")
    await ada.wait_for(lambda: "is deleted" in asked.text)
    ada.send("Hello again")
    await said(ada, "10 tokens")


@pytest.mark.parametrize(
    "access", [AccessSettings(mode="open", messages_per_minute=1, tokens_per_day=1, admins=("telegram:101",))]
)
async def test_admins_have_no_quota(talk: Talk, ada: Chat) -> None:
    for number in (1, 2, 3):
        ada.send(f"Message {number}")
        await said_times(ada, "Hello there!", number)


@pytest.mark.parametrize("access", [AccessSettings(mode="open", tokens_per_day=10)])
async def test_what_a_stopped_reply_took_counts(talk: Talk, ada: Chat) -> None:
    hold = Hold()
    talk.vllm.script(Reply("One", " two", " three", hold))
    ada.send("Count to a thousand")
    await ada.wait_for(lambda: ada.draft is not None and "three" in ada.draft.text)
    ada.command("/stop")
    await said(ada, "stopped")
    await all_is_handled(talk)
    ada.send("Hello again")
    await said(ada, "10 tokens")


# Approval while something is under way


@pytest.mark.parametrize("access", [PAIRING])
async def test_a_message_that_waits_while_its_writer_is_let_in_is_answered(
    talk: Talk, ada: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is judged when its time comes, not when it arrived."""
    ada.send("Hello")
    code = code_in(await said(ada, "familiar users approve"))
    await talk.stop()
    ada.send("Are you there?")
    pairing.approve(talk.store, code)
    await talk.start()
    await said(ada, "Hello there!")
    assert talk.prompt() == ["Are you there?"]
