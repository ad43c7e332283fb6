"""Documents as people send them in private: taken in, listed, deleted."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, get_args

import pytest

from bot.errors import ChatError
from bot.library import DocumentRefused, Refusal
from bot.texts import LANGUAGES, texts_for
from settings import Access as AccessSettings
from store import people
from store.catalogue import owners
from tests.bot.telegram.conftest import Talk
from tests.fakes.library import DAMAGED, ENCRYPTED, FakeLibrary
from tests.fakes.vllm import Hold, Reply
from tests.telegram_server import Chat

EN = texts_for("en")
LINES = b"One line.\nAnother line.\n\xe4\xb8\xad\xe6\x96\x87\n"
MB = 1024 * 1024


@pytest.fixture
def enabled() -> bool:
    """Whether there is a library."""
    return True


@pytest.fixture
def library(enabled: bool) -> FakeLibrary | None:
    return FakeLibrary() if enabled else None


@pytest.fixture(autouse=True)
def downloads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where files lie while they are handed over."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


unequipped = pytest.mark.parametrize("enabled", [False])


def asked(talk: Talk) -> list[str]:
    return [request.body["messages"][-1]["content"] for request in talk.vllm.chats]


def person_of(talk: Talk, chat: Chat) -> str:
    """Whose documents are those of this private chat."""
    person = people.with_identity(talk.store, "telegram", str(chat.id))
    assert person is not None
    assert person.id is not None
    return owners.person(person.id)


def said(chat: Chat) -> list[str]:
    return [message.text for message in chat.replies]


def names_on_buttons(chat: Chat) -> list[str]:
    return [button.text for row in chat.replies[-1].keyboard for button in row]


def left_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def push(chat: Chat, **content: Any) -> None:
    """A message of a kind that the server has no method for."""
    assert chat.person is not None
    message = {"message_id": chat.next_id(), "date": 1_700_000_000, "chat": chat.json(), "from": chat.person.json()}
    chat.server.push({"message": message | content})


async def shows(chat: Chat, text: str, times: int = 1) -> None:
    await chat.wait_for(lambda: said(chat).count(text) == times)


async def test_a_document_becomes_part_of_the_persons_knowledge(
    talk: Talk, library: FakeLibrary, downloads: Path
) -> None:
    ada = talk.private()
    ada.document("notes.txt", LINES, mime="text/plain")
    await shows(ada, EN.t("files.added", name="notes.txt", count=3))
    (held,) = library.held.values()
    assert (held.owner, owners.person(held.added_by)) == (person_of(talk, ada), person_of(talk, ada))
    assert (held.document.name, held.mime, held.data) == ("notes.txt", "text/plain", LINES)
    assert left_in(downloads) == []


async def test_one_message_tells_how_far_it_is_and_then_what_came_of_it(talk: Talk, library: FakeLibrary) -> None:
    library.go_on.clear()
    ada = talk.private()
    ada.document("notes.txt", LINES)
    await shows(ada, EN.t("files.indexing", name="notes.txt", percent=75))
    assert names_on_buttons(ada) == [EN.t("telegram.button_stop")]
    library.go_on.set()
    await shows(ada, EN.t("files.added", name="notes.txt", count=3))
    (message,) = ada.replies
    assert message.edits[0] == EN.t("files.fetching", name="notes.txt")
    assert message.keyboard == []


@pytest.mark.parametrize("telegram", [{"edit_interval_s": 1000}])
async def test_progress_is_told_at_a_pace_and_the_outcome_at_once(talk: Talk, library: FakeLibrary) -> None:
    library.steps = 1
    library.go_on.clear()
    ada, bo = talk.private(), talk.private(102, "Bo")
    ada.document("notes.txt", LINES)
    await shows(ada, EN.t("files.reading", name="notes.txt", percent=0))
    assert library.progress is not None
    library.progress(0.5, "indexing")
    bo.send("Hi")  # time enough for whoever does not keep the pace
    await shows(bo, "Hello there!")
    library.go_on.set()
    await shows(ada, EN.t("files.added", name="notes.txt", count=3))
    texts = [EN.t("files.fetching", name="notes.txt"), EN.t("files.reading", name="notes.txt", percent=0)]
    assert ada.replies[0].edits == texts


async def test_progress_is_shown_later_when_telegram_asks_for_a_pause(talk: Talk, library: FakeLibrary) -> None:
    library.go_on.clear()
    flood = talk.server.flood(1, method="editMessageText")
    ada = talk.private()
    ada.document("notes.txt", LINES)
    await shows(ada, EN.t("files.indexing", name="notes.txt", percent=75))
    assert flood.hits == 1
    library.go_on.set()
    await shows(ada, EN.t("files.added", name="notes.txt", count=3))
    assert len(ada.replies) == 1


async def test_what_was_written_under_a_document_is_answered_once_it_is_taken_in(
    talk: Talk, library: FakeLibrary
) -> None:
    library.go_on.clear()
    ada = talk.private()
    ada.document("notes.txt", LINES, caption="What is it about?")
    await library.reached.wait()
    assert asked(talk) == []
    library.go_on.set()
    await shows(ada, "Hello there!")
    assert asked(talk) == ["What is it about?"]
    assert said(ada) == [EN.t("files.added", name="notes.txt", count=3), "Hello there!"]


async def test_the_same_document_again_changes_nothing(talk: Talk, library: FakeLibrary) -> None:
    ada, bo = talk.private(), talk.private(102, "Bo")
    ada.document("notes.txt", LINES)
    ada.document("copy.txt", LINES)
    await shows(ada, EN.t("files.known", name="copy.txt", count=3))
    assert len(library.held) == 1
    bo.document("notes.txt", LINES)
    await shows(bo, EN.t("files.added", name="notes.txt", count=3))
    assert len(library.held) == 2


@pytest.mark.parametrize("telegram", [{"shutdown_grace_s": 0.0}])
async def test_a_document_that_a_restart_interrupted_is_taken_in_afterwards_in_the_same_message(
    talk: Talk, library: FakeLibrary, downloads: Path
) -> None:
    library.go_on.clear()
    ada = talk.private()
    ada.document("notes.txt", LINES, caption="What is it about?")
    await library.reached.wait()
    await talk.stop()
    assert library.held == {}
    assert left_in(downloads) == []
    library.go_on.set()
    await talk.start()
    await shows(ada, "Hello there!")
    assert said(ada) == [EN.t("files.added", name="notes.txt", count=3), "Hello there!"]
    assert asked(talk) == ["What is it about?"]


@pytest.mark.parametrize("telegram", [{"shutdown_grace_s": 0.0}])
async def test_a_document_is_not_taken_in_again_for_a_question_that_a_restart_interrupted(
    talk: Talk, library: FakeLibrary
) -> None:
    hold = Hold()
    talk.vllm.script(Reply("Notes", hold))
    ada = talk.private()
    ada.document("notes.txt", LINES, caption="What is it about?")
    await hold.reached.wait()
    await talk.stop()
    await talk.start()
    await shows(ada, "Hello there!")
    assert len(library.paths) == 1
    assert asked(talk) == ["What is it about?", "What is it about?"]


@pytest.mark.parametrize("how", ["command", "button"])
async def test_taking_in_can_be_stopped(talk: Talk, library: FakeLibrary, downloads: Path, how: str) -> None:
    library.go_on.clear()
    ada = talk.private()
    ada.document("notes.txt", LINES, caption="What is it about?")
    await library.reached.wait()
    if how == "command":
        ada.command("/stop")
    else:
        ada.press(ada.replies[-1], EN.t("telegram.button_stop"))
    await shows(ada, EN.t("files.stopped", name="notes.txt"))
    assert library.held == {}
    assert asked(talk) == []
    assert left_in(downloads) == []


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("secret.pdf", ENCRYPTED, "document_encrypted"),
        ("cut.pdf", DAMAGED, "document_damaged"),
        ("empty.txt", b" \n", "document_empty"),
        ("nothing.txt", b"", "document_empty"),
        ("music.xyz", b"\0\1\2", "document_unknown_type"),
        ("no suffix", b"\0\1\2", "document_unknown_type"),
    ],
)
async def test_a_document_that_cannot_be_taken_in_is_told_in_a_sentence(
    talk: Talk, library: FakeLibrary, downloads: Path, name: str, data: bytes, why: Refusal
) -> None:
    ada = talk.private()
    ada.document(name, data, caption="What is it about?")
    await shows(ada, EN.problem(DocumentRefused(why, name, reason="")))
    assert len(ada.replies) == 1
    assert asked(talk) == []
    assert left_in(downloads) == []


async def test_a_document_of_more_than_twenty_megabytes_is_not_fetched(talk: Talk, library: FakeLibrary) -> None:
    ada = talk.private()
    ada.document("big.pdf", b"x", size=20 * MB + 1)
    await shows(ada, EN.problem(ChatError("file_too_big", limit=20)))
    assert talk.server.calls_of("getFile") == []
    ada.document("just.txt", LINES, size=20 * MB)
    await shows(ada, EN.t("files.added", name="just.txt", count=3))


async def test_a_document_whose_size_only_telegram_knows_is_told_to_be_too_big(
    talk: Talk, library: FakeLibrary
) -> None:
    ada = talk.private()
    stored = talk.server.files.store("big.pdf", b"x", "documents", 30 * MB)
    push(ada, document={key: value for key, value in stored.items() if key != "file_size"} | {"file_name": "big.pdf"})
    await shows(ada, EN.problem(ChatError("file_too_big", limit=20)))
    assert library.paths == []


async def test_a_document_that_telegram_no_longer_has_is_told(talk: Talk, library: FakeLibrary) -> None:
    ada = talk.private()
    push(ada, document={"file_id": "GONE", "file_unique_id": "U", "file_name": "notes.txt"})
    await shows(ada, EN.problem(ChatError("file_unavailable")))
    talk.server.fail(method="file", status=404)
    ada.document("notes.txt", LINES)
    await shows(ada, EN.problem(ChatError("file_unavailable")), times=2)
    assert library.paths == []


async def test_a_document_arrives_though_the_connection_breaks(talk: Talk, library: FakeLibrary) -> None:
    talk.server.drop(method="getFile")
    talk.server.fail(method="file", status=502)
    ada = talk.private()
    ada.document("notes.txt", LINES)
    await shows(ada, EN.t("files.added", name="notes.txt", count=3))


async def test_a_library_that_breaks_leaves_no_half_told_progress(
    talk: Talk, library: FakeLibrary, downloads: Path
) -> None:
    library.error = RuntimeError("the index is gone")
    ada = talk.private()
    ada.document("notes.txt", LINES)
    await ada.wait_for(lambda: said(ada)[-1].startswith(EN.t("problem.unexpected")))
    assert len(ada.replies) == 1
    assert left_in(downloads) == []


async def test_a_status_that_the_person_deletes_is_followed_by_the_outcome(talk: Talk, library: FakeLibrary) -> None:
    library.go_on.clear()
    ada = talk.private()
    ada.document("notes.txt", LINES)
    await library.reached.wait()
    ada.delete(ada.replies[0])
    library.go_on.set()
    await shows(ada, EN.t("files.added", name="notes.txt", count=3))


async def test_one_persons_document_does_not_hold_up_anothers(talk: Talk, library: FakeLibrary) -> None:
    ada, bo = talk.private(), talk.private(102, "Bo")
    library.go_on.clear()
    ada.document("notes.txt", LINES)
    await library.reached.wait()
    library.reached.clear()
    bo.document("other.txt", LINES)
    await library.reached.wait()
    library.go_on.set()
    await shows(ada, EN.t("files.added", name="notes.txt", count=3))
    await shows(bo, EN.t("files.added", name="other.txt", count=3))


@pytest.mark.parametrize(
    ("name", "shown", "suffix"),
    [
        ("报告 📎.txt", "报告 📎.txt", ".txt"),
        ("../../etc/passwd.txt", "../../etc/passwd.txt", ".txt"),
        ("two\nlines\0.TXT", "two lines .TXT", ".txt"),
        ("{name} {0}.txt", "{name} {0}.txt", ".txt"),
        ("x" * 300 + ".txt", "x" * 59 + "…", ".txt"),
    ],
)
async def test_a_name_is_shown_as_one_line_and_never_used_as_a_path(
    talk: Talk, library: FakeLibrary, downloads: Path, name: str, shown: str, suffix: str
) -> None:
    ada = talk.private()
    ada.document(name, LINES)
    await shows(ada, EN.t("files.added", name=shown, count=3))
    (path,) = library.paths
    assert path.name == f"document{suffix}"
    assert path.parent.parent == downloads


async def test_a_document_without_a_name_gets_one_for_its_kind(talk: Talk, library: FakeLibrary) -> None:
    ada = talk.private()
    push(ada, document={**talk.server.files.store("", LINES, "documents"), "mime_type": "text/plain"})
    await shows(ada, EN.t("files.added", name="document.txt", count=3))


@unequipped
@pytest.mark.parametrize("language", LANGUAGES)
async def test_where_documents_are_not_enabled_nothing_is_fetched(talk: Talk, language: str) -> None:
    ada = talk.private(language=language)
    ada.document("notes.txt", LINES, caption="What is it about?")
    await shows(ada, texts_for(language).t("problem.no_documents"))
    assert talk.server.calls_of("getFile") == []
    assert asked(talk) == []
    ada.command("/docs")
    await shows(ada, texts_for(language).t("problem.no_documents"), times=2)


@pytest.mark.parametrize("access", [AccessSettings(mode="open", messages_per_minute=1)])
async def test_documents_count_as_messages(talk: Talk, library: FakeLibrary) -> None:
    ada = talk.private()
    ada.document("one.txt", b"One")
    ada.document("two.txt", b"Two")
    await ada.wait_for(lambda: len(ada.replies) == 2)
    assert said(ada)[0] == EN.t("files.added", name="one.txt", count=1)
    assert "(messages per minute: 1)" in said(ada)[1]
    assert len(library.paths) == 1


# The list of documents


def owns(talk: Talk, chat: Chat, library: FakeLibrary, *names: str) -> None:
    """The person has handed over documents of these names before."""
    assert chat.person is not None
    person = people.person_for(talk.store, "telegram", str(chat.id), chat.person.first_name, "en")
    assert person.id is not None
    for name in names:
        library.keep(owners.person(person.id), name, "text/plain", name.encode())


async def test_docs_lists_them_newest_first_with_a_button_to_delete_each(talk: Talk, library: FakeLibrary) -> None:
    ada, bo = talk.private(), talk.private(102, "Bo")
    owns(talk, bo, library, "of-bo.txt")
    owns(talk, ada, library, "one.txt", "two.txt")
    ada.command("/docs")
    await ada.wait_for(lambda: said(ada)[-1].startswith(EN.t("files.list_title")))
    rows = [EN.t("files.row", number=number, name=name, count=1) for number, name in ((3, "two.txt"), (2, "one.txt"))]
    assert said(ada)[-1].splitlines()[2:] == rows
    assert names_on_buttons(ada) == [EN.t("files.button_delete", name=name) for name in ("two.txt", "one.txt")]

    ada.press(ada.replies[-1], EN.t("files.button_delete", name="one.txt"))
    await ada.wait_for(lambda: said(ada)[-1].splitlines()[2:] == rows[:1])
    assert ada.answers[-1] == (EN.t("files.deleted"), False)
    ada.press(ada.replies[-1], EN.t("files.button_delete", name="two.txt"))
    await shows(ada, EN.t("files.none"))
    assert names_on_buttons(ada) == []
    assert [held.document.name for held in library.held.values()] == ["of-bo.txt"]


async def test_the_button_of_a_document_that_is_gone_tells_so_and_renews_the_list(
    talk: Talk, library: FakeLibrary
) -> None:
    ada = talk.private()
    owns(talk, ada, library, "one.txt", "two.txt")
    ada.command("/docs")
    await ada.wait_for(lambda: len(names_on_buttons(ada)) == 2)
    del library.held[1]
    ada.press(ada.replies[-1], EN.t("files.button_delete", name="one.txt"))
    await ada.wait_for(lambda: names_on_buttons(ada) == [EN.t("files.button_delete", name="two.txt")])
    assert ada.answers == [(EN.problem(ChatError("no_such_document")), True)]


async def test_a_long_list_has_pages(talk: Talk, library: FakeLibrary) -> None:
    ada = talk.private()
    owns(talk, ada, library, *[f"{number:02}.txt" for number in range(1, 12)])
    ada.command("/docs")
    await ada.wait_for(lambda: names_on_buttons(ada)[-1] == EN.t("files.button_older"))
    listed = ada.replies[-1].id
    assert "01.txt" not in ada.replies[-1].text
    ada.press(ada.replies[-1], EN.t("files.button_older"))
    await ada.wait_for(lambda: "01.txt" in said(ada)[-1])
    assert names_on_buttons(ada) == [EN.t("files.button_delete", name="01.txt"), EN.t("files.button_newer")]

    ada.press(ada.replies[-1], EN.t("files.button_delete", name="01.txt"))  # the last one of its page
    await ada.wait_for(lambda: len(names_on_buttons(ada)) == 10)
    assert EN.t("files.button_delete", name="02.txt") in names_on_buttons(ada)
    assert ada.replies[-1].id == listed


async def test_a_list_that_was_deleted_is_shown_anew(talk: Talk, library: FakeLibrary) -> None:
    ada = talk.private()
    owns(talk, ada, library, "one.txt")
    ada.command("/docs")
    await ada.wait_for(lambda: names_on_buttons(ada))
    hold = talk.server.hold(method="editMessageText")
    listed = ada.replies[-1]
    ada.press(listed, EN.t("files.button_delete", name="one.txt"))
    await hold.reached.wait()
    ada.delete(listed)
    hold.release.set()
    await shows(ada, EN.t("files.none"))


async def test_docs_deletes_by_number_only_what_is_ones_own(talk: Talk, library: FakeLibrary) -> None:
    ada, bo = talk.private(), talk.private(102, "Bo")
    owns(talk, bo, library, "of-bo.txt")
    owns(talk, ada, library, "one.txt")
    ada.command("/docs delete 2")
    await shows(ada, EN.t("files.deleted"))
    for times, number in enumerate(("2", "1", "0", "9" * 40), 1):
        ada.command(f"/docs delete {number}")
        await shows(ada, EN.problem(ChatError("no_such_document")), times)
    assert [held.document.name for held in library.held.values()] == ["of-bo.txt"]


@pytest.mark.parametrize("argument", ["delete", "delete one two", "drop 1", "1"])
async def test_docs_says_how_it_is_used(talk: Talk, library: FakeLibrary, argument: str) -> None:
    ada = talk.private()
    owns(talk, ada, library, "one.txt")
    ada.command(f"/docs {argument}")
    usage = EN.problem(ChatError("usage", name="docs", hint=EN.t("hint.docs")))
    no_number = EN.problem(ChatError("not_a_number", given="one two"))
    await ada.wait_for(lambda: said(ada)[-1] in (usage, no_number))
    assert len(library.held) == 1


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("why", sorted({*get_args(Refusal)} - {"too_many_documents"}))
def test_every_refusal_has_a_text_that_names_the_document(language: str, why: Refusal) -> None:
    assert "{notes}.txt" in texts_for(language).problem(DocumentRefused(why, "{notes}.txt", reason=""))


async def test_where_there_are_as_many_as_may_be_the_limit_is_told(talk: Talk, library: FakeLibrary) -> None:
    library.error = ChatError("too_many_documents", limit=3)
    ada = talk.private()
    ada.document("notes.txt", LINES, caption="What is it about?")
    await ada.wait_for(lambda: "There are 3 documents here" in said(ada)[-1])
    assert asked(talk) == []


async def test_a_library_that_cannot_be_reached_is_told_by_every_command(talk: Talk, library: FakeLibrary) -> None:
    library.down = ChatError("knowledge_failed", detail="The index is being rebuilt.")
    ada = talk.private()
    for times, command in enumerate(("/docs", "/docs delete 1", "/export"), 1):
        ada.command(command)
        await shows(ada, EN.problem(library.down), times)
    assert "The index is being rebuilt." in said(ada)[-1]
