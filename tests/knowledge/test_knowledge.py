"""Knowledge as the rooms above use it, with its real parts: from a file to a passage, and away again."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from knowledge.embedding import remote
from knowledge.errors import DocumentRefused
from knowledge.ingest import Cancelled
from knowledge.knowledge import Knowledge
from knowledge.splitting import hash_of, header_of
from settings import Data, Settings
from settings import Knowledge as KnowledgeSettings
from store.catalogue.owners import SHARED, group, person
from store.errors import NotFound
from tests.knowledge.embedding.embedding_server import Server

ADA, BO, CREW, LARGER = person(1), person(2), group("telegram", "-100"), group("telegram", "-200")
GATE = "# Harbour\n\nThe code of the harbour gate is 4711.\n"
SECRET = "# Diary\n\nBo hid the marzipan behind the lighthouse.\n"


@pytest.fixture
def settings(tmp_path: Path, data: Path) -> Settings:
    (tmp_path / "documents").mkdir()
    return Settings(data=Data(folder=data), knowledge=KnowledgeSettings(folder=tmp_path / "documents"))


@pytest.fixture
def knowledge(settings: Settings) -> Iterator[Knowledge]:
    with Knowledge(settings) as opened:
        yield opened


@pytest.fixture
def written(tmp_path: Path):
    def write(text: str, name: str = "harbour.md") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def titles(knowledge: Knowledge, question: str, *readable: str) -> list[str]:
    return [passage.title for passage in knowledge.search(question, readable).passages]


def test_what_was_added_is_found_at_once_and_what_was_removed_no_more(knowledge: Knowledge, written) -> None:
    assert not knowledge.holds([ADA])
    document, known = knowledge.add(ADA, "harbour.md", written(GATE), added_by=1)
    assert not known
    assert knowledge.holds([ADA])
    assert titles(knowledge, "What is the code of the gate?", ADA) == ["Harbour"]
    assert knowledge.add(ADA, "copy.md", written(GATE, "copy.md"), added_by=1)[1], "the same content again"
    knowledge.remove(document.id, ADA)
    assert titles(knowledge, "What is the code of the gate?", ADA) == []
    assert not knowledge.holds([ADA])


def test_nobody_finds_removes_or_recalls_what_is_anothers(knowledge: Knowledge, written) -> None:
    knowledge.add(BO, "diary.md", written(SECRET), added_by=2)
    (passage,) = knowledge.search("Where is the marzipan?", [BO]).passages
    document_id = passage.document_id
    for readable in ([ADA], [SHARED], [CREW], [ADA, SHARED, CREW], [], ["person:%"], ["person:2 "], ["PERSON:2"]):
        assert knowledge.search("Where is the marzipan?", readable, floor=0.0).passages == ()
        assert knowledge.passage(passage.id, readable) is None
        assert knowledge.documents(readable) == []
    with pytest.raises(NotFound):
        knowledge.remove(document_id, ADA)
    assert knowledge.passage(passage.id, [BO, SHARED]) is not None


def test_forgetting_somebody_takes_what_they_gave_to_groups_and_leaves_the_rest(knowledge: Knowledge, written) -> None:
    knowledge.add(BO, "diary.md", written(SECRET), added_by=2)
    knowledge.add(CREW, "diary.md", written(SECRET), added_by=2)
    knowledge.add(CREW, "harbour.md", written(GATE), added_by=1)
    assert knowledge.forget(BO, 2) == 2
    knowledge.settle()
    assert [each.name for each in knowledge.documents([BO, CREW])] == ["harbour.md"]
    assert titles(knowledge, "Where is the marzipan?", BO, CREW) == []
    originals = [file.read_bytes() for file in (knowledge.folder / "originals").rglob("*.md")]
    assert originals == [GATE.encode()]


def test_what_a_group_has_goes_along_to_its_new_number(knowledge: Knowledge, settings: Settings, written) -> None:
    diary, _ = knowledge.add(CREW, "diary.md", written(SECRET), added_by=2)
    knowledge.add(ADA, "harbour.md", written(GATE), added_by=1)
    knowledge.settle()
    (passage,) = knowledge.search("Where is the marzipan?", [CREW]).passages
    for settled in (False, True):
        assert knowledge.move(CREW, LARGER) == (0 if settled else 1)
        assert titles(knowledge, "Where is the marzipan?", LARGER) == ["Diary"]
        assert knowledge.search("Where is the marzipan?", [CREW], floor=0.0).passages == ()
        knowledge.settle()
        assert knowledge.status()[1]
    assert knowledge.passage(passage.id, [LARGER]) is not None, "what was quoted is still there"
    assert knowledge.passage(passage.id, [CREW, ADA]) is None
    with pytest.raises(NotFound):
        knowledge.remove(diary.id, CREW)
    assert knowledge.forget(person(2), 2) == 1
    assert titles(knowledge, "What is the code of the gate?", ADA) == ["Harbour"]


def test_a_document_that_is_being_added_goes_along_too(knowledge: Knowledge, written) -> None:
    def grow(share: float, stage: str) -> None:
        if stage == "indexing":
            knowledge.move(CREW, LARGER)

    document, known = knowledge.add(CREW, "diary.md", written(SECRET), added_by=2, on_progress=grow)
    assert (document.owner, known) == (LARGER, False)
    late, known = knowledge.add(CREW, "again.md", written(SECRET, "again.md"), added_by=2)
    assert (late.id, known) == (document.id, True), "whoever has not heard of it yet adds it to the same"
    assert knowledge.documents([CREW]) == []
    assert [each.name for each in knowledge.documents([LARGER])] == ["diary.md"]
    assert len(list((knowledge.folder / "originals").rglob("*.md"))) == 1


def test_who_gave_what_to_a_group_is_known(knowledge: Knowledge, written) -> None:
    knowledge.add(CREW, "diary.md", written(SECRET), added_by=2)
    found = knowledge.search("Where is the marzipan?", [CREW]).passages
    assert knowledge.givers(found) == {2}
    knowledge.add(ADA, "harbour.md", written(GATE), added_by=1)
    assert knowledge.givers(knowledge.search("What is the code?", [ADA]).passages) == set()


def test_what_is_refused_or_cancelled_leaves_nothing(knowledge: Knowledge, written) -> None:
    with pytest.raises(DocumentRefused):
        knowledge.add(ADA, "empty.md", written("", "empty.md"), added_by=1)
    with pytest.raises(Cancelled):
        knowledge.add(ADA, "harbour.md", written(GATE), added_by=1, cancelled=lambda: True)
    assert knowledge.documents([ADA]) == []
    assert [file for file in (knowledge.folder / "originals").rglob("*") if file.is_file()] == []


def test_another_process_finds_what_this_one_added(knowledge: Knowledge, settings: Settings, written) -> None:
    """A second Knowledge stands for the process: it has an index and a catalogue of its own."""
    with Knowledge(settings) as other:
        assert titles(other, "What is the code of the gate?", ADA) == []
        knowledge.add(ADA, "harbour.md", written(GATE), added_by=1)
        assert titles(other, "What is the code of the gate?", ADA) == ["Harbour"]
        knowledge.settle()
        assert titles(other, "What is the code of the gate?", ADA) == ["Harbour"]


def test_searching_and_adding_at_the_same_time_works(knowledge: Knowledge, tmp_path: Path, written) -> None:
    knowledge.add(SHARED, "harbour.md", written(GATE))
    failures: list[Exception] = []

    def add(number: int) -> None:
        try:
            for each in range(3):
                name = f"{number}-{each}.md"
                path = tmp_path / name
                path.write_text(f"# Notice {number}-{each}\n\nBerth {number} is closed on day {each}.\n")
                knowledge.add(person(number), name, path, added_by=number)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=add, args=(number,)) for number in (5, 6)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert titles(knowledge, "What is the code of the gate?", SHARED) == ["Harbour"]
    assert failures == []
    assert len(knowledge.documents([person(5), person(6)])) == 6


@pytest.mark.parametrize("everything", [False, True])
def test_a_damaged_index_is_noticed_and_made_anew(settings: Settings, written, everything: bool) -> None:
    (settings.knowledge.folder / "notes.md").write_text("# Ferries\n\nThe ferry leaves at seven.\n")
    with Knowledge(settings) as knowledge:
        knowledge.sync.sync()
        knowledge.add(ADA, "harbour.md", written(GATE), added_by=1)
        knowledge.settle()
        assert knowledge.status()[1]
    for file in (settings.data.folder / "knowledge" / "chroma").rglob("*"):
        if file.is_file():
            file.write_bytes(b"damaged")
    if everything:
        (settings.data.folder / "knowledge" / "catalogue.db").write_bytes(b"damaged")
    rebuilding = Knowledge(settings)
    try:
        rebuilding.rebuild(everything=everything)
    finally:
        rebuilding.close()
    with Knowledge(settings) as knowledge:
        assert knowledge.status()[1]
        assert titles(knowledge, "What is the code of the gate?", ADA) == ["Harbour"]
        assert titles(knowledge, "When does the ferry leave?", SHARED) == ["Ferries"]
        assert titles(knowledge, "What is the code of the gate?", SHARED) == []


@pytest.mark.parametrize("since", [32, 256])
def test_what_is_embedded_anew_is_what_was_embedded_first(settings: Settings, written, since: int) -> None:
    """Whatever knowledge.chunk_tokens is by then."""
    title = "The complete guide to the harbours, ferries and lighthouses of the northern islands"
    text = f"# {title}\n\n## Ferries in winter, spring, summer and autumn\n\n" + "The ferry leaves at seven. " * 30
    small = settings.model_copy(update={"knowledge": settings.knowledge.model_copy(update={"chunk_tokens": 32})})
    with Knowledge(small) as knowledge:
        document, _ = knowledge.add(ADA, "guide.md", written(text), added_by=1)
        chunks = knowledge.catalogue.chunks_of(document.id)
        before = knowledge.catalogue.vectors([chunk.hash for chunk in chunks], knowledge.embedder.id)
        embedded = [header_of(chunk.title, chunk.heading, 32) + chunk.text for chunk in chunks]
        assert [chunk.hash for chunk in chunks] == [hash_of(each) for each in embedded]
        assert max(knowledge.embedder.count_tokens(embedded)) <= 32
    with sqlite3.connect(small.data.folder / "knowledge" / "catalogue.db") as catalogue:
        catalogue.execute("DELETE FROM vector")
    catalogue.close()
    rebuilding = Knowledge(
        settings.model_copy(update={"knowledge": settings.knowledge.model_copy(update={"chunk_tokens": since})})
    )
    try:
        rebuilding.rebuild()
        after = rebuilding.catalogue.vectors(list(before), rebuilding.embedder.id)
    finally:
        rebuilding.close()
    assert after.keys() == before.keys()
    for each, vector in before.items():
        np.testing.assert_allclose(after[each], vector, atol=1e-6)


def test_words_still_find_documents_while_the_server_of_embeddings_is_down(
    settings: Settings, written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "FOR_A_QUESTION", remote.Patience(1, 5))
    server = Server()
    url = {"embeddings": "some/model", "embeddings_url": server.url}
    settings = settings.model_copy(update={"knowledge": settings.knowledge.model_copy(update=url)})
    try:
        with Knowledge(settings) as knowledge:
            knowledge.add(SHARED, "harbour.md", written(GATE))
            knowledge.settle()
            assert knowledge.search("What is the code of the harbour gate?", [SHARED]).degraded == ""
            server.close()
            found = knowledge.search("What is the code of the harbour gate?", [SHARED])
            assert [passage.title for passage in found.passages] == ["Harbour"]
            assert "cannot be reached" in found.degraded
    finally:
        server.close()
    with Knowledge(settings) as begun_since:
        found = begun_since.search("What is the code of the harbour gate?", [SHARED])
        assert [passage.title for passage in found.passages] == ["Harbour"]
        assert begun_since.search("Who won the football championship?", [SHARED]).passages == ()
