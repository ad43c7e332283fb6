"""The catalogue after a sync is what the folder is."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from knowledge.errors import EmbeddingsFailed, IndexBusy
from knowledge.lexical import terms
from knowledge.reading import Reader
from knowledge.sync import FolderMissing, SyncProgress, SyncReport
from store.errors import StoreFull
from tests.knowledge.taking_in import Place


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Place(tmp_path) as place:
        yield place


def sources(place: Place) -> list[str]:
    return sorted(place.catalogue.by_source("shared", ""))


def counts(report: SyncReport) -> tuple[int, int, int, int, int]:
    return report.added, report.changed, report.renamed, report.removed, report.unchanged


def test_what_is_new_goes_in_with_all_its_chunks(place: Place) -> None:
    place.write("rules/house.md", "# House rules\nNo noise after ten.\nThe bins go out on Monday.")
    place.write("入门.txt", "图书馆早上九点开门。")
    report = place.sync.sync()
    assert counts(report) == (2, 0, 0, 0, 0)
    assert report.chunks == report.embedded == 2
    assert sources(place) == ["folder:rules/house.md", "folder:入门.txt"]
    (document,) = place.catalogue.by_source("shared", "folder:rules/").values()
    assert (document.title, document.name, document.owner) == ("House rules", "house.md", "shared")
    (chunk,) = place.catalogue.chunks_of(document.id)
    assert chunk.text == "No noise after ten.\n\nThe bins go out on Monday."
    assert [hit for hit, _ in place.catalogue.search_words(["monday"], ["shared"], 5)] == [chunk.id]


def test_an_unchanged_folder_is_not_read_again(place: Place) -> None:
    place.write("a.txt", "one")
    place.write("b.txt", "two")
    place.sync.sync()
    place.reader.read_names.clear()
    place.reader.before = lambda path: pytest.fail("it was read")
    assert counts(place.sync.sync()) == (0, 0, 0, 0, 2)


def test_a_file_with_another_time_and_the_same_content_is_not_read(place: Place) -> None:
    path = place.write("a.txt", "one")
    place.sync.sync()
    place.reader.read_names.clear()
    os.utime(path, (1_650_000_000, 1_650_000_000))
    assert counts(place.sync.sync()) == (0, 0, 0, 0, 1)
    assert place.reader.read_names == []
    assert place.catalogue.by_source("shared", "")["folder:a.txt"].mtime_ns == 1_650_000_000 * 10**9


def test_a_changed_file_is_replaced_and_only_its_new_chunks_are_embedded(place: Place) -> None:
    stays = "\n".join(f"word{n} " * 20 for n in range(5))
    place.write("a.txt", stays + "\n" + "old " * 20)
    place.sync.sync()
    place.embedder.embedded.clear()
    place.write("a.txt", stays + "\n" + "new " * 20)
    report = place.sync.sync()
    assert counts(report) == (0, 1, 0, 0, 0)
    assert report.embedded == len(place.embedder.embedded) == 1
    assert "new new" in place.embedder.embedded[0]
    assert place.catalogue.search_words(["old"], ["shared"], 5) == []


def test_a_change_within_one_tick_of_the_clock_and_of_the_same_size_is_seen(place: Place) -> None:
    path = place.write("a.txt", "one", age_s=0)
    when = path.stat().st_mtime_ns
    place.sync.sync()
    path.write_text("two")
    os.utime(path, ns=(when, when))
    assert counts(place.sync.sync()) == (0, 1, 0, 0, 0)
    assert place.catalogue.search_words(["two"], ["shared"], 5)


def test_what_is_gone_leaves_with_its_words_and_vectors(place: Place) -> None:
    place.write("a.txt", "secretword")
    place.write("b.txt", "other")
    place.sync.sync()
    hashes = [hash for _, _, hash in place.catalogue.chunk_keys()]
    (place.folder / "a.txt").unlink()
    assert counts(place.sync.sync()) == (0, 0, 0, 1, 1)
    assert sources(place) == ["folder:b.txt"]
    assert place.catalogue.search_words(["secretword"], ["shared"], 5) == []
    assert len(place.catalogue.missing_vectors(hashes, place.embedder.id)) == 1


def test_a_moved_file_is_neither_read_nor_embedded_and_keeps_its_number(place: Place) -> None:
    place.write("a.txt", "one")
    place.sync.sync()
    before = place.catalogue.by_source("shared", "")["folder:a.txt"]
    place.reader.read_names.clear()
    place.embedder.embedded.clear()
    (place.folder / "sub").mkdir()
    (place.folder / "a.txt").rename(place.folder / "sub" / "a.txt")
    assert counts(place.sync.sync()) == (0, 0, 1, 0, 0)
    assert place.reader.read_names == place.embedder.embedded == []
    assert place.catalogue.by_source("shared", "")["folder:sub/a.txt"].id == before.id


def test_a_renamed_file_with_a_title_of_its_own_is_not_embedded_again(place: Place) -> None:
    place.write("a.txt", "# Title\none\ntwo")
    place.sync.sync()
    place.embedder.embedded.clear()
    (place.folder / "a.txt").rename(place.folder / "b.txt")
    report = place.sync.sync()
    assert (counts(report), report.embedded) == ((0, 0, 1, 0, 0), 0)
    assert place.embedder.embedded == []
    assert sources(place) == ["folder:b.txt"]


def test_a_renamed_file_whose_name_is_its_title_gets_the_new_title(place: Place) -> None:
    place.write("a.txt", "one")
    place.sync.sync()
    (place.folder / "a.txt").rename(place.folder / "b.txt")
    assert counts(place.sync.sync()) == (0, 0, 1, 0, 0)
    (document,) = place.catalogue.documents(["shared"])
    assert (document.title, document.source) == ("b", "folder:b.txt")


def test_of_several_copies_as_many_move_as_there_are_new_places(place: Place) -> None:
    for name in ("a/x.txt", "b/x.txt", "c/y.txt"):
        place.write(name, "the same")
    place.sync.sync()
    for name in ("a/x.txt", "b/x.txt"):
        (place.folder / name).unlink()
    place.write("d/x.txt", "the same")
    assert counts(place.sync.sync()) == (0, 0, 1, 1, 1)
    assert sources(place) == ["folder:c/y.txt", "folder:d/x.txt"]


def test_a_file_that_is_overwritten_by_a_moved_one_is_that_one(place: Place) -> None:
    place.write("a/x.txt", "first")
    place.write("b/x.txt", "other")
    place.sync.sync()
    (place.folder / "a/x.txt").replace(place.folder / "b/x.txt")
    assert counts(place.sync.sync()) == (0, 1, 0, 1, 0)
    assert sources(place) == ["folder:b/x.txt"]
    assert place.catalogue.search_words(["first"], ["shared"], 5)
    assert place.catalogue.search_words(["other"], ["shared"], 5) == []


def test_two_files_that_change_places_have_each_others_content(place: Place) -> None:
    place.write("a.txt", "# One\nfirst")
    place.write("b.txt", "# Two\nsecond")
    place.sync.sync()
    place.write("a.txt", "# Two\nsecond")
    place.write("b.txt", "# One\nfirst")
    assert counts(place.sync.sync()) == (0, 2, 0, 0, 0)
    titles = {source: each.title for source, each in place.catalogue.by_source("shared", "").items()}
    assert titles == {"folder:a.txt": "Two", "folder:b.txt": "One"}
    assert place.catalogue.missing_vectors([key[2] for key in place.catalogue.chunk_keys()], place.embedder.id) == []


def test_a_bad_file_is_reported_by_name_and_the_rest_goes_on(place: Place) -> None:
    place.write("bad.txt", b"\x00\x01")
    place.write("empty.txt", "")
    place.write("good.txt", "fine")
    report = place.sync.sync()
    assert report.refused == [("bad.txt", "it is not text"), ("empty.txt", "there is no text in it")]
    assert sources(place) == ["folder:good.txt"]


def test_a_refused_file_is_told_again_but_read_again_only_when_it_changed(place: Place) -> None:
    place.write("bad.txt", b"\x00\x01")
    place.sync.sync()
    place.reader.read_names.clear()
    assert place.sync.sync().refused == [("bad.txt", "it is not text")]
    assert place.reader.read_names == []
    place.write("bad.txt", "mended")
    report = place.sync.sync()
    assert (report.added, report.refused) == (1, [])
    assert place.catalogue.refusals("shared") == {}


def test_a_refused_file_is_tried_again_with_other_limits(tmp_path: Path) -> None:
    with Place(tmp_path, max_file_mb=0.0001) as strict:
        strict.write("long.txt", "word " * 100)
        ((name, reason),) = strict.sync.sync().refused
        assert name == "long.txt"
        assert "knowledge.max_file_mb" in reason
    with Place(tmp_path) as place:
        assert counts(place.sync.sync()) == (1, 0, 0, 0, 0)


def test_a_document_whose_file_became_bad_leaves(place: Place) -> None:
    place.write("a.txt", "good")
    place.sync.sync()
    place.write("a.txt", b"\x00")
    report = place.sync.sync()
    assert (report.removed, report.refused) == (1, [("a.txt", "it is not text")])
    assert sources(place) == []


def test_a_refused_file_that_is_gone_is_forgotten(place: Place) -> None:
    place.write("bad.txt", b"\x00")
    place.write("a.txt", "good")
    place.sync.sync()
    (place.folder / "bad.txt").unlink()
    assert place.sync.sync().refused == []
    assert place.catalogue.refusals("shared") == {}


def test_other_chunk_sizes_take_everything_in_anew(tmp_path: Path) -> None:
    with Place(tmp_path) as place:
        place.write("a.txt", "\n".join("word " * 20 for _ in range(4)))
        place.sync.sync()
        before = place.catalogue.chunk_count()
    with Place(tmp_path, chunk_tokens=64) as place:
        assert counts(place.sync.sync()) == (0, 1, 0, 0, 0)
        assert place.catalogue.chunk_count() < before
        assert counts(place.sync.sync()) == (0, 0, 0, 0, 1)


def test_an_empty_folder_removes_nothing_unless_it_is_said(place: Place) -> None:
    place.write("a.txt", "one")
    place.sync.sync()
    (place.folder / "a.txt").unlink()
    with pytest.raises(FolderMissing, match="allow-empty"):
        place.sync.sync()
    assert sources(place) == ["folder:a.txt"]
    assert counts(place.sync.sync(allow_empty=True)) == (0, 0, 0, 1, 0)
    assert sources(place) == []


def test_a_missing_folder_is_told_and_removes_nothing(place: Place) -> None:
    place.write("a.txt", "one")
    place.sync.sync()
    place.folder.rename(place.folder.parent / "elsewhere")
    with pytest.raises(FolderMissing, match="documents"):
        place.sync.sync()
    place.folder.write_text("a file")
    with pytest.raises(FolderMissing, match="Not a directory"):
        place.sync.sync(allow_empty=True)
    assert sources(place) == ["folder:a.txt"]


def test_documents_of_a_folder_that_cannot_be_read_stay(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write("closed/a.txt", "one")
    place.write("closed2.txt", "two")
    place.write("b.txt", "three")
    place.sync.sync()
    (place.folder / "closed2.txt").unlink()
    scandir = os.scandir

    def refusing(path: Path) -> object:
        if path == place.folder / "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    report = place.sync.sync()
    assert report.refused == [("closed", "the folder cannot be read (Permission denied)")]
    assert sources(place) == ["folder:b.txt", "folder:closed/a.txt"]


def test_documents_behind_a_link_to_nothing_stay(place: Place, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "a.txt").write_text("one")
    (place.folder / "disk").symlink_to(tmp_path / "disk")
    place.write("b.txt", "two")
    place.sync.sync()
    (tmp_path / "disk").rename(tmp_path / "unmounted")
    report = place.sync.sync()
    assert [name for name, _ in report.refused] == ["disk"]
    assert sources(place) == ["folder:b.txt", "folder:disk/a.txt"]


def test_links_in_a_circle_end_and_each_folder_counts_once(place: Place) -> None:
    place.write("sub/a.txt", "one")
    (place.folder / "sub" / "up").symlink_to(place.folder)
    (place.folder / "again").symlink_to(place.folder / "sub")
    (place.folder / "self").symlink_to(place.folder / "self")
    place.sync.sync()
    assert sources(place) == ["folder:sub/a.txt"]


def test_hidden_and_unfinished_files_are_passed_over(place: Place) -> None:
    for name in (".hidden", "~$report.docx", ".git/config", "a.txt.swp", "b.pdf.part", "c.tmp", "d.txt~", "Thumbs.db"):
        place.write(name, "no document")
    os.mkfifo(place.folder / "pipe")
    place.write("a.txt", "one")
    assert counts(place.sync.sync()) == (1, 0, 0, 0, 0)


def test_the_data_folder_below_the_documents_is_not_taken_in(tmp_path: Path) -> None:
    with Place(tmp_path) as place:
        place.write("a.txt", "one")
        place.ingest.add("person:1", "file:", "mine.txt", place.write("../mine.txt", "private"))
        (place.folder / "data").symlink_to(tmp_path / "data")
        place.sync.sync()
        assert sources(place) == ["folder:a.txt"]


@pytest.mark.parametrize(
    "name", [b"caf\xe9.txt", b"two\nlines.txt", "🐈 и 猫.txt".encode(), b"x" * 251 + b".txt", b"a\\b %s?.txt"]
)
def test_any_file_name_is_taken_in_and_leaves_again(place: Place, name: bytes) -> None:
    path = os.path.join(os.fsencode(place.folder), name)  # noqa: PTH118
    with open(path, "w") as file:  # noqa: PTH123
        file.write("found")
    os.utime(path, (1_600_000_000, 1_600_000_000))
    assert counts(place.sync.sync()) == (1, 0, 0, 0, 0)
    assert counts(place.sync.sync()) == (0, 0, 0, 0, 1)
    (document,) = place.catalogue.documents(["shared"])
    assert document.name.isprintable()
    os.unlink(path)  # noqa: PTH108
    assert counts(place.sync.sync(allow_empty=True)) == (0, 0, 0, 1, 0)


def test_names_that_look_the_same_when_they_are_not_text_are_two_documents(place: Place) -> None:
    for name in (b"caf\xe9.txt", b"caf\xe8.txt"):
        with open(os.path.join(os.fsencode(place.folder), name), "w") as file:  # noqa: PTH118, PTH123
            file.write("found")
    assert counts(place.sync.sync()) == (2, 0, 0, 0, 0)


def test_a_file_that_changes_while_it_is_read_is_left_for_the_next_sync(place: Place) -> None:
    place.write("b.txt", "fine")
    place.write("a.txt", "first")
    place.sync.sync()
    place.write("a.txt", "second")
    place.reader.before = lambda path: path.open("a").write(" and more") if path.name == "a.txt" else None  # type: ignore[assignment]
    report = place.sync.sync()
    assert [name for name, _ in report.refused] == ["a.txt"]
    assert place.catalogue.search_words(["first"], ["shared"], 5), "what is known of it stays"
    place.reader.before = lambda path: None
    assert counts(place.sync.sync()) == (0, 1, 0, 0, 1)
    assert place.catalogue.search_words(["second"], ["shared"], 5)


def test_a_file_that_vanishes_while_it_is_read_stops_nothing(place: Place) -> None:
    place.write("a.txt", "one")
    place.write("b.txt", "two")
    place.reader.before = lambda path: path.unlink() if path.name == "a.txt" else None
    place.sync.sync()
    assert sources(place) == ["folder:b.txt"]


def test_a_reader_with_a_fault_stops_nothing_and_is_tried_again(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.write("a.txt", "one")
    place.write("b.txt", "two")

    def failing(path: Path) -> None:
        if path.name == "a.txt":
            raise ZeroDivisionError("a fault")

    place.reader.before = failing
    ((name, reason),) = place.sync.sync().refused
    reference = reason.rsplit(" ", 1)[1]
    assert name == "a.txt"
    assert reference in caplog.text
    assert "ZeroDivisionError" in caplog.text
    place.reader.before = lambda path: None
    assert counts(place.sync.sync()) == (1, 0, 0, 0, 1)


def test_a_second_sync_at_the_same_time_is_told_which_process_is_at_it(place: Place) -> None:
    place.write("a.txt", "one")
    told: list[str] = []

    def again(_: object) -> None:
        with pytest.raises(IndexBusy) as error:
            place.sync.sync()
        told.append(str(error.value))

    place.embedder.before = again
    place.sync.sync()
    assert f"process {os.getpid()}" in told[0]
    place.embedder.before = lambda texts: None
    place.sync.sync()


def test_what_fails_for_every_document_ends_the_sync_and_keeps_what_was_done(place: Place) -> None:
    for n in range(200):
        place.write(f"{n:03}.txt", f"# T\nnumber{n}")
    calls = 0

    def failing(texts: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise EmbeddingsFailed("the server is gone")

    place.embedder.before = failing
    with pytest.raises(EmbeddingsFailed):
        place.sync.sync()
    done = len(sources(place))
    assert 0 < done < 200
    place.embedder.before = lambda texts: None
    assert counts(place.sync.sync()) == (200 - done, 0, 0, 0, done)


def test_a_full_disk_ends_the_sync_with_a_clear_error(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write("a.txt", "one")

    def full(*_: object) -> None:
        raise StoreFull("There is no room left.")

    with monkeypatch.context() as patch, pytest.raises(StoreFull):
        patch.setattr(place.catalogue, "put", full)
        place.sync.sync()
    assert counts(place.sync.sync()) == (1, 0, 0, 0, 0)


def test_progress_goes_from_nothing_to_all(place: Place) -> None:
    for n in range(20):
        place.write(f"{n}.txt", f"number{n}")
    seen: list[SyncProgress] = []
    place.sync.sync(on_progress=seen.append)
    assert (seen[0].documents_done, seen[0].documents_total) == (0, 20)
    assert (seen[-1].documents_done, seen[-1].documents_total, seen[-1].chunks) == (20, 20, 20)
    assert [each.documents_done for each in seen] == sorted(each.documents_done for each in seen)
    assert seen[-1].seconds_left == 0


def test_what_persons_handed_over_is_not_touched(place: Place) -> None:
    place.ingest.add("person:1", "file:", "mine.txt", place.write("../mine.txt", "private"))
    place.ingest.add("shared", "url:https://example.org/", "page", place.write("../page", "fetched"))
    place.write("a.txt", "one")
    place.sync.sync()
    (place.folder / "a.txt").unlink()
    place.sync.sync(allow_empty=True)
    assert place.catalogue.count(["person:1"]) == 1
    assert sources(place) == ["url:https://example.org/"]


def test_no_thread_is_left(place: Place) -> None:
    before = threading.active_count()
    place.write("a.txt", "one")
    place.sync.sync()
    for thread in threading.enumerate():
        if thread.name.startswith("read"):
            thread.join(5)
    assert threading.active_count() == before


def test_files_of_several_formats_are_read_by_the_real_reader(tmp_path: Path) -> None:
    with Place(tmp_path) as place, Reader(place.knowledge, workers=1) as reader:
        place.ingest.preparation.reader = reader
        place.write("rules.md", "# House rules\n\n## Noise\n\nNo noise after ten.\n\n## Bins\n\nThey go out on Monday.")
        place.write(
            "opening.html", "<title>Hours</title><h1>Hours</h1><p>The library opens at nine in the morning.</p>"
        )
        place.write("prices.csv", "thing,price\nbread,2\nmilk,1\n")
        place.write("broken.docx", b"PK\x03\x04 and then nothing")
        report = place.sync.sync()
        assert report.added == 3
        assert [name for name, _ in report.refused] == ["broken.docx"]
        for question, source in (("monday", "rules.md"), ("library", "opening.html"), ("milk", "prices.csv")):
            hits = place.catalogue.search_words(terms(question), ["shared"], 5)
            found = place.catalogue.chunks([hit for hit, _ in hits], ["shared"]).values()
            assert {chunk.source for chunk in found} == {f"folder:{source}"}
        assert counts(place.sync.sync()) == (0, 0, 0, 0, 3)
