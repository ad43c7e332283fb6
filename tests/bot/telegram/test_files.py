"""Documents, photos and voice as people send them, and the files that come to nothing."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_args

import pytest
from aiohttp import web

from bot.errors import ChatError
from bot.library import DocumentRefused, Refusal
from bot.telegram.channel import TelegramChannel
from bot.texts import LANGUAGES, texts_for
from settings import Access as AccessSettings
from settings import Media, Settings
from store import people
from tests.bot.telegram.conftest import Talk
from tests.fakes.library import DAMAGED, ENCRYPTED, FakeLibrary
from tests.fakes.media import JPEG, PNG, FakeMedia
from tests.fakes.vllm import Hold, Reply
from tests.telegram_server import Chat

EN = texts_for("en")
LINES = b"One line.\nAnother line.\n\xe4\xb8\xad\xe6\x96\x87\n"
MB = 1024 * 1024


@pytest.fixture
async def media() -> AsyncIterator[FakeMedia]:
    async with FakeMedia() as server:
        yield server


@pytest.fixture
def enabled() -> bool:
    """Whether there is a library, and models for photos and voice are named."""
    return True


@pytest.fixture
def settings(settings: Settings, media: FakeMedia, enabled: bool) -> Settings:
    named = Media(vision_url=media.url, vision_model="seer", transcription_url=media.url)
    return settings.model_copy(update={"media": named if enabled else Media()})


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch, enabled: bool) -> FakeLibrary:
    """That of every channel that is made in the test, also after a restart."""
    library, made = FakeLibrary(), TelegramChannel.__init__

    def make(channel: TelegramChannel, *given: Any) -> None:
        made(channel, *given)
        channel.library = library if enabled else None

    monkeypatch.setattr(TelegramChannel, "__init__", make)
    return library


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


def person_id(talk: Talk, chat: Chat) -> int:
    person = people.with_identity(talk.store, "telegram", str(chat.id))
    assert person is not None
    assert person.id is not None
    return person.id


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


# Documents


async def test_a_document_becomes_part_of_the_persons_knowledge(
    talk: Talk, library: FakeLibrary, downloads: Path
) -> None:
    ada = talk.private()
    ada.document("notes.txt", LINES, mime="text/plain")
    await shows(ada, EN.t("files.added", name="notes.txt", count=3))
    (held,) = library.held.values()
    assert held.person_id == person_id(talk, ada)
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
    await shows(ada, EN.problem(DocumentRefused(why, name)))
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


async def test_documents_are_taken_and_listed_in_private_only(talk: Talk, library: FakeLibrary) -> None:
    talk.server.privacy_mode = False
    team = talk.server.group(-1001, "Team", [talk.server.user(101, "Ada", language_code="en")])
    team.command("/docs@familiar_bot")
    await shows(team, EN.problem(ChatError("documents_in_private")))
    team.document("notes.txt", LINES, reply_to=team.replies[-1])
    await shows(team, EN.problem(ChatError("documents_in_private")), times=2)
    assert talk.server.calls_of("getFile") == []


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
        library.keep(person.id, name, "text/plain", name.encode())


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


# Photos


async def test_a_photo_is_answered_by_its_description(talk: Talk, media: FakeMedia) -> None:
    ada = talk.private()
    ada.photo(JPEG, caption="Which colour is it?")
    await shows(ada, "Hello there!")
    assert asked(talk) == ["[Photo: A red bicycle.]\n\nWhich colour is it?"]
    assert media.looks[0].images == (("image/jpeg", JPEG),)
    assert media.looks[0].text.endswith("Which colour is it?")
    ada.send("And its wheels?")
    await shows(ada, "Hello there!", times=2)
    assert "[Photo: A red bicycle.]" in str(talk.vllm.chats[-1].body["messages"])


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_photo_without_words_is_asked_about_in_the_persons_language(
    talk: Talk, media: FakeMedia, language: str
) -> None:
    ada = talk.private(language=language)
    ada.photo(JPEG)
    await shows(ada, "Hello there!")
    question = texts_for(language).t("files.default_question")
    assert asked(talk) == [f"[Photo: A red bicycle.]\n\n{question}"]


async def test_a_picture_that_is_sent_as_a_file_is_a_photo(talk: Talk, media: FakeMedia, library: FakeLibrary) -> None:
    ada = talk.private()
    ada.document("bicycle.png", PNG, mime="image/png", caption="Which colour is it?")
    await shows(ada, "Hello there!")
    assert media.looks[0].images == (("image/png", PNG),)
    assert library.paths == []


async def test_a_photo_in_a_group_is_answered_where_the_bot_is_mentioned(talk: Talk, media: FakeMedia) -> None:
    talk.server.privacy_mode = False
    ada = talk.server.user(101, "Ada", language_code="en")
    team = talk.server.group(-1001, "Team", [ada])
    sizes = [{**talk.server.files.store("photo.jpg", JPEG, "photos"), "width": 90, "height": 60}]
    message = {"message_id": team.next_id(), "date": 1_700_000_000, "chat": team.json(), "from": ada.json()}
    mention = [{"type": "mention", "offset": 0, "length": len("@familiar_bot")}]
    caption = "@familiar_bot which colour is it?"
    talk.server.push({"message": message | {"photo": sizes, "caption": caption, "caption_entities": mention}})
    await shows(team, "Hello there!")
    assert asked(talk) == ["[Photo: A red bicycle.]\n\nwhich colour is it?"]


async def test_something_is_seen_to_be_done_while_a_photo_is_looked_at(talk: Talk, media: FakeMedia) -> None:
    media.go_on.clear()
    ada = talk.private()
    ada.photo(JPEG)
    await media.reached.wait()
    await ada.wait_for(lambda: "typing" in ada.actions)
    media.go_on.set()
    await shows(ada, "Hello there!")


@pytest.mark.parametrize("kind", ["photo", "voice"])
async def test_a_service_that_fails_is_told_and_the_talk_goes_on(talk: Talk, media: FakeMedia, kind: str) -> None:
    media.otherwise = lambda: web.Response(status=503)
    ada = talk.private()
    if kind == "photo":
        ada.photo(JPEG)
    else:
        ada.voice(b"OggS")
    await shows(ada, EN.t("problem.media_busy"))
    assert asked(talk) == []
    ada.send("Hi")
    await shows(ada, "Hello there!")


async def test_what_is_no_picture_is_told(talk: Talk, media: FakeMedia) -> None:
    ada = talk.private()
    ada.document("drawing.svg", b"<svg/>", mime="image/svg+xml")
    await shows(ada, EN.t("problem.not_an_image"))
    assert media.looks == []


async def test_a_huge_picture_is_not_fetched(talk: Talk, media: FakeMedia) -> None:
    ada = talk.private()
    ada.document("map.png", PNG, mime="image/png", size=21 * MB)
    ada.document("concert.mp3", b"ID3", mime="audio/mpeg", size=21 * MB)
    await shows(ada, EN.problem(ChatError("file_too_big", limit=20)), times=2)
    assert talk.server.calls_of("getFile") == []


async def test_looking_at_a_photo_can_be_stopped(talk: Talk, media: FakeMedia) -> None:
    media.go_on.clear()
    ada = talk.private()
    ada.photo(JPEG)
    await media.reached.wait()
    ada.command("/stop")
    await shows(ada, EN.t("problem.media_stopped"))
    await asyncio.wait_for(media.left.wait(), 20)
    assert asked(talk) == []


@pytest.mark.parametrize("telegram", [{"shutdown_grace_s": 0.0}])
async def test_a_photo_whose_reply_a_restart_interrupted_is_not_looked_at_again(talk: Talk, media: FakeMedia) -> None:
    hold = Hold()
    talk.vllm.script(Reply("It is", hold))
    ada = talk.private()
    ada.photo(JPEG, caption="Which colour is it?")
    await hold.reached.wait()
    await talk.stop()
    await talk.start()
    await shows(ada, "Hello there!")
    assert len(media.looks) == 1
    assert asked(talk) == ["[Photo: A red bicycle.]\n\nWhich colour is it?"] * 2


@pytest.mark.parametrize("access", [AccessSettings(mode="open", messages_per_minute=1)])
async def test_a_photo_beyond_the_quota_is_not_looked_at(talk: Talk, media: FakeMedia) -> None:
    ada = talk.private()
    ada.photo(JPEG)
    ada.photo(JPEG)
    await ada.wait_for(lambda: any("(messages per minute: 1)" in text for text in said(ada)))
    assert len(media.looks) == 1


@unequipped
@pytest.mark.parametrize("language", LANGUAGES)
async def test_where_photos_and_voice_are_not_enabled_nothing_is_fetched(talk: Talk, language: str) -> None:
    texts = texts_for(language)
    ada = talk.private(language=language)
    ada.photo(JPEG)
    await shows(ada, texts.t("problem.no_photos"))
    ada.voice(b"OggS")
    await shows(ada, texts.t("problem.no_voice"))
    ada.document("bicycle.png", PNG, mime="image/png")
    await shows(ada, texts.t("problem.no_documents"))
    assert talk.server.calls_of("getFile") == []


@unequipped
async def test_an_album_that_is_not_taken_is_told_once(talk: Talk) -> None:
    ada = talk.private()
    for _ in range(3):
        sizes = [{**talk.server.files.store("photo.jpg", JPEG, "photos"), "width": 90, "height": 60}]
        push(ada, photo=sizes, media_group_id="album")
    ada.send("Hi")
    await shows(ada, "Hello there!")
    assert said(ada) == [EN.t("problem.no_photos"), "Hello there!"]


# Voice


async def test_a_voice_message_is_shown_as_understood_and_answered(talk: Talk, media: FakeMedia) -> None:
    media.transcript = "早上好，_Bo_ 👋"
    ada = talk.private()
    sent = ada.voice(b"OggS\x00")
    await shows(ada, "Hello there!")
    assert said(ada) == ["“早上好，_Bo_ 👋”", "Hello there!"]
    assert ada.replies[0].reply_to == sent.id
    assert asked(talk) == ["早上好，_Bo_ 👋"]
    assert (media.sounds[0].name, media.sounds[0].mime, media.sounds[0].data) == ("voice.ogg", "audio/ogg", b"OggS\x00")


@pytest.mark.parametrize(
    ("content", "name", "mime"),
    [
        ({"audio": {"duration": 3, "file_name": "memo.m4a", "mime_type": "audio/mp4"}}, "voice.m4a", "audio/mp4"),
        ({"audio": {"duration": 3}}, "voice.mp3", "audio/mpeg"),
        ({"video_note": {"duration": 3, "length": 240}}, "voice.mp4", "video/mp4"),
        ({"document": {"file_name": "memo.wav", "mime_type": "audio/x-wav"}}, "voice.wav", "audio/x-wav"),
    ],
)
async def test_other_recordings_are_heard_too_and_named_by_their_kind(
    talk: Talk, media: FakeMedia, content: dict[str, dict[str, Any]], name: str, mime: str
) -> None:
    ada = talk.private()
    stored = talk.server.files.store("recording", b"sound", "voice")
    push(ada, **{kind: stored | details for kind, details in content.items()}, caption="Translate this:")
    await shows(ada, "Hello there!")
    assert asked(talk) == ["Translate this:\n\nGood morning."]
    assert (media.sounds[0].name, media.sounds[0].mime, media.sounds[0].data) == (name, mime, b"sound")


async def test_a_recording_without_words_is_told_to_have_none(talk: Talk, media: FakeMedia) -> None:
    media.transcript = " "
    ada = talk.private()
    ada.voice(b"OggS")
    await shows(ada, EN.t("problem.nothing_heard"))
    assert asked(talk) == []


async def test_a_long_transcript_is_shown_whole(talk: Talk, media: FakeMedia) -> None:
    words = " ".join(f"word{number}" for number in range(1000))
    media.transcript = words
    ada = talk.private()
    ada.voice(b"OggS")
    await shows(ada, "Hello there!")
    assert "".join(said(ada)[:-1]).replace(" ", "") == f"“{words}”".replace(" ", "")
    assert asked(talk) == [words]


@pytest.mark.parametrize("telegram", [{"shutdown_grace_s": 0.0}])
@pytest.mark.parametrize("when", ["before the message is stored", "in the reply"])
async def test_a_voice_message_that_a_restart_interrupted_is_neither_heard_nor_shown_again(
    talk: Talk, media: FakeMedia, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = Hold()
    if when == "in the reply":
        talk.vllm.script(Reply("Good", hold))
    else:

        async def stand_still(*_: object) -> None:
            hold.reached.set()
            await hold.release.wait()

        monkeypatch.setattr(talk.channel.groups, "origin", stand_still)
    ada = talk.private()
    ada.voice(b"OggS")
    await hold.reached.wait()
    await talk.stop()
    await talk.start()
    await shows(ada, "Hello there!")
    assert said(ada) == ["“Good morning.”", "Hello there!"]
    assert len(media.sounds) == 1


# Everything else


@pytest.mark.parametrize(
    "content",
    [
        {"sticker": {"width": 1, "height": 1, "is_animated": False, "is_video": False, "type": "regular"}},
        {"location": {"longitude": 0.0, "latitude": 0.0}},
        {"contact": {"phone_number": "1", "first_name": "Bo"}},
        {"dice": {"emoji": "🎲", "value": 3}},
        {"video": {"width": 1, "height": 1, "duration": 1}},
        {"animation": {"width": 1, "height": 1, "duration": 1}, "document": {"mime_type": "video/mp4"}},
    ],
)
async def test_what_means_nothing_to_the_bot_is_told_kindly(talk: Talk, content: dict[str, dict[str, Any]]) -> None:
    ada = talk.private()
    stored = talk.server.files.store("thing", b"x", "things")
    files = ("sticker", "video", "animation", "document")
    push(ada, **{kind: details | (stored if kind in files else {}) for kind, details in content.items()})
    await shows(ada, EN.t("problem.other_kind", works="text, photos, voice messages, documents"))
    assert talk.server.calls_of("getFile") == []


@unequipped
async def test_only_what_works_here_is_named(talk: Talk) -> None:
    ada = talk.private(language="zh")
    push(ada, location={"longitude": 0.0, "latitude": 0.0})
    await shows(ada, texts_for("zh").t("problem.other_kind", works="文字"))


async def test_a_sticker_in_a_group_is_left_to_the_people(talk: Talk) -> None:
    talk.server.privacy_mode = False
    ada = talk.server.user(101, "Ada", language_code="en")
    team = talk.server.group(-1001, "Team", [ada])
    team.send("/help", sender=ada)
    await team.wait_for(lambda: team.replies)
    message = {"message_id": team.next_id(), "date": 1_700_000_000, "chat": team.json(), "from": ada.json()}
    sticker = {"width": 1, "height": 1, "is_animated": False, "is_video": False, "type": "regular"}
    stored = talk.server.files.store("sticker", b"x", "stickers")
    talk.server.push({"message": message | {"sticker": sticker | stored, "reply_to_message": team.replies[-1].json()}})
    team.send("/docs", sender=ada)
    await shows(team, EN.t("problem.documents_in_private"))
    assert len(team.replies) == 2


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("why", get_args(Refusal))
def test_every_refusal_has_a_text_that_names_the_document(language: str, why: Refusal) -> None:
    assert "{notes}.txt" in texts_for(language).problem(DocumentRefused(why, "{notes}.txt"))


async def test_the_photos_of_an_album_are_answered_together(talk: Talk, media: FakeMedia) -> None:
    ada = talk.private()
    for number in range(3):
        sizes = [{**talk.server.files.store("photo.jpg", JPEG + bytes([number]), "photos"), "width": 90, "height": 60}]
        push(ada, photo=sizes, media_group_id="album", **({} if number else {"caption": "Which is best?"}))
    await shows(ada, "Hello there!")
    assert asked(talk) == ["[Photo: A red bicycle.]\n\nWhich is best?"]
    assert [data for _, data in media.looks[0].images] == [JPEG + bytes([number]) for number in range(3)]
