"""What belongs to an owner goes over to another whole: documents, originals, and what somebody is just adding."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from knowledge.moving import move
from knowledge.originals import Originals
from store.catalogue.catalogue import Catalogue
from store.catalogue.owners import SHARED, group
from store.errors import StoreFull
from tests.knowledge.taking_in import Place

OLD, NEW = group("telegram", "-100"), group("telegram", "-200")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Place(tmp_path) as place:
        yield place


def add(place: Place, owner: str, name: str, text: str) -> int:
    path = place.data / name
    path.write_text(text)
    return place.ingest.add(owner, "file:", name, path, added_by=7)[0].id


def moved(place: Place, owner: str = OLD, to: str = NEW) -> int:
    return move(place.catalogue, place.ingest.originals, owner, to)


def names(place: Place, owner: str) -> list[str]:
    return sorted(document.name for document in place.catalogue.documents([owner]))


def kept(place: Place) -> list[tuple[str, str]]:
    return sorted((each.owner, each.name) for each in place.ingest.originals.kept())


def test_documents_and_originals_are_the_new_owners(place: Place) -> None:
    add(place, OLD, "rules.txt", "Knock twice.")
    add(place, OLD, "songs.txt", "La la la.")
    add(place, SHARED, "house.txt", "Everybody knows.")
    assert moved(place) == 2
    assert (names(place, OLD), names(place, NEW)) == ([], ["rules.txt", "songs.txt"])
    assert kept(place) == [(NEW, "rules.txt"), (NEW, "songs.txt"), (SHARED, "house.txt")]
    assert moved(place) == moved(place, "group:telegram:-999") == moved(place, NEW, NEW) == 0
    assert names(place, NEW) == ["rules.txt", "songs.txt"]


def test_a_catalogue_made_anew_from_the_originals_knows_the_new_owner(place: Place, tmp_path: Path) -> None:
    add(place, OLD, "rules.txt", "Knock twice.")
    moved(place)
    place.catalogue.close()
    for file in place.data.glob("catalogue.db*"):
        file.unlink()
    with Place(tmp_path) as anew:
        assert len(list(anew.ingest.restore())) == 1
        assert (names(anew, OLD), names(anew, NEW)) == ([], ["rules.txt"])


def test_what_both_have_is_kept_once_with_one_original(place: Place) -> None:
    add(place, OLD, "rules.txt", "Knock twice.")
    add(place, OLD, "songs.txt", "La la la.")
    theirs = add(place, NEW, "the rules.txt", "Knock twice.")
    assert moved(place) == 1
    assert names(place, NEW) == ["songs.txt", "the rules.txt"]
    assert kept(place) == [(NEW, "songs.txt"), (NEW, "the rules.txt")]
    place.ingest.remove([place.catalogue.document(theirs)])
    assert kept(place) == [(NEW, "songs.txt")]
    assert place.catalogue.check() == []


def test_a_move_that_was_killed_is_completed_by_the_next(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    add(place, OLD, "rules.txt", "Knock twice.")
    add(place, OLD, "songs.txt", "La la la.")
    add(place, NEW, "the rules.txt", "Knock twice.")

    def killed(*_: object) -> None:
        raise StoreFull("no room")

    with monkeypatch.context() as patched, pytest.raises(StoreFull):
        patched.setattr(Catalogue, "move", killed)
        moved(place)
    assert moved(place) == 1
    assert names(place, NEW) == ["songs.txt", "the rules.txt"]
    assert kept(place) == [(NEW, "songs.txt"), (NEW, "the rules.txt")]
    place.ingest.tidy(older_than_s=-1)
    assert len(kept(place)) == 2


def test_of_what_both_had_no_original_is_left_behind_by_a_kill(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    add(place, OLD, "rules.txt", "Knock twice.")
    add(place, NEW, "the rules.txt", "Knock twice.")

    def killed(*_: object) -> None:
        raise StoreFull("no room")

    with monkeypatch.context() as patched, pytest.raises(StoreFull):
        patched.setattr(Originals, "drop", killed)
        moved(place)
    moved(place)
    place.ingest.tidy(older_than_s=-1)
    assert kept(place) == [(NEW, "the rules.txt")]
    assert len(place.originals()) == 2, "the document and what is known of it"


def test_the_new_owner_is_given_the_same_at_that_moment(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    add(place, OLD, "rules.txt", "Knock twice.")
    real = Catalogue.move

    def late(catalogue: Catalogue, owner: str, to: str) -> int:
        monkeypatch.setattr(Catalogue, "move", real)
        add(place, NEW, "the rules.txt", "Knock twice.")
        return real(catalogue, owner, to)

    monkeypatch.setattr(Catalogue, "move", late)
    moved(place)
    assert (names(place, OLD), names(place, NEW)) == ([], ["the rules.txt"])
    assert kept(place) == [(NEW, "the rules.txt")]
