"""What the people who run the bot can do about those who talk with it, as both sides see it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.texts import texts_for
from engine.client import EngineClient
from engine.errors import EngineFailed
from engine.process import LocalEngine
from engine.state import Address, State
from settings import Access as AccessSettings
from settings import Data, Settings
from store import access as decisions
from store import adapters, conversations, lineage, people
from tests.bot.telegram.conftest import Talk
from tests.fakes.vllm import FakeConnection, FakeVllm, Hold, Reply, eventually
from tests.telegram_server import Chat

OLGA = 1  # who runs the bot
ADDRESS = Address(url="http://127.0.0.1:1", api_key="", model="smol", max_model_len=4096)


@pytest.fixture
def access() -> AccessSettings:
    return AccessSettings(mode="pairing", admins=(f"telegram:{OLGA}",), messages_per_minute=0)


@pytest.fixture
def olga(talk: Talk) -> Chat:
    return talk.private(OLGA, "Olga")


def code_of(talk: Talk, person: int) -> str:
    row = decisions.standing(talk.store, "telegram", str(person))
    return row.code if row else "(none)"


def state_of(talk: Talk, person: int) -> str:
    row = decisions.standing(talk.store, "telegram", str(person))
    return row.state if row else "(none)"


async def said(chat: Chat, words: str) -> None:
    """Wait until the bot's newest message here holds these words."""
    await chat.wait_for(lambda: words in chat.last.text)


async def ask_to_be_let_in(talk: Talk, id: int, name: str, language: str = "en") -> Chat:
    chat = talk.private(id, name, language)
    chat.send("hello?")
    await chat.wait_for(lambda: code_of(talk, id) in chat.last.text)
    return chat


async def let_in(talk: Talk, id: int, name: str, language: str = "en") -> Chat:
    """Somebody who may talk, and has said one thing."""
    decisions.decide(talk.store, "telegram", str(id), state="allowed", name=name)
    chat = talk.private(id, name, language)
    chat.send("hi")
    await said(chat, "Hello there!")
    return chat


# Letting people in


async def test_a_stranger_who_is_let_in_by_their_code_is_told_so_in_their_language_and_answered(
    talk: Talk, olga: Chat
) -> None:
    bo = await ask_to_be_let_in(talk, 2, "Bo", "zh-CN")
    olga.send(f"/approve {code_of(talk, 2).lower().replace('-', ' ')}")
    await said(olga, "Bo (2) is let in and has been told so.")
    await said(bo, texts_for("zh").t("access.approved"))
    bo.send("你好")
    await said(bo, "Hello there!")


@pytest.mark.parametrize("given", ["telegram:2", "2", " 2", "２"])
async def test_somebody_can_be_let_in_by_their_number(talk: Talk, olga: Chat, given: str) -> None:
    await ask_to_be_let_in(talk, 2, "Bo")
    olga.send(f"/approve {given}")
    await said(olga, "Bo (2) is let in")


async def test_a_button_in_the_list_lets_somebody_in_and_goes(talk: Talk, olga: Chat) -> None:
    bo, cy = await ask_to_be_let_in(talk, 2, "Bo"), await ask_to_be_let_in(talk, 3, "Cy")
    olga.send("/users")
    await said(olga, "Waiting to be let in: 2")
    listed = olga.last
    assert f"Bo · {code_of(talk, 2)}" in listed.text
    olga.press(listed, "✓ Let in Bo")
    await olga.wait_for(lambda: [row[0].text for row in listed.keyboard] == ["✓ Let in Cy"])
    await said(bo, "You have been let in.")
    olga.press(listed, "✓ Let in Cy")
    await olga.wait_for(lambda: not listed.keyboard)
    await said(cy, "You have been let in.")
    assert "Bo (2) is let in" in olga.answers[0][0]


async def test_a_button_that_another_admin_was_faster_with_says_so(talk: Talk, olga: Chat) -> None:
    await ask_to_be_let_in(talk, 2, "Bo")
    olga.send("/users")
    await said(olga, "Waiting to be let in: 1")
    decisions.decide(talk.store, "telegram", "2", state="blocked")
    olga.press(olga.last, "✓ Let in Bo")
    await eventually(lambda: bool(olga.answers))
    await said(olga, "Nobody is waiting with the code")
    assert state_of(talk, 2) == "blocked"


async def test_who_is_let_in_as_an_admin_has_the_commands_of_one(talk: Talk, olga: Chat) -> None:
    bo = await ask_to_be_let_in(talk, 2, "Bo")
    olga.send(f"/approve {code_of(talk, 2)} admin")
    await said(bo, "as an admin")
    bo.send("/users")
    await said(bo, "People who have written to me")
    shown = next(
        commands for (scope, _), commands in talk.server.commands.items() if '"chat_id":2' in scope.replace(" ", "")
    )
    assert "approve" in [each["command"] for each in shown]


async def test_who_never_wrote_can_be_let_in_and_it_is_told_that_they_do_not_know(talk: Talk, olga: Chat) -> None:
    olga.send("/approve telegram:77")
    await said(olga, "77 is let in. I could not tell them")
    assert state_of(talk, 77) == "allowed"


async def test_who_blocked_the_bot_meanwhile_is_let_in_all_the_same(talk: Talk, olga: Chat) -> None:
    await ask_to_be_let_in(talk, 2, "Bo")
    talk.server.block(talk.server.users[2])
    olga.send("/approve 2")
    await said(olga, "I could not tell them")


@pytest.mark.parametrize("command", ["approve", "block", "unblock"])
@pytest.mark.parametrize("given", ["@ada", "nobody", "张三", "👍", "telegram:x", "sms:5", "x" * 3000, "a\nb", "0"])
async def test_nonsense_is_refused_in_words_and_changes_nothing(
    talk: Talk, olga: Chat, command: str, given: str
) -> None:
    olga.send(f"/{command} {given}")
    await olga.wait_for(lambda: len(olga.replies) == 1)
    assert "Nobody is waiting" in olga.last.text or "does not say whom you mean" in olga.last.text
    assert decisions.listing(talk.store) == []


@pytest.mark.parametrize("command", ["approve", "block", "unblock"])
async def test_a_command_that_names_nobody_says_how_it_is_used(talk: Talk, olga: Chat, command: str) -> None:
    olga.send(f"/{command}")
    await said(olga, f"It is used like this: /{command} <")


# Shutting people out


async def test_who_is_blocked_gets_no_further_answer_until_that_is_taken_back(talk: Talk, olga: Chat) -> None:
    bo = await let_in(talk, 2, "Bo")
    olga.send("/block 2")
    await said(olga, "Bo (2) is blocked")
    bo.send("still there?")
    await said(bo, "do not talk with you")
    olga.send("/unblock 2")
    await said(olga, "Bo (2) is let in again.")
    bo.send("and now?")
    await said(bo, "Hello there!")


async def test_blocking_ends_the_reply_that_is_being_written(talk: Talk, olga: Chat) -> None:
    bo = await let_in(talk, 2, "Bo")
    talk.vllm.script(Reply("One ", hold := Hold(), "two"))
    bo.send("count")
    await hold.reached.wait()
    olga.send("/block 2")
    await said(olga, "is blocked")
    await bo.wait_for(lambda: "One" in bo.last.text and "(stopped)" in bo.last.text)
    assert len(talk.vllm.aborted) == 1


async def test_the_author_of_a_message_in_a_group_is_blocked_by_answering_it(talk: Talk, olga: Chat) -> None:
    admin, bo = talk.server.users[OLGA], talk.server.user(2, "Bo")
    group = talk.server.group(-1001, "Team", [admin, bo])
    talk.server.privacy_mode = False
    nasty = group.send("@familiar_bot you are stupid", sender=bo)
    group.send("/block", sender=admin, reply_to=nasty)
    await group.wait_for(lambda: "is blocked" in group.last.text)
    assert state_of(talk, 2) == "blocked"


async def test_answering_a_message_of_the_bot_blocks_nobody(talk: Talk, olga: Chat) -> None:
    olga.send("hi")
    await said(olga, "Hello there!")
    olga.send("/block", reply_to=olga.last)
    await said(olga, "It is used like this: /block")


async def test_admins_of_the_settings_cannot_be_blocked(talk: Talk, olga: Chat) -> None:
    decisions.decide(talk.store, "telegram", "2", state="allowed", role="admin")
    bo = talk.private(2, "Bo")
    bo.send(f"/block {OLGA}")
    await said(bo, "is an admin by config.toml")
    olga.send("still here")
    await said(olga, "Hello there!")


async def test_nobody_blocks_themselves(talk: Talk, olga: Chat) -> None:
    decisions.decide(talk.store, "telegram", "2", state="allowed", role="admin")
    bo = talk.private(2, "Bo")
    bo.send("/block telegram:2")
    await said(bo, "You cannot block yourself.")


async def test_who_is_not_blocked_cannot_be_unblocked(talk: Talk, olga: Chat) -> None:
    olga.send("/unblock 5")
    await said(olga, "telegram:5 is not blocked")


# The list


async def test_the_list_shows_everybody_with_what_they_are_and_how_much_they_wrote(talk: Talk, olga: Chat) -> None:
    await let_in(talk, 2, "Bo\nthe   👷 builder")
    decisions.decide(talk.store, "telegram", "3", state="blocked", name="Cy")
    decisions.decide(talk.store, "telegram", "4", state="allowed", role="admin", name="Di")
    people.person_for(talk.store, "terminal", "root", "Root")
    olga.send("/users")
    await said(olga, "People who have written to me: 2")
    lines = olga.last.text.splitlines()
    assert lines[1].startswith("Bo the 👷 builder · 2 · let in · messages: 1 · last on 20")
    assert lines[2:] == [
        "Olga · 1 · admin · no message yet",
        "Di · 4 · admin · no message yet",
        "Cy · 3 · blocked · no message yet",
    ]


async def test_a_long_list_is_cut_and_says_how_much_is_missing(talk: Talk, olga: Chat) -> None:
    for number in range(100, 140):
        people.person_for(talk.store, "telegram", str(number), f"P{number}")
        decisions.request(talk.store, "telegram", str(number + 100), f"Q{number}", f"CODE-{number}")
    olga.send("/users")
    await olga.wait_for(lambda: "Not shown here: 21" in "\n".join(each.text for each in olga.replies))
    assert len(olga.last.keyboard) == 30
    assert "familiar users list" in olga.last.text


# Who may do all this


@pytest.mark.parametrize(
    "text",
    ["/users", "/approve 3", "/block 3", "/unblock 3", "/broadcast hi", "/adapter", "/adapter rollback"],
)
async def test_others_are_told_that_it_is_not_for_them(talk: Talk, olga: Chat, text: str) -> None:
    bo = await let_in(talk, 2, "Bo")
    bo.send(text)
    await said(bo, "This command is for the people who run this bot.")


@pytest.mark.parametrize("data", ["approve:telegram:3", "broadcast:send", "adapter:rollback"])
async def test_a_forged_press_of_an_admins_button_does_nothing(talk: Talk, olga: Chat, data: str) -> None:
    bo = await let_in(talk, 2, "Bo")
    talk.server.pressed(bo, bo.last, data, talk.server.users[2])
    await eventually(lambda: bool(bo.answers))
    assert bo.answers == [("This command is for the people who run this bot.", True)]
    assert decisions.standing(talk.store, "telegram", "3") is None


@pytest.mark.parametrize("text", ["/users", "/broadcast hi"])
async def test_lists_of_people_are_not_shown_in_groups(talk: Talk, olga: Chat, text: str) -> None:
    admin = talk.server.users[OLGA]
    group = talk.server.group(-1001, "Team", [admin])
    group.send(text, sender=admin)
    await group.wait_for(lambda: "write it to me in our private chat" in group.last.text)


# The state of the house


async def test_an_admin_also_sees_what_there_is_of_everybody(talk: Talk, olga: Chat) -> None:
    bo = await let_in(talk, 2, "Bo")
    bo.send("again")
    await bo.wait_for(lambda: len(bo.replies) == 2)
    bo.send("/stats")
    await said(bo, "messages from you: 2")
    assert "Everybody" not in bo.last.text
    olga.send("/stats")
    await said(olga, "Everybody together:")
    assert "people: 2" in olga.last.text
    assert "messages" in olga.last.text
    assert "replies being written: 0, updates waiting: 0" in olga.last.text
    assert "The engine is ready: base" in olga.last.text


async def test_adapters_that_learned_from_what_was_deleted_are_named(talk: Talk, olga: Chat) -> None:
    bo = await let_in(talk, 2, "Bo")
    person = people.with_identity(talk.store, "telegram", "2")
    assert person is not None
    assert person.id is not None
    adapter = adapters.register(talk.store, "familiar", 7, "familiar/7", "base", "fingerprint", 4)
    assert adapter.id is not None
    lineage.trained_on(talk.store, adapter.id, [each.id for each in conversations.listing(talk.store, person.id)])
    people.forget(talk.store, person.id)
    olga.send("/stats")
    await said(olga, "familiar@7 learned from conversations that were deleted since: 1")
    assert bo.last is not None


class TestWithAnEngineThatIsDown:
    @pytest.fixture
    def connection(self, vllm: FakeVllm) -> FakeConnection:
        return FakeConnection(vllm.address, failure=EngineFailed("There is no more memory."))

    async def test_that_is_told_and_nothing_else_is_missing(self, talk: Talk, olga: Chat) -> None:
        olga.send("/stats")
        await said(olga, "Everybody together:")
        assert "There is no more memory." in olga.last.text


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (State(phase="stopped", since=0), "The engine is asleep; the next message wakes it."),
        (State(phase="loading", since=0), "Loading the model…"),
        (State(phase="failed", since=0, detail="out of memory"), "The engine is not running. out of memory"),
        (State(phase="ready", since=0, address=ADDRESS), "The engine is ready: smol"),
    ],
    ids=lambda given: given.phase if isinstance(given, State) else "",
)
async def test_an_engine_of_our_own_is_not_woken_to_be_told_about(
    talk: Talk, olga: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: State, told: str
) -> None:
    engine = LocalEngine(Settings(data=Data(folder=tmp_path)))
    monkeypatch.setattr(engine, "state", lambda: state)
    monkeypatch.setattr(EngineClient, "connection", engine)
    olga.send("/stats")
    await said(olga, told)
    assert engine.files.supervisor() is None
