"""The library that channels see: real documents, and what goes wrong in words that a person can act on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bot.errors import ChatError
from bot.library import DocumentRefused
from bot.shelf import Shelf
from bot.texts import LANGUAGES, texts_for
from knowledge import errors
from knowledge.knowledge import Knowledge
from settings import Data, Settings
from settings import Knowledge as KnowledgeSettings
from store.catalogue.owners import group, person

ADA, CREW, LARGER = person(1), group("telegram", "-100"), group("telegram", "-200")


@pytest.fixture
def knowledge(data: Path) -> Iterator[Knowledge]:
    settings = Settings(data=Data(folder=data), knowledge=KnowledgeSettings(documents_per_person=2))
    with Knowledge(settings) as opened:
        yield opened


@pytest.fixture
def shelf(knowledge: Knowledge) -> Shelf:
    return Shelf(knowledge)


def file(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def quiet(share: float, stage: str) -> None:
    """Nobody watches."""


async def test_a_document_is_added_listed_quoted_and_removed(
    shelf: Shelf, knowledge: Knowledge, tmp_path: Path
) -> None:
    stages: list[str] = []
    path = file(tmp_path, "gate.md", "# Harbour\n\nThe code of the gate is 4711.\n")
    added = await shelf.add(ADA, 1, "gate.md", "text/markdown", path, lambda share, stage: stages.append(stage))
    assert (added.passages, added.known) == (1, False)
    assert list(dict.fromkeys(stages)) == ["reading", "splitting", "indexing"]
    assert [(each.id, each.name) for each in await shelf.documents(ADA)] == [(added.document_id, "gate.md")]
    (passage,) = knowledge.search("What is the gate's code?", [ADA]).passages
    quote = await shelf.quote(passage.id, [ADA])
    assert quote is not None
    assert "4711" in quote.text
    assert await shelf.quote(passage.id, [CREW]) is None
    assert await shelf.quote("nonsense", [ADA]) is None
    with pytest.raises(ChatError) as caught:
        await shelf.remove(CREW, added.document_id)
    assert caught.value.key == "no_such_document"
    await shelf.remove(ADA, added.document_id)
    assert await shelf.documents(ADA) == []


@pytest.mark.parametrize(
    ("name", "content", "key"),
    [
        ("empty.md", "", "document_empty"),
        ("cut.pdf", b"%PDF-1.7 cut", "document_damaged"),
        ("program.bin", bytes(range(256)) * 40, "document_unknown_type"),
    ],
)
async def test_a_refusal_is_told_in_both_languages(
    shelf: Shelf, tmp_path: Path, name: str, content: bytes | str, key: str
) -> None:
    with pytest.raises(DocumentRefused) as caught:
        await shelf.add(ADA, 1, name, "", file(tmp_path, name, content), quiet)
    assert caught.value.key == key
    for language in LANGUAGES:
        assert name in texts_for(language).problem(caught.value)
    assert await shelf.documents(ADA) == []


async def test_more_documents_than_one_may_have_are_refused(shelf: Shelf, tmp_path: Path) -> None:
    for number in range(2):
        await shelf.add(ADA, 1, f"{number}.md", "", file(tmp_path, f"{number}.md", f"Note {number}."), quiet)
    with pytest.raises(ChatError) as caught:
        await shelf.add(ADA, 1, "third.md", "", file(tmp_path, "third.md", "Note three."), quiet)
    assert caught.value.key == "too_many_documents"
    assert "2" in texts_for("en").problem(caught.value)


async def test_of_an_addition_that_is_cancelled_nothing_is_kept(
    shelf: Shelf, knowledge: Knowledge, tmp_path: Path
) -> None:
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()
    path = file(tmp_path, "long.md", "The tide is high and the gate is closed. " * 5_000)
    adding = asyncio.create_task(
        shelf.add(ADA, 1, "long.md", "", path, lambda share, stage: loop.call_soon_threadsafe(begun.set))
    )
    await begun.wait()
    adding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await adding
    assert await shelf.documents(ADA) == []
    assert [each for each in (knowledge.folder / "originals").rglob("*.md") if each.is_file()] == []


async def test_the_documents_of_a_group_go_along_to_its_new_number(shelf: Shelf, tmp_path: Path) -> None:
    await shelf.add(CREW, 1, "gate.md", "", file(tmp_path, "gate.md", "The code is 4711."), quiet)
    await shelf.move(CREW, LARGER)
    await shelf.move(CREW, LARGER)
    assert await shelf.documents(CREW) == []
    (moved,) = await shelf.documents(LARGER)
    await shelf.remove(LARGER, moved.id)


async def test_an_addition_that_is_cancelled_after_its_group_got_another_number_leaves_nothing(
    shelf: Shelf, knowledge: Knowledge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was too late to stop it: all was done when it was cancelled."""
    done, go_on = threading.Event(), threading.Event()
    add = knowledge.add

    def slowly(*given: Any, **how: Any) -> Any:
        knowledge.move(CREW, LARGER)
        added = add(*given, **how)
        done.set()
        go_on.wait()
        return added

    monkeypatch.setattr(knowledge, "add", slowly)
    path = file(tmp_path, "gate.md", "The code is 4711.")
    adding = asyncio.create_task(shelf.add(CREW, 1, "gate.md", "", path, quiet))
    await asyncio.to_thread(done.wait)
    adding.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await adding
    assert await shelf.documents(CREW) == await shelf.documents(LARGER) == []


async def test_what_only_the_operator_can_mend_is_told_with_its_reason(
    shelf: Shelf, knowledge: Knowledge, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*_: object) -> None:
        raise errors.IndexDamaged("The index is damaged. familiar knowledge rebuild makes it anew.")

    monkeypatch.setattr(knowledge, "documents", damaged)
    with pytest.raises(ChatError) as caught:
        await shelf.documents(ADA)
    assert "familiar knowledge rebuild" in texts_for("en").problem(caught.value)
