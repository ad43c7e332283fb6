"""A document comes in whole or not at all, whoever else is at it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from knowledge.errors import DocumentDamaged, DocumentRefused, DocumentTooLarge, EmbeddingsFailed
from knowledge.ingest import Added, Cancelled, DocumentUnreadable, Known, Outcome, Refused, ToAdd, TooManyDocuments
from store.errors import StoreError, StoreFull
from tests.knowledge.taking_in import Place

ADA = "person:1"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Place(tmp_path) as place:
        yield place


@pytest.fixture
def given(tmp_path: Path) -> Path:
    path = tmp_path / "upload.bin"
    path.write_text("# Notes\nThe bins go out on Monday.")
    return path


def no_originals(place: Place) -> bool:
    return not any(path.is_file() for path in (place.data / "originals").rglob("*"))


def nothing_of_it_is_left(place: Place) -> bool:
    return no_originals(place) and place.catalogue.count([ADA, "shared"]) == 0 and place.catalogue.sweep_vectors(0) == 0


def outcomes(found: Iterator[Outcome]) -> dict[str, Outcome]:
    return {each.item.name: each for each in found}


def test_a_document_is_found_and_its_original_kept(place: Place, given: Path) -> None:
    document, known = place.ingest.add(ADA, "file:", "notes.txt", given, mime="text/plain", added_by=1)
    assert not known
    assert (document.title, document.name, document.chunks, document.added_by) == ("Notes", "notes.txt", 1, 1)
    assert place.catalogue.search_words(["monday"], [ADA], 5)
    assert place.catalogue.search_words(["monday"], ["person:2", "shared"], 5) == []
    assert place.ingest.originals.path(document.original).read_bytes() == given.read_bytes()
    (kept,) = place.ingest.originals.kept()
    assert (kept.owner, kept.source, kept.original) == (ADA, document.source, document.original)


def test_the_same_content_again_is_known_whatever_it_is_called(place: Place, given: Path) -> None:
    first, _ = place.ingest.add(ADA, "file:", "notes.txt", given)
    place.reader.read_names.clear()
    again, known = place.ingest.add(ADA, "file:", "other.txt", given)
    assert known
    assert again == first
    assert place.reader.read_names == []
    assert len(list(place.ingest.originals.kept())) == 1
    assert list(place.ingest.originals.half_done(-1)) == []


def test_two_owners_of_the_same_content_have_a_document_each(place: Place, given: Path) -> None:
    first, _ = place.ingest.add(ADA, "file:", "notes.txt", given)
    second, known = place.ingest.add("person:2", "file:", "notes.txt", given)
    assert not known
    assert second.id != first.id
    place.ingest.remove([first])
    assert place.ingest.originals.path(second.original).exists()
    assert place.catalogue.search_words(["monday"], ["person:2"], 5)


def test_the_same_content_at_the_same_time_is_one_document(place: Place, given: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: place.ingest.add(ADA, "file:", f"{n}.txt", given), range(8)))
    assert len({document.id for document, _ in found}) == 1
    assert [known for _, known in found].count(False) == 1
    assert place.catalogue.count([ADA]) == place.catalogue.chunk_count([ADA]) == 1
    assert len(list(place.ingest.originals.kept())) == 1


def test_two_processes_with_the_same_content_at_the_same_time_make_one_document(tmp_path: Path, given: Path) -> None:
    with Place(tmp_path) as one, Place(tmp_path) as other:
        both = threading.Barrier(2, timeout=20)

        def together(path: Path) -> None:
            both.wait()

        one.reader.before = other.reader.before = together
        with ThreadPoolExecutor(2) as pool:
            adding = [pool.submit(each.ingest.add, ADA, "file:", "a.txt", given) for each in (one, other)]
            found = [each.result()[0] for each in adding]
        assert len({document.id for document in found}) == 1
        assert one.catalogue.count([ADA]) == one.catalogue.chunk_count([ADA]) == 1
        (document,) = one.catalogue.documents([ADA])
        assert one.ingest.originals.path(document.original).exists()
        assert [kept.original for kept in one.ingest.originals.kept()] == [document.original]


def test_a_page_that_changed_takes_the_place_of_its_old_state(place: Place, given: Path) -> None:
    old, _ = place.ingest.add("shared", "url:https://example.org/", "page.html", given)
    given.write_text("# Notes\nThey go out on Tuesday.")
    new, known = place.ingest.add("shared", "url:https://example.org/", "page.html", given)
    assert (new.id, known) == (old.id, False)
    assert [kept.original for kept in place.ingest.originals.kept()] == [new.original]
    assert not place.ingest.originals.path(old.original).exists()
    assert place.catalogue.search_words(["tuesday"], ["shared"], 5)
    assert place.catalogue.search_words(["monday"], ["shared"], 5) == []


def test_progress_goes_through_all_stages_and_never_back(place: Place, given: Path) -> None:
    seen: list[tuple[float, str]] = []
    place.ingest.add(ADA, "file:", "a.txt", given, on_progress=lambda share, stage: seen.append((share, stage)))
    assert [share for share, _ in seen] == sorted(share for share, _ in seen)
    assert seen[0][0] == 0
    assert seen[-1] == (1.0, "indexing")
    assert list(dict.fromkeys(stage for _, stage in seen)) == ["reading", "splitting", "indexing"]


def test_one_cancelled_at_any_moment_leaves_nothing(place: Place, given: Path) -> None:
    given.write_text("\n".join(f"word{n} " * 20 for n in range(300)))
    asked = 0
    for moment in range(100):
        asked = 0

        def cancelled(moment: int = moment) -> bool:
            nonlocal asked
            asked += 1
            return asked > moment

        try:
            place.ingest.add(ADA, "file:", "a.txt", given, cancelled=cancelled)
        except Cancelled:
            assert nothing_of_it_is_left(place), moment
        else:
            break
    assert asked >= 8
    assert place.catalogue.count([ADA]) == 1


def test_a_large_document_that_is_cancelled_late_leaves_no_vectors(
    place: Place, given: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("knowledge.ingest._HELD", 100)
    given.write_text("\n".join(f"word{n} " * 20 for n in range(400)))
    with pytest.raises(Cancelled):
        place.ingest.add(ADA, "file:", "a.txt", given, cancelled=lambda: len(place.embedder.embedded) >= 300)
    assert place.catalogue.sweep_vectors(-1) == 0
    assert nothing_of_it_is_left(place)


def test_who_waits_for_a_turn_can_be_cancelled(place: Place, given: Path, tmp_path: Path) -> None:
    embedding, go_on = threading.Event(), threading.Event()

    def slowly(texts: Sequence[str]) -> None:
        embedding.set()
        assert go_on.wait(20)

    place.embedder.before = slowly
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(place.ingest.add, ADA, "file:", "a.txt", given)
        assert embedding.wait(20)
        asked = iter([False, False, True])
        with pytest.raises(Cancelled):
            place.ingest.add(ADA, "file:", "b.txt", given, cancelled=lambda: next(asked))
        go_on.set()
        assert first.result()[1] is False


def test_a_refused_document_leaves_nothing(place: Place, given: Path) -> None:
    given.write_bytes(b"\x00")
    with pytest.raises(DocumentDamaged):
        place.ingest.add(ADA, "file:", "a.txt", given)
    assert nothing_of_it_is_left(place)


def test_what_is_too_large_is_refused_before_it_is_copied(tmp_path: Path, given: Path) -> None:
    with Place(tmp_path, max_file_mb=0.00001) as place:
        with pytest.raises(DocumentTooLarge, match="max_file_mb"):
            place.ingest.add(ADA, "file:", "a.txt", given)
        assert not (place.data / "originals").exists()


def test_what_is_no_file_is_refused_and_does_not_hang(place: Place, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "none"):
        with pytest.raises(DocumentUnreadable):
            place.ingest.add(ADA, "file:", "a.txt", path)
    assert nothing_of_it_is_left(place)


def test_a_model_that_fails_leaves_nothing(place: Place, given: Path) -> None:
    def failing(texts: Sequence[str]) -> None:
        raise EmbeddingsFailed("the server is gone")

    place.embedder.before = failing
    with pytest.raises(EmbeddingsFailed):
        place.ingest.add(ADA, "file:", "a.txt", given)
    assert nothing_of_it_is_left(place)


@pytest.mark.parametrize("method", ["put", "put_vectors", "missing_vectors", "with_content"])
def test_a_catalogue_that_fails_leaves_nothing(
    place: Place, given: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def full(*_: object) -> None:
        raise StoreFull("There is no room left.")

    with monkeypatch.context() as patch, pytest.raises(StoreFull):
        patch.setattr(place.catalogue, method, full)
        place.ingest.add(ADA, "file:", "a.txt", given)
    assert nothing_of_it_is_left(place)


def test_a_person_may_have_so_many_documents_and_the_operator_any_number(tmp_path: Path) -> None:
    with Place(tmp_path, documents_per_person=2) as place:
        paths = [place.write(f"../{n}.txt", f"number{n}") for n in range(3)]
        for path in paths[:2]:
            place.ingest.add(ADA, "file:", path.name, path)
        with pytest.raises(TooManyDocuments, match="documents_per_person"):
            place.ingest.add(ADA, "file:", "2.txt", paths[2])
        assert len(list(place.ingest.originals.half_done(-1))) == 0
        assert place.ingest.add(ADA, "file:", "1.txt", paths[1])[1], "what is known is no addition"
        place.ingest.add("person:2", "file:", "2.txt", paths[2])
        for path in paths:
            place.ingest.add("shared", "file:", path.name, path)
        place.ingest.remove(place.catalogue.documents([ADA])[:1])
        place.ingest.add(ADA, "file:", "2.txt", paths[2])


def test_many_documents_at_a_time_do_not_pass_the_limit(tmp_path: Path) -> None:
    with Place(tmp_path, documents_per_person=3) as place:
        paths = [place.write(f"../{n}.txt", f"number{n}") for n in range(8)]

        def add(path: Path) -> bool:
            try:
                place.ingest.add(ADA, "file:", path.name, path)
            except TooManyDocuments:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(add, paths)).count(True) == 3
        assert place.catalogue.count([ADA]) == 3


def test_a_vector_that_goes_with_another_document_is_made_again(place: Place, given: Path) -> None:
    """Both have the same text; the other is removed after its vector was found and before it is used."""
    other, _ = place.ingest.add("person:2", "file:", "a.txt", given)
    put = place.catalogue.put

    def removed_first(*arguments: object) -> object:
        place.catalogue.put = put  # type: ignore[method-assign]
        place.ingest.remove([other])
        return put(*arguments)  # type: ignore[arg-type]

    place.catalogue.put = removed_first  # type: ignore[assignment, method-assign]
    document, _ = place.ingest.add(ADA, "file:", "a.txt", given)
    (chunk,) = place.catalogue.chunks_of(document.id)
    assert place.catalogue.missing_vectors([chunk.hash], place.embedder.id) == []


def test_removal_takes_the_original_along(place: Place, given: Path) -> None:
    document, _ = place.ingest.add(ADA, "file:", "a.txt", given)
    assert place.ingest.remove([document]) == 1
    assert nothing_of_it_is_left(place)
    assert place.ingest.remove([document]) == 0


@pytest.mark.parametrize("killed_at", ["put", "settle", "remove", "drop"])
def test_what_a_killed_process_left_is_set_right_later(
    place: Place, given: Path, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    if killed_at in {"remove", "drop"}:
        document, _ = place.ingest.add(ADA, "file:", "a.txt", given)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(place.ingest.originals, killed_at, killed) if killed_at in {"settle", "drop"} else patch.setattr(
            place.catalogue, killed_at, killed
        )
        patch.setattr(place.ingest, "_undo", lambda read: None)  # a killed process tidies nothing up
        if killed_at in {"remove", "drop"}:
            place.ingest.remove([document])
        else:
            place.ingest.add(ADA, "file:", "a.txt", given)
    place.ingest.tidy()
    place.ingest.tidy(-1)
    if killed_at in {"settle", "remove"}:
        (kept,) = place.ingest.originals.kept()
        assert place.catalogue.documents([ADA])[0].original == kept.original
    else:
        assert nothing_of_it_is_left(place)


def test_a_lost_catalogue_is_made_anew_from_the_originals(tmp_path: Path) -> None:
    with Place(tmp_path) as place:
        for owner in (ADA, "person:2", "group:telegram:-100"):
            for n in range(3):
                path = place.write("../given.txt", f"# Title {n}\n{owner} {n}")
                place.ingest.add(owner, "file:", f"{n}.txt", path, added_by=n)
        path = place.write("../page", "# Page\nfetched")
        place.ingest.add("shared", "url:https://example.org/", "page", path)
        removed = place.catalogue.documents(["person:2"])[0]
        place.ingest.remove([removed])
        owners = [ADA, "person:2", "group:telegram:-100", "shared"]
        before = {
            (each.owner, each.source, each.name, each.title, each.added_by, each.original, each.chunks)
            for each in place.catalogue.documents(owners)
        }
    for file in (tmp_path / "data" / "knowledge").glob("catalogue.db*"):
        file.unlink()
    with Place(tmp_path) as place:
        assert all(isinstance(each, Added) for each in place.ingest.restore())
        after = {
            (each.owner, each.source, each.name, each.title, each.added_by, each.original, each.chunks)
            for each in place.catalogue.documents(owners)
        }
        assert after == before
        assert all(isinstance(each, Known) for each in place.ingest.restore())


# Many


def test_many_documents_each_have_an_outcome(place: Place) -> None:
    items = [
        ToAdd("shared", f"folder:{n}.txt", f"{n}.txt", place.write(f"{n}.txt", f"number{n}" if n % 10 else b"\x00"))
        for n in range(100)
    ]
    found = outcomes(place.ingest.add_many(items))
    assert sorted(found) == sorted(item.name for item in items)
    refused = {name for name, each in found.items() if isinstance(each, Refused)}
    assert refused == {f"{n}.txt" for n in range(0, 100, 10)}
    assert place.catalogue.count(["shared"]) == 90
    again = outcomes(place.ingest.add_many(items))
    assert sum(isinstance(each, Known) for each in again.values()) == 90


def test_handed_over_documents_may_come_many_at_a_time_and_twice(place: Place) -> None:
    path = place.write("../a.txt", "the same")
    items = [ToAdd(ADA, "file:", f"{n}.txt", path) for n in range(5)]
    found = list(place.ingest.add_many(items))
    assert len(found) == 5
    assert {each.document.id for each in found if not isinstance(each, Refused)} == {1}
    assert place.catalogue.count([ADA]) == place.catalogue.chunk_count() == 1
    (document,) = place.catalogue.documents([ADA])
    assert [kept.original for kept in place.ingest.originals.kept()] == [document.original]
    assert list(place.ingest.originals.half_done(-1)) == []


def test_chunks_of_several_documents_are_embedded_together(place: Place) -> None:
    calls: list[int] = []
    place.embedder.before = lambda texts: calls.append(len(texts))
    items = [ToAdd("shared", f"folder:{n}.txt", f"{n}.txt", place.write(f"{n}.txt", f"number{n}")) for n in range(200)]
    for _ in place.ingest.add_many(items):
        pass
    assert sum(calls) == 200
    assert len(calls) < 50


def test_reading_does_not_run_far_ahead_of_embedding(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("knowledge.ingest._AHEAD_BYTES", 500)
    taken = 0

    def items() -> Iterator[ToAdd]:
        nonlocal taken
        for n in range(100):
            taken += 1
            yield ToAdd("shared", f"folder:{n}.txt", f"{n}.txt", place.write(f"{n}.txt", f"number{n} " + "x" * 92))

    most = 0
    for done, _ in enumerate(place.ingest.add_many(items())):
        most = max(most, taken - done)
    assert taken == 100
    assert most <= 64 + 6, "64 to be embedded, and 5 of 100 bytes with the one that makes it full"


def test_who_stops_listening_stops_the_work_and_leaves_no_originals(place: Place) -> None:
    items = [ToAdd(ADA, "file:", f"{n}.txt", place.write(f"../{n}.txt", f"number{n}")) for n in range(90)]
    found = place.ingest.add_many(items)
    next(found)
    found.close()
    for thread in threading.enumerate():
        if thread.name.startswith("read"):
            thread.join(10)
    documents = {each.original for each in place.catalogue.documents([ADA])}
    assert 0 < len(documents) < 90
    assert {kept.original for kept in place.ingest.originals.kept()} == documents
    assert list(place.ingest.originals.half_done(-1)) == []


def test_a_full_disk_ends_it_and_leaves_no_originals(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [ToAdd(ADA, "file:", f"{n}.txt", place.write(f"../{n}.txt", f"number{n}")) for n in range(40)]

    def full(*_: object) -> None:
        raise StoreFull("There is no room left.")

    with monkeypatch.context() as patch, pytest.raises(StoreFull):
        patch.setattr(place.catalogue, "put", full)
        list(place.ingest.add_many(items))
    for thread in threading.enumerate():
        if thread.name.startswith("read"):
            thread.join(10)
    assert no_originals(place), "their vectors stay a while, for the next try"


def test_what_is_wrong_with_all_documents_ends_it(place: Place) -> None:
    items = [ToAdd("shared", f"folder:{n}.txt", f"{n}.txt", place.write(f"{n}.txt", f"number{n}")) for n in range(9)]

    def failing(path: Path) -> None:
        raise StoreError("no more")

    place.reader.before = failing
    with pytest.raises(StoreError, match="no more"):
        list(place.ingest.add_many(items))


def test_the_chunks_embedded_are_told_while_it_goes_on(place: Place) -> None:
    items = [ToAdd("shared", f"folder:{n}.txt", f"{n}.txt", place.write(f"{n}.txt", f"number{n}")) for n in range(100)]
    told: list[int] = []
    for _ in place.ingest.add_many(items, told.append):
        pass
    assert told == sorted(told)
    assert told[-1] == 100


def test_a_document_refused_by_the_reader_is_the_readers_word(place: Place) -> None:
    def refusing(path: Path) -> None:
        raise DocumentRefused("a.txt", "it is written in invisible ink")

    place.reader.before = refusing
    item = ToAdd("shared", "folder:a.txt", "a.txt", place.write("a.txt", "text"))
    (outcome,) = place.ingest.add_many([item])
    assert isinstance(outcome, Refused)
    assert str(outcome.error) == "a.txt: it is written in invisible ink"
