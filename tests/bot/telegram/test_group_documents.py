"""The documents of a group: its admins hand them over and delete them, and everybody there is answered from them."""

from __future__ import annotations

import pytest

from bot.errors import ChatError
from bot.texts import texts_for
from settings import Access as AccessSettings
from store import people
from store.catalogue import owners
from tests.bot.telegram.conftest import Talk
from tests.fakes.library import FakeLibrary
from tests.fakes.vllm import eventually
from tests.telegram_server import Chat, Shown, User

EN = texts_for("en")
LINES = b"One line.\nAnother line.\n"
TEAM = owners.group("telegram", "-1001")
MENTION = "@familiar_bot"
FOR_ADMINS = EN.problem(ChatError("group_documents_admins"))
ADDED = EN.t("files.added_to_group", name="rules.txt", count=2)


@pytest.fixture
def library() -> FakeLibrary:
    return FakeLibrary()


@pytest.fixture
def team(talk: Talk, ada: User, bo: User) -> Chat:
    """The bot is told of everything that is written there."""
    talk.server.privacy_mode = False
    return talk.server.group(-1001, "Team", [ada, bo], admins=[ada], forum=True)


def said(chat: Chat) -> list[str]:
    return [message.text for message in chat.replies]


async def shows(chat: Chat, text: str, times: int = 1) -> None:
    await chat.wait_for(lambda: said(chat).count(text) == times)


def names(library: FakeLibrary, owner: str) -> list[str]:
    return [held.document.name for held in library.held.values() if held.owner == owner]


def buttons(shown: Shown) -> list[str]:
    return [button.text for row in shown.keyboard for button in row]


def asked(talk: Talk) -> list[str]:
    return [request.body["messages"][-1]["content"] for request in talk.vllm.chats]


async def test_an_admin_adds_a_document_by_mentioning_the_bot(
    talk: Talk, library: FakeLibrary, team: Chat, ada: User
) -> None:
    sent = team.document("rules.txt", LINES, caption=MENTION, sender=ada, thread=7)
    await shows(team, ADDED)
    (held,) = library.held.values()
    person = people.with_identity(talk.store, "telegram", "101")
    assert person is not None
    assert (held.owner, held.added_by, held.data) == (TEAM, person.id, LINES)
    assert (team.replies[0].thread, team.replies[0].reply_to) == (7, sent.id)
    assert asked(talk) == []
    team.document("rules.txt", LINES, caption=MENTION, sender=ada)
    await shows(team, EN.t("files.known_to_group", name="rules.txt", count=2))
    assert len(library.held) == 1


async def test_an_admin_adds_a_document_by_answering_the_bot(library: FakeLibrary, team: Chat, ada: User) -> None:
    team.command("/docs", sender=ada)
    await shows(team, EN.t("files.none_in_group"))
    team.document("rules.txt", LINES, sender=ada, reply_to=team.replies[0])
    await shows(team, ADDED)
    assert names(library, TEAM) == ["rules.txt"]


async def test_what_an_admin_asks_under_a_document_is_answered(
    talk: Talk, library: FakeLibrary, team: Chat, ada: User
) -> None:
    team.document("rules.txt", LINES, caption=f"{MENTION} what is it about?", sender=ada)
    await shows(team, "Hello there!")
    assert asked(talk) == ["what is it about?"]
    assert said(team) == [ADDED, "Hello there!"]


async def test_somebody_else_is_told_and_nothing_is_fetched(
    talk: Talk, library: FakeLibrary, team: Chat, bo: User
) -> None:
    team.document("rules.txt", LINES, caption=f"{MENTION} what is it about?", sender=bo)
    await shows(team, FOR_ADMINS)
    assert library.held == {}
    assert talk.server.calls_of("getFile") == []
    assert asked(talk) == []


@pytest.mark.parametrize("access", [AccessSettings(mode="open", admins=("telegram:102",), messages_per_minute=0)])
async def test_who_runs_the_bot_is_no_admin_of_the_group(library: FakeLibrary, team: Chat, bo: User) -> None:
    team.document("rules.txt", LINES, caption=MENTION, sender=bo)
    await shows(team, FOR_ADMINS)
    assert library.held == {}


async def test_an_admin_who_cannot_be_told_from_others_adds_nothing(
    talk: Talk, library: FakeLibrary, team: Chat, ada: User
) -> None:
    talk.server.fail(method="getChatMember", status=400)
    team.document("rules.txt", LINES, caption=MENTION, sender=ada)
    await shows(team, FOR_ADMINS)
    assert library.held == {}


async def test_a_document_that_is_not_for_the_bot_is_left_alone(
    talk: Talk, library: FakeLibrary, team: Chat, ada: User, bo: User
) -> None:
    theirs = team.send("Here it comes", sender=bo)
    team.document("rules.txt", LINES, sender=ada)
    team.document("rules.txt", LINES, caption="Our rules", sender=ada, reply_to=theirs)
    team.document("rules.txt", LINES, caption="@other_bot", sender=ada)
    team.command("/docs", sender=ada)
    await shows(team, EN.t("files.none_in_group"))
    await eventually(lambda: talk.channel.inbox.waiting == 0)
    assert len(team.replies) == 1
    assert library.paths == []


async def test_personal_documents_and_those_of_groups_are_listed_apart(
    talk: Talk, library: FakeLibrary, team: Chat, ada: User
) -> None:
    private, other = talk.server.private(ada), talk.server.group(-1002, "Others", [ada], admins=[ada])
    private.document("diary.txt", LINES)
    await private.wait_for(lambda: len(library.held) == 1)
    team.document("rules.txt", LINES, caption=MENTION, sender=ada, thread=7)
    await team.wait_for(lambda: len(library.held) == 2)
    team.command("/docs", sender=ada)
    await team.wait_for(lambda: said(team)[-1].startswith(EN.t("files.list_title_in_group")))
    assert ("rules.txt" in said(team)[-1], "diary.txt" in said(team)[-1]) == (True, False)
    private.command("/docs")
    await private.wait_for(lambda: said(private)[-1].startswith(EN.t("files.list_title")))
    assert ("rules.txt" in said(private)[-1], "diary.txt" in said(private)[-1]) == (False, True)
    other.command("/docs", sender=ada)
    await shows(other, EN.t("files.none_in_group"))


async def test_everybody_sees_the_groups_documents_and_admins_delete_them(
    library: FakeLibrary, team: Chat, ada: User, bo: User
) -> None:
    for name in ("one.txt", "two.txt", "three.txt"):
        library.keep(TEAM, name, "text/plain", name.encode())
    team.command("/docs", sender=bo)
    await team.wait_for(lambda: said(team)[-1].startswith(EN.t("files.list_title_in_group")))
    listed = team.replies[-1]
    delete = EN.t("files.button_delete", name="two.txt")
    team.press(listed, delete, sender=bo)
    await team.wait_for(lambda: team.answers == [(FOR_ADMINS, True)])
    team.command("/docs delete 1", sender=bo)
    await shows(team, FOR_ADMINS)
    assert names(library, TEAM) == ["one.txt", "two.txt", "three.txt"]

    team.press(listed, delete, sender=ada)
    await team.wait_for(lambda: len(buttons(listed)) == 2)
    team.command("/docs delete 1", sender=ada)
    await shows(team, EN.t("files.deleted"))
    assert names(library, TEAM) == ["three.txt"]


async def test_a_document_of_somebody_is_not_deleted_from_a_group_nor_one_of_a_group_in_private(
    talk: Talk, library: FakeLibrary, team: Chat, ada: User
) -> None:
    private = talk.server.private(ada)
    private.document("diary.txt", LINES)
    await private.wait_for(lambda: len(library.held) == 1)
    library.keep(TEAM, "rules.txt", "text/plain", b"Rules")
    team.command("/docs delete 1", sender=ada)
    await shows(team, EN.problem(ChatError("no_such_document")))
    private.command("/docs delete 2")
    await shows(private, EN.problem(ChatError("no_such_document")))
    assert len(library.held) == 2


async def test_a_button_of_a_list_that_does_not_stand_there_deletes_nothing(
    talk: Talk, library: FakeLibrary, team: Chat, ada: User
) -> None:
    library.keep(TEAM, "rules.txt", "text/plain", b"Rules")
    team.command("/help", sender=ada)
    await team.wait_for(lambda: team.replies)
    talk.server.pressed(team, team.replies[0], "undoc:1:0", ada)
    await team.wait_for(lambda: team.answers == [(EN.problem(ChatError("button_gone")), True)])
    assert names(library, TEAM) == ["rules.txt"]


@pytest.mark.parametrize("telegram", [{"shutdown_grace_s": 0.0}])
async def test_a_document_that_a_restart_interrupted_becomes_the_groups_afterwards(
    talk: Talk, library: FakeLibrary, team: Chat, ada: User
) -> None:
    library.go_on.clear()
    team.document("rules.txt", LINES, caption=MENTION, sender=ada)
    await library.reached.wait()
    await talk.stop()
    assert library.held == {}
    library.go_on.set()
    await talk.start()
    await shows(team, ADDED)
    assert names(library, TEAM) == ["rules.txt"]
    assert len(team.replies) == 1


async def test_only_who_sent_a_document_stops_it(library: FakeLibrary, team: Chat, ada: User, bo: User) -> None:
    library.go_on.clear()
    team.document("rules.txt", LINES, caption=MENTION, sender=ada)
    await library.reached.wait()
    team.press(team.replies[-1], EN.t("telegram.button_stop"), sender=bo)
    await team.wait_for(lambda: team.answers == [(EN.problem(ChatError("not_yours")), True)])
    team.press(team.replies[-1], EN.t("telegram.button_stop"), sender=ada)
    await shows(team, EN.t("files.stopped", name="rules.txt"))
    assert library.held == {}
