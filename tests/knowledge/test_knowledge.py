"""Knowledge as the rooms above use it, with its real parts: from a file to a passage, and away again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from knowledge.embedding import bundled
from knowledge.errors import DocumentRefused
from knowledge.ingest import Cancelled
from knowledge.knowledge import Knowledge
from settings import Data, Settings
from settings import Knowledge as KnowledgeSettings
from store.catalogue.owners import SHARED, group, person
from store.errors import NotFound

ADA, BO, CREW = person(1), person(2), group("telegram", "-100")
GATE = "# Harbour\n\nThe code of the harbour gate is 4711.\n"
SECRET = "# Diary\n\nBo hid the marzipan behind the lighthouse.\n"


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    bundled.ensure(folder, lambda text: None)
    return folder / "models"


@pytest.fixture
def settings(tmp_path: Path, models: Path) -> Settings:
    data = tmp_path / "data"
    data.mkdir()
    (data / "models").symlink_to(models)
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
