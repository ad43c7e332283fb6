"""A damaged index is noticed, said and made anew, and does not take the process down."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from knowledge import intact
from knowledge.errors import IndexDamaged
from store.catalogue.catalogue import Catalogue
from store.catalogue.owners import SHARED
from tests.knowledge.vector_index import ADA, add, all_chunk_ids, ids_in_chroma, index_on, named, texts_found, vector_of


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards: one that Chroma has synced to its files, and one that is still in its log."""
    folder = tmp_path_factory.mktemp("whole")
    with Catalogue(folder) as catalogue, index_on(folder) as index:
        add(catalogue, SHARED, "shared", named("shared", 1300))
        add(catalogue, ADA, "ada", named("ada", 20))
        index.apply(wait=True)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "knowledge"))


@pytest.fixture
def catalogue(folder: Path) -> Iterator[Catalogue]:
    with Catalogue(folder) as catalogue:
        yield catalogue


def _empty(file: Path) -> None:
    os.truncate(file, 0)


def _cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def _overwrite(file: Path) -> None:
    size = file.stat().st_size
    with file.open("r+b") as opened:
        opened.seek(size // 4)
        opened.write(b"\xa5" * (size // 2))


DAMAGES: list[tuple[str, Callable[[Path], None]]] = [
    ("chroma.sqlite3", _cut),
    ("chroma.sqlite3", Path.unlink),
    ("*/data_level0.bin", _overwrite),
    ("*/header.bin", _empty),
    ("*/index_metadata.pickle", Path.unlink),
    ("*", lambda place: shutil.rmtree(place) if place.is_dir() else None),
]


@pytest.mark.parametrize(("pattern", "damage"), DAMAGES)
def test_damage_is_told_with_its_cure_and_cured(
    catalogue: Catalogue, folder: Path, pattern: str, damage: Callable[[Path], None]
) -> None:
    """Some of these end a process that loads them by a segmentation fault."""
    for place in (folder / "chroma").glob(pattern):
        damage(place)
    with index_on(folder) as index:
        with pytest.raises(IndexDamaged, match="familiar knowledge rebuild"):
            index.search(vector_of("shared 1"), [SHARED, ADA], 5)
        index.rebuild()
        assert texts_found(catalogue, index, "shared 77", [SHARED], 1) == ["shared 77"]
        assert texts_found(catalogue, index, "ada 7", [ADA], 1) == ["ada 7"]
    assert ids_in_chroma(folder) == all_chunk_ids(catalogue)
    assert not (folder / "chroma.damaged").exists()


def test_damage_is_found_by_looking_and_nothing_is_written_to_what_is_damaged(
    catalogue: Catalogue, folder: Path
) -> None:
    for file in (folder / "chroma").glob("*/data_level0.bin"):
        _overwrite(file)
    add(catalogue, SHARED, "new", ["new"])
    with index_on(folder) as index:
        assert "familiar knowledge rebuild" in index.check()[0]
        with pytest.raises(IndexDamaged, match="familiar knowledge rebuild"):
            index.apply(wait=True)
        assert catalogue.pending_count() == 1


def test_what_comes_in_while_the_index_is_damaged_is_found_after_the_rebuild(
    catalogue: Catalogue, folder: Path
) -> None:
    shutil.rmtree(folder / "chroma")
    add(catalogue, SHARED, "new", ["new"])
    with index_on(folder) as index:
        index.rebuild()
        index.apply(wait=True)
        assert texts_found(catalogue, index, "new", [SHARED], 1) == ["new"]
    assert ids_in_chroma(folder) == all_chunk_ids(catalogue)


def test_what_a_killed_indexer_left_unreadable_is_made_anew_without_being_asked(
    catalogue: Catalogue, folder: Path
) -> None:
    intact.forget(folder / "chroma")  # as it is in the middle of a change
    for file in (folder / "chroma").glob("*/data_level0.bin"):
        _empty(file)
    with index_on(folder) as index:
        index.apply(wait=True)
        assert texts_found(catalogue, index, "shared 77", [SHARED], 1) == ["shared 77"]
        assert index.check() == []


def test_an_unchanged_index_that_was_copied_elsewhere_is_not_taken_for_damaged(
    catalogue: Catalogue, folder: Path
) -> None:
    for file in (folder / "chroma").rglob("*"):
        os.utime(file)
    with index_on(folder) as index:
        assert texts_found(catalogue, index, "shared 77", [SHARED], 1) == ["shared 77"]
        assert index.check() == []


def test_lost_and_surplus_vectors_are_noticed_and_mended_by_the_follower(catalogue: Catalogue, folder: Path) -> None:
    from knowledge.chroma import OpenChroma
    from knowledge.shards import LayoutNote

    with index_on(folder) as index:
        assert index.check() == []
        chroma = OpenChroma(folder / "chroma")
        shard = LayoutNote(catalogue).read().shards["shared"].collection
        lost = [chunk for chunk, owner, _ in catalogue.chunk_keys(limit=100) if owner == SHARED][:3]
        chroma.delete(shard, lost)
        chroma.put(shard, [999_999], [SHARED], vector_of("ghost")[None])
        chroma.retire()
        intact.forget(folder / "chroma")
        assert index.check() == [
            "3 vectors are missing in the vector index",
            "1 vectors are in the vector index that should be gone",
        ]
        index.follow()
        index.apply(wait=True)
        while index.check():
            assert index._follower is not None
    assert ids_in_chroma(folder) == all_chunk_ids(catalogue)


def test_a_new_catalogue_beside_an_old_index_begins_anew(folder: Path) -> None:
    for file in folder.glob("catalogue.db*"):
        file.unlink()
    with Catalogue(folder) as catalogue, index_on(folder) as index:
        add(catalogue, SHARED, "new", ["new"])
        assert texts_found(catalogue, index, "shared 1", [SHARED, ADA]) == ["new"]
        index.apply(wait=True)
        assert index.check() == []
    assert len(ids_in_chroma(folder)) == 1
