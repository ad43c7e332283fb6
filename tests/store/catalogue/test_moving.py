"""What was one owner's becomes another's: for whoever reads, for the vector index, and for who comes too late."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from store.catalogue import moving
from store.catalogue.catalogue import Catalogue
from store.catalogue.owners import SHARED, group
from store.errors import StoreError
from tests.store.catalogue.made import MODEL, add, bytes_of, found, hash_of, ids, texts

OLD, NEW = group("telegram", "-100"), group("telegram", "-200")


def applied(catalogue: Catalogue) -> None:
    """The vector index has done all that was to be done."""
    catalogue.done([each.id for each in catalogue.pending(1000)])


def test_the_new_owner_reads_it_all_and_the_old_one_nothing(catalogue: Catalogue) -> None:
    rules = add(catalogue, OLD, "rules", ["knock twice", "twice is enough"], added_by=7)
    add(catalogue, OLD, "songs", ["la la"])
    before = catalogue.search_words(["twice"], [OLD], 10)
    assert catalogue.move(OLD, NEW) == 2
    assert found(catalogue, "twice la", [OLD]) == []
    assert (catalogue.count([OLD]), catalogue.chunk_count([OLD]), catalogue.owners()) == (0, 0, [NEW])
    assert sorted(found(catalogue, "twice la", [NEW])) == ["knock twice", "la la", "twice is enough"]
    assert [score for _, score in catalogue.search_words(["twice"], [NEW], 10)] == [score for _, score in before]
    moved = catalogue.document(rules.id)
    assert (moved.owner, moved.added_by, moved.chunks) == (NEW, 7, 2)
    assert texts(catalogue, moved) == ["knock twice", "twice is enough"], "in their order, under the same number"
    assert catalogue.check() == []


def test_the_vector_index_takes_it_from_the_one_and_gives_it_to_the_other(catalogue: Catalogue) -> None:
    kept = add(catalogue, OLD, "rules", ["a", "b"])
    old = ids(catalogue, kept)
    applied(catalogue)
    catalogue.move(OLD, NEW)
    new = ids(catalogue, kept)
    assert not set(new) & set(old)
    to_do = {(each.chunk_id, each.action, each.owner, each.hash) for each in catalogue.pending(10)}
    assert to_do == {
        (old[0], "delete", OLD, hash_of("a")),
        (old[1], "delete", OLD, hash_of("b")),
        (new[0], "put", NEW, hash_of("a")),
        (new[1], "put", NEW, hash_of("b")),
    }
    assert catalogue.pending_puts([NEW], MODEL)[0].tolist() == new
    assert catalogue.pending_puts([OLD], MODEL)[0].tolist() == []
    assert set(catalogue.vectors([hash_of("a"), hash_of("b")], MODEL)) == {hash_of("a"), hash_of("b")}


def test_what_the_index_never_had_is_only_put_for_the_new_owner(catalogue: Catalogue) -> None:
    kept = add(catalogue, OLD, "rules", ["a"])
    being_put = [each.id for each in catalogue.pending(10)]
    catalogue.move(OLD, NEW)
    catalogue.done(being_put)
    assert [(each.action, each.owner) for each in catalogue.pending(10)] == [("put", NEW), ("delete", OLD)]
    assert ids(catalogue, kept) == [catalogue.pending(1)[0].chunk_id]


def test_twice_is_once_and_an_unknown_owner_has_nothing(catalogue: Catalogue) -> None:
    add(catalogue, OLD, "rules", ["a"])
    assert [catalogue.move(OLD, NEW) for _ in range(2)] == [1, 0]
    assert catalogue.move("group:telegram:-999", NEW) == 0
    assert catalogue.move(NEW, NEW) == 0
    assert found(catalogue, "a", [NEW]) == ["a"]
    assert catalogue.check() == []


def test_what_the_new_owner_has_of_the_same_source_stays_with_each(catalogue: Catalogue) -> None:
    add(catalogue, NEW, "rules", ["the new ones"])
    add(catalogue, OLD, "rules", ["the old ones"])
    add(catalogue, OLD, "songs", ["the songs"])
    assert catalogue.move(OLD, NEW) == 1
    assert sorted(found(catalogue, "the", [NEW])) == ["the new ones", "the songs"]
    assert found(catalogue, "the", [OLD]) == ["the old ones"]
    assert catalogue.check() == []


def test_nobody_elses_documents_move(catalogue: Catalogue) -> None:
    for owner in (SHARED, "person:1", group("telegram", "-1000"), group("telegram", "-10"), OLD):
        add(catalogue, owner, "d", [f"word {owner}"])
    catalogue.move(OLD, NEW)
    assert found(catalogue, "word", [NEW]) == [f"word {OLD}"]
    assert catalogue.count([SHARED, "person:1", group("telegram", "-1000"), group("telegram", "-10")]) == 4


def test_who_comes_too_late_learns_where_things_are(catalogue: Catalogue, folder: Path) -> None:
    assert catalogue.moved_to(OLD) is None
    catalogue.move(OLD, NEW)
    with Catalogue(folder) as another_process:
        assert another_process.moved_to(OLD) == NEW
    third = group("telegram", "-300")
    catalogue.move(NEW, third)
    assert (catalogue.moved_to(OLD), catalogue.moved_to(third)) == (third, None)


@pytest.mark.parametrize("owner", ["a", "a\x00", "\ud800", "组", "🦊", ""])
def test_moving_there_and_back_leads_in_no_circle(catalogue: Catalogue, owner: str) -> None:
    add(catalogue, owner, "d", ["word"])
    as_stored = owner.replace("\x00", "\ufffd").replace("\ud800", "\ufffd")
    for _ in range(2):
        catalogue.move(owner, NEW)
        assert (catalogue.moved_to(owner), catalogue.moved_to(NEW)) == (NEW, None)
        catalogue.move(NEW, owner)
        assert (catalogue.moved_to(owner), catalogue.moved_to(NEW)) == (None, as_stored)
        catalogue.move(owner, as_stored)
        assert catalogue.moved_to(owner) is None
    assert found(catalogue, "word", [owner]) == ["word"]
    assert catalogue.check() == []


def test_a_move_that_fails_half_way_moves_nothing(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    add(catalogue, OLD, "rules", ["a", "b"])
    before = catalogue.pending(10), catalogue.chunk_keys()

    def fail(*_: object) -> None:
        raise StoreError("no room")

    with monkeypatch.context() as patched, pytest.raises(StoreError):
        patched.setattr(moving, "drop_chunks", fail)
        catalogue.move(OLD, NEW)
    assert (catalogue.pending(10), catalogue.chunk_keys()) == before
    assert catalogue.moved_to(OLD) is None
    assert found(catalogue, "a b", [OLD]) == ["a", "b"]
    assert catalogue.move(OLD, NEW) == 1


def test_moving_while_others_add_loses_nothing(catalogue: Catalogue) -> None:
    def fill() -> None:
        for number in range(15):
            add(catalogue, OLD, f"d{number}", [f"word {number}"])

    adding = threading.Thread(target=fill)
    adding.start()
    while adding.is_alive():
        catalogue.move(OLD, NEW)
    adding.join()
    catalogue.move(OLD, NEW)
    assert sorted(found(catalogue, "word", [NEW])) == sorted(f"word {number}" for number in range(15))
    assert catalogue.check() == []


def test_what_was_moved_and_removed_is_in_no_file_any_more(catalogue: Catalogue, folder: Path) -> None:
    add(catalogue, OLD, "rules", ["the zanzibarsecret is here"])
    catalogue.move(OLD, NEW)
    assert catalogue.remove_of(NEW) == 1
    assert catalogue.erase_traces()
    assert b"zanzibarsecret" not in bytes_of(folder)
