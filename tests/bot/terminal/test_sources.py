"""Footnotes under a reply in the terminal, and /docs."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest

from bot.chat import Chat
from bot.errors import ChatError
from bot.events import Finished, Source
from bot.terminal.documents import Documents
from bot.terminal.screen import Screen
from bot.terminal.sources import footnotes
from bot.texts import texts_for
from store.catalogue.owners import person as owned_by
from tests.fakes.library import FakeLibrary

EN, ZH = texts_for("en"), texts_for("zh")
SOURCE = Source(2, "1:0-0@0", "Harbour", "Harbour › Gates", 3, 4, "The code\nof the gate is 4711.")
END = Finished(1, 1, "4711 [2].", "stop", "m", "", 1, 0, 1, 0.1, 1.0, 1, (SOURCE,))


def test_each_source_is_a_footnote_with_its_place_and_words() -> None:
    assert list(footnotes(END, False, EN)) == ["[2] Harbour › Gates, pp. 3–4 — The code of the gate is 4711."]
    one_page = replace(END, sources=(replace(SOURCE, page_end=3),))
    assert list(footnotes(one_page, False, ZH)) == ["[2] Harbour › Gates，第 3 页 — The code of the gate is 4711."]


def test_that_nothing_was_found_or_searched_is_said_once() -> None:
    unanswered = replace(END, sources=(), unanswered=True)
    assert list(footnotes(unanswered, False, EN)) == [EN.t("sources.unanswered")]
    assert list(footnotes(replace(unanswered, text=EN.t("knowledge.not_in_documents")), False, EN)) == []
    assert list(footnotes(replace(END, sources=()), True, EN)) == [EN.t("sources.failed")]
    assert list(footnotes(replace(END, sources=()), False, EN)) == []


@pytest.fixture
async def chat(assistant) -> Chat:
    chat = await Chat.open(assistant, channel="terminal", external_id="ada", name="Ada", language="en")
    await chat.kept.privacy()
    return chat


@pytest.fixture
def shown() -> StringIO:
    return StringIO()


@pytest.fixture
def library() -> FakeLibrary:
    return FakeLibrary()


@pytest.fixture
def documents(chat: Chat, shown: StringIO, library: FakeLibrary) -> Documents:
    return Documents(chat, Screen(shown, shown, EN), library)


async def test_a_file_of_this_machine_becomes_ones_document(
    documents: Documents, chat: Chat, shown: StringIO, library: FakeLibrary, tmp_path: Path
) -> None:
    file = tmp_path / "my notes.md"
    file.write_text("The gate is closed.\n")
    await documents.command(f'add "{file}"')
    (document,) = await library.documents(owned_by(chat.person.id))
    assert document.name == "my notes.md"
    await documents.command("")
    assert "my notes.md" in shown.getvalue()
    assert (await documents.export())["documents"][0]["name"] == "my notes.md"
    await documents.command(f"delete {document.id}")
    assert await library.documents(owned_by(chat.person.id)) == []


@pytest.mark.parametrize(
    ("argument", "key"),
    [
        ("add /no/such/file", "no_such_file"),
        ("add " + "x" * 5000, "no_such_file"),
        ("add ~nobody-here/x", "no_such_file"),
        ("delete one", "not_a_number"),
        ("delete 7", "no_such_document"),
        ("add", "usage"),
        ("nonsense 7", "usage"),
    ],
)
async def test_what_cannot_be_done_is_said(documents: Documents, argument: str, key: str) -> None:
    with pytest.raises(ChatError) as caught:
        await documents.command(argument)
    assert caught.value.key == key


async def test_forgetting_everything_takes_the_documents(
    documents: Documents, chat: Chat, library: FakeLibrary, tmp_path: Path
) -> None:
    (tmp_path / "a.md").write_text("One.\n")
    await documents.command(f"add {tmp_path / 'a.md'}")
    await documents.forget()
    assert await library.documents(owned_by(chat.person.id)) == []


async def test_without_a_library_it_is_said_and_nothing_fails(chat: Chat, shown: StringIO) -> None:
    bare = Documents(chat, Screen(shown, shown, EN), None)
    with pytest.raises(ChatError) as caught:
        await bare.command("")
    assert caught.value.key == "no_library"
    assert await bare.export() == {}
    await bare.forget()
