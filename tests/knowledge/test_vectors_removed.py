"""What was removed is in no file of the index: its vector would tell much of what the text was about."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from knowledge import chroma_files, indexer
from knowledge.errors import KnowledgeError
from store.catalogue.catalogue import Catalogue
from store.catalogue.owners import SHARED
from tests.knowledge.vector_index import (
    ADA,
    add,
    all_chunk_ids,
    ids_in_chroma,
    index_on,
    named,
    texts_found,
    vector_of,
)


def lies_in_a_file(text: str, folder: Path) -> bool:
    """As little-endian float32 at any offset, also when a component was rounded differently on its way."""
    vector = vector_of(text)
    for file in (each for each in folder.rglob("*") if each.is_file()):
        content = file.read_bytes()
        for offset in range(4):
            numbers = np.frombuffer(content[offset : len(content) - (len(content) - offset) % 4], dtype="<f4")
            starts = np.flatnonzero(np.isclose(numbers, vector[0], atol=1e-4))
            for start in starts:
                here = numbers[start : start + len(vector)]
                if np.allclose(here[:8], vector[: len(here)][:8], atol=1e-4):
                    return True
    return False


@pytest.mark.parametrize("owner", [SHARED, ADA])
@pytest.mark.parametrize("others", [0, 5, 1500])
def test_a_removed_vector_is_in_no_file(catalogue: Catalogue, tmp_path: Path, owner: str, others: int) -> None:
    with index_on(tmp_path) as index:
        secret = add(catalogue, owner, "secret", named("secret", 3))
        if others:
            add(catalogue, owner, "others", named("other", others))
        index.apply(wait=True)
        assert lies_in_a_file("secret 1", tmp_path / "chroma")
        catalogue.remove([secret.id])
        index.apply(wait=True)
        assert not lies_in_a_file("secret 1", tmp_path / "chroma")
        assert ids_in_chroma(tmp_path) == all_chunk_ids(catalogue)
        if others:
            assert lies_in_a_file("other 1", tmp_path / "chroma")
            assert texts_found(catalogue, index, "other 1", [owner], 1) == ["other 1"]
    assert len([place for place in (tmp_path / "chroma").iterdir() if place.is_dir()]) == (1 if others else 0)


def test_unused_slots_hold_nothing_of_what_was_in_memory_before(catalogue: Catalogue, tmp_path: Path) -> None:
    """hnswlib writes them as malloc gave them. Of a small shard none is used: its vectors are in Chroma's log."""
    with index_on(tmp_path) as index, index_on(tmp_path) as reader:
        for number in range(4):
            document = add(catalogue, ADA, "note", named(f"note {number}", 50))
            index.apply(wait=True)
            assert reader.search(vector_of("x"), [ADA], 5)
            files = [*tmp_path.glob("chroma/*/data_level0.bin"), *tmp_path.glob("chroma/*/length.bin")]
            assert len(files) == 2
            for file in files:
                assert not file.read_bytes().strip(b"\0")
        catalogue.remove([document.id])
        index.apply(wait=True)


def test_a_large_shard_is_made_anew_when_a_share_of_it_was_removed(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer, "_ALWAYS_ANEW", 50)
    with index_on(tmp_path) as index:
        few, more = (add(catalogue, SHARED, name, named(name, 4)) for name in ("few", "more"))
        add(catalogue, SHARED, "kept", named("kept", 100))
        index.apply(wait=True)
        catalogue.remove([few.id])
        index.apply(wait=True)
        assert lies_in_a_file("few 1", tmp_path / "chroma")
        assert "few 1" not in texts_found(catalogue, index, "few 1", [SHARED], 100)
        catalogue.remove([more.id])
        index.apply(wait=True)
        assert not lies_in_a_file("few 1", tmp_path / "chroma")
        assert not lies_in_a_file("more 1", tmp_path / "chroma")


@pytest.mark.parametrize("where", ["_created", "_put", "_swap", "_tidy"])
def test_a_crash_while_a_shard_is_made_anew_is_made_good_by_the_next_indexer(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    with index_on(tmp_path) as index:
        secret = add(catalogue, ADA, "secret", named("secret", 3))
        add(catalogue, ADA, "others", named("other", 30))
        index.apply(wait=True)
        catalogue.remove([secret.id])

        def crash(*_: object, **__: object) -> None:
            raise SystemExit

        with monkeypatch.context() as patched, pytest.raises(SystemExit):
            patched.setattr(indexer.Indexer, where, crash)
            index.apply(wait=True)
        assert texts_found(catalogue, index, "other 1", [ADA], 1) == ["other 1"]
    with index_on(tmp_path) as index:
        index.apply(wait=True)
        assert not lies_in_a_file("secret 1", tmp_path / "chroma")
        assert ids_in_chroma(tmp_path) == all_chunk_ids(catalogue)
        assert texts_found(catalogue, index, "other 1", [ADA], 1) == ["other 1"]
    assert len([place for place in (tmp_path / "chroma").iterdir() if place.is_dir()]) == 1


def test_what_could_not_be_erased_is_said_and_erased_the_next_time(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with index_on(tmp_path) as index:
        secret = add(catalogue, ADA, "secret", named("secret", 3))
        index.apply(wait=True)
        catalogue.remove([secret.id])
        with monkeypatch.context() as patched:
            patched.setattr(chroma_files, "run", lambda action, folder: "the database is locked")
            with pytest.raises(KnowledgeError, match=r"not yet erased.*locked"):
                index.apply(wait=True)
        index.apply(wait=True)
        assert not lies_in_a_file("secret 1", tmp_path / "chroma")
