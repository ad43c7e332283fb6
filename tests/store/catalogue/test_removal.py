"""What is removed is gone: for every way of reading, and from the bytes of the files."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from store.catalogue.catalogue import Catalogue
from tests.store.catalogue.made import MODEL, add, bytes_of, found, hash_of, ids, vector_of

SECRET = "zanzibarsecret"
ADA = "person:1"


def fill(catalogue: Catalogue) -> None:
    """Enough around it that rows move from page to page, and words from segment to segment."""
    for number in range(20):
        owner = ADA if number % 2 else "shared"
        add(catalogue, owner, f"d{number}", [f"word{number} filler{each} " * 20 for each in range(10)])


def stored(text: str) -> bytes:
    return vector_of(hash_of(text)).astype("<f2").tobytes()


def test_a_removed_text_is_in_no_file_any_more(catalogue: Catalogue, folder: Path) -> None:
    fill(catalogue)
    text = f"the {SECRET} is here"
    kept = add(catalogue, ADA, f"{SECRET}.txt", [text, f"{SECRET} {SECRET}"], notes=(SECRET,))
    fill(catalogue)
    add(catalogue, ADA, f"{SECRET}.txt", [text, "something else"], notes=(SECRET,))
    assert SECRET.encode() in bytes_of(folder)
    assert stored(text) in bytes_of(folder)
    assert catalogue.remove([kept.id]) == 1
    assert catalogue.erase_traces()
    assert SECRET.encode() not in bytes_of(folder).lower()
    assert stored(text) not in bytes_of(folder)
    assert catalogue.check() == []


def test_a_removed_owner_leaves_nothing_and_takes_nothing_else_along(catalogue: Catalogue, folder: Path) -> None:
    kept = add(catalogue, "person:2", "other", ["same", "theirs"])
    for number in range(3):
        add(catalogue, ADA, f"{SECRET}{number}", ["same", f"{SECRET} {number}"])
    catalogue.note_refusal(ADA, "file:x", SECRET, "", 0, 0, "DocumentEmpty", f"{SECRET} is empty")
    assert catalogue.remove_of(ADA) == 3
    catalogue.done([each.id for each in catalogue.pending(100)])
    assert catalogue.erase_traces()
    assert SECRET.encode() not in bytes_of(folder)
    assert catalogue.refusals(ADA) == {}
    assert found(catalogue, f"same theirs {SECRET}", ["person:2", ADA]) == ["same", "theirs"]
    assert set(catalogue.vectors([hash_of("same"), hash_of("theirs")], MODEL)) == {hash_of("same"), hash_of("theirs")}
    assert [each[0] for each in catalogue.chunk_keys()] == ids(catalogue, kept)
    assert catalogue.remove_of(ADA) == catalogue.remove_of("nobody") == 0


def test_what_a_person_added_goes_whosever_it_is(catalogue: Catalogue) -> None:
    for owner, name, added_by in ((ADA, "a", 1), ("group:x:1", "b", 1), ("group:x:1", "c", 2), ("shared", "d", None)):
        add(catalogue, owner, name, [f"word {name}"], added_by=added_by)
    assert catalogue.remove_added_by(1) == 2
    left = found(catalogue, "word", [ADA, "group:x:1", "shared"])
    assert sorted(left) == ["word c", "word d"]
    assert catalogue.remove_added_by(1) == 0


def test_removing_the_same_twice_removes_it_once(catalogue: Catalogue) -> None:
    kept = add(catalogue, ADA, "a", ["x"])
    assert catalogue.remove([kept.id, kept.id, kept.id + 1]) == 1
    assert catalogue.remove([kept.id]) == 0


def test_closing_waits_for_the_erasing(folder: Path) -> None:
    with Catalogue(folder) as catalogue:
        fill(catalogue)
        catalogue.remove([add(catalogue, ADA, "a", [SECRET]).id])
    assert SECRET.encode() not in bytes_of(folder)


def test_what_one_process_could_not_erase_the_next_does(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Catalogue(folder, busy_timeout_s=0.1) as catalogue, Catalogue(folder) as reader:
        fill(catalogue)
        kept = add(catalogue, ADA, "a", [SECRET])
        with reader._database.reading() as reading, caplog.at_level(logging.WARNING, "familiar"):
            assert reading.exec_driver_sql("SELECT count(*) FROM chunk").scalar_one() > 0
            catalogue.remove([kept.id])
            assert not catalogue.erase_traces()
        assert "may still stand in unused parts" in caplog.text
        assert SECRET not in caplog.text
        assert SECRET.encode() in bytes_of(folder)
    with Catalogue(folder):
        pass
    assert SECRET.encode() not in bytes_of(folder)


def test_a_removal_while_another_is_being_erased_is_not_forgotten(
    catalogue: Catalogue, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (add(catalogue, ADA, name, [f"{SECRET} {name}"]) for name in "ab")
    database = catalogue._database
    empty_log = database.empty_log

    def remove_another_at_the_last_moment(*, thoroughly: bool) -> bool:
        emptied = empty_log(thoroughly=thoroughly)
        monkeypatch.undo()
        catalogue.remove([second.id])
        return emptied

    monkeypatch.setattr(catalogue._eraser, "begin", lambda: None)
    monkeypatch.setattr(database, "empty_log", remove_another_at_the_last_moment)
    catalogue.remove([first.id])
    assert catalogue.erase_traces()
    assert catalogue.erase_traces()
    assert SECRET.encode() not in bytes_of(folder)
