"""Vectors are found, by those who may read them, from the moment they are in the catalogue."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from knowledge.errors import OtherEmbeddings
from knowledge.shards import PRIVATE_SHARDS, SHARED_SHARD, by_shard, shard_of
from knowledge.vectors import VectorIndex
from settings import Knowledge
from store.catalogue.catalogue import Catalogue
from store.catalogue.owners import SHARED, group
from tests.knowledge.vector_index import (
    ADA,
    BEN,
    DIMENSIONS,
    MODEL,
    add,
    all_chunk_ids,
    embed,
    ids_in_chroma,
    index_on,
    named,
    texts_found,
    vector_of,
)


@pytest.fixture
def index(catalogue: Catalogue, tmp_path: Path) -> Iterator[VectorIndex]:
    with VectorIndex(catalogue, Knowledge(), tmp_path, MODEL, DIMENSIONS) as index:
        yield index


def test_an_index_of_nothing_finds_nothing(index: VectorIndex) -> None:
    assert index.search(vector_of("anything"), [SHARED, ADA], 5) == []
    assert index.apply(wait=True)
    assert index.search(vector_of("anything"), [SHARED, ADA], 5) == []
    assert index.check() == []


def test_what_is_in_the_catalogue_is_found_before_chroma_has_it_and_after(
    catalogue: Catalogue, index: VectorIndex, tmp_path: Path
) -> None:
    add(catalogue, SHARED, "opening hours", named("hours", 30))
    before = index.search(vector_of("hours 7"), [SHARED], 5)
    assert not (tmp_path / "chroma").exists()
    index.apply(wait=True)
    assert catalogue.pending_count() == 0
    after = index.search(vector_of("hours 7"), [SHARED], 5)
    assert [chunk for chunk, _ in before] == [chunk for chunk, _ in after]
    assert [cosine for _, cosine in before] == pytest.approx([cosine for _, cosine in after], abs=1e-3)
    assert after[0][1] == pytest.approx(1.0, abs=1e-3)
    assert len(ids_in_chroma(tmp_path)) == 30


def test_each_hit_has_the_cosine_of_question_and_chunk(catalogue: Catalogue, index: VectorIndex) -> None:
    texts = named("chunk", 40)
    add(catalogue, SHARED, "chunks", texts)
    index.apply(wait=True)
    question = vector_of("a question")
    cosines = sorted((float(vector_of(text) @ question) for text in texts), reverse=True)
    assert [cosine for _, cosine in index.search(question * 3, [SHARED], 40)] == pytest.approx(cosines, abs=2e-3)


def test_half_in_chroma_and_half_in_the_outbox_is_one_ranking_with_nothing_twice(
    catalogue: Catalogue, index: VectorIndex
) -> None:
    add(catalogue, SHARED, "first", named("first", 20))
    index.apply(wait=True)
    add(catalogue, SHARED, "second", named("second", 20))
    hits = index.search(vector_of("a question"), [SHARED], 40)
    assert sorted(chunk for chunk, _ in hits) == all_chunk_ids(catalogue)
    assert [cosine for _, cosine in hits] == sorted((cosine for _, cosine in hits), reverse=True)


@pytest.mark.parametrize("applied", [False, True])
def test_nobody_is_shown_what_is_not_theirs(catalogue: Catalogue, index: VectorIndex, applied: bool) -> None:
    table = group("telegram", "-100")
    for owner in (SHARED, ADA, BEN, table):
        add(catalogue, owner, "note", [f"{owner} {text}" for text in named("note", 5)])
    if applied:
        index.apply(wait=True)
    for readable in ([SHARED], [ADA], [SHARED, BEN], [SHARED, ADA, table], ["person:3"], ["person:1 "], [""]):
        hits = index.search(vector_of("person:1 note 1"), readable, 100)
        owners = {catalogue.chunks([chunk], [SHARED, ADA, BEN, table])[chunk].owner for chunk, _ in hits}
        assert owners == set(readable) & {SHARED, ADA, BEN, table}
        assert len(hits) == 5 * len(owners)


def test_who_may_read_nothing_finds_nothing(catalogue: Catalogue, index: VectorIndex) -> None:
    add(catalogue, SHARED, "note", named("note", 3))
    index.apply(wait=True)
    assert index.search(vector_of("note 1"), [], 5) == []
    assert index.search(vector_of("note 1"), [SHARED], 0) == []


def test_owners_that_share_a_shard_are_kept_apart(catalogue: Catalogue, index: VectorIndex) -> None:
    together = next(f"person:{n}" for n in range(2, 10_000) if shard_of(f"person:{n}") == shard_of(ADA))
    add(catalogue, ADA, "diary", named("ada", 300))
    add(catalogue, together, "diary", named("other", 300))
    index.apply(wait=True)
    found = texts_found(catalogue, index, "ada 3", [together], 300)
    assert sorted(found) == sorted(named("other", 300))  # hers would have taken their places
    assert texts_found(catalogue, index, "ada 3", [ADA], 1) == ["ada 3"]


def test_removed_texts_are_not_hits_and_take_no_place(catalogue: Catalogue, index: VectorIndex) -> None:
    gone = add(catalogue, SHARED, "gone", named("gone", 20))
    add(catalogue, SHARED, "kept", named("kept", 20))
    index.apply(wait=True)
    catalogue.remove([gone.id])
    for _ in range(2):
        found = texts_found(catalogue, index, "gone 3", [SHARED], 10)
        assert len(found) == 10
        assert all(text.startswith("kept") for text in found)
        index.apply(wait=True)


def test_a_removal_before_the_vectors_were_applied_leaves_no_ghost(
    catalogue: Catalogue, index: VectorIndex, tmp_path: Path
) -> None:
    gone = add(catalogue, ADA, "gone", named("gone", 5))
    add(catalogue, SHARED, "kept", ["kept"])
    catalogue.remove([gone.id])
    index.apply(wait=True)
    assert ids_in_chroma(tmp_path) == all_chunk_ids(catalogue)
    assert index.search(vector_of("gone 1"), [ADA], 5) == []


def test_a_changed_document_keeps_the_vectors_of_its_unchanged_chunks(
    catalogue: Catalogue, index: VectorIndex, tmp_path: Path
) -> None:
    add(catalogue, SHARED, "page", ["a", "b", "c"])
    index.apply(wait=True)
    before = set(ids_in_chroma(tmp_path))
    add(catalogue, SHARED, "page", ["a", "B", "c"])
    index.apply(wait=True)
    assert len(before & set(ids_in_chroma(tmp_path))) == 2
    assert texts_found(catalogue, index, "B", [SHARED], 1) == ["B"]
    assert index.check() == []


@pytest.mark.parametrize("to", ["another shard", "the same shard", SHARED])
@pytest.mark.parametrize("applied", [False, True])
def test_what_moves_to_another_owner_is_found_by_them_alone(
    catalogue: Catalogue, index: VectorIndex, tmp_path: Path, to: str, applied: bool
) -> None:
    if to != SHARED:
        same = to == "the same shard"
        to = next(f"person:{n}" for n in range(3, 10_000) if (shard_of(f"person:{n}") == shard_of(ADA)) is same)
    add(catalogue, ADA, "diary", named("ada", 20))
    add(catalogue, to, "letters", named("letter", 20))
    if applied:
        index.apply(wait=True)
    catalogue.move(ADA, to)
    for _ in range(2):
        assert texts_found(catalogue, index, "ada 3", [to], 1) == ["ada 3"]
        assert texts_found(catalogue, index, "ada 3", [ADA, BEN], 40) == []
        assert len(texts_found(catalogue, index, "ada 3", [to, ADA], 40)) == 40
        index.apply(wait=True)
    assert ids_in_chroma(tmp_path) == all_chunk_ids(catalogue)
    assert index.check() == []


def test_progress_is_told_up_to_the_end(catalogue: Catalogue, index: VectorIndex) -> None:
    add(catalogue, SHARED, "long", named("long", 1200))
    seen: list[tuple[int, int]] = []
    index.apply(wait=True, on_progress=lambda done, of: seen.append((done, of)))
    assert seen == [(500, 1200), (1000, 1200), (1200, 1200)]


@pytest.mark.parametrize("vector", [np.zeros(3), np.full(DIMENSIONS, np.nan), np.full(DIMENSIONS, np.inf), np.zeros(0)])
def test_what_is_no_vector_of_this_model_is_refused(index: VectorIndex, vector: np.ndarray) -> None:
    with pytest.raises(ValueError, match="finite"):
        index.search(vector.astype(np.float32), [SHARED], 5)


def test_a_question_without_direction_is_answered_without_an_error(catalogue: Catalogue, index: VectorIndex) -> None:
    add(catalogue, SHARED, "note", named("note", 3))
    index.apply(wait=True)
    assert len(index.search(np.zeros(DIMENSIONS, dtype=np.float32), [SHARED], 2)) == 2


def test_hostile_owners_are_only_names(catalogue: Catalogue, index: VectorIndex) -> None:
    hostile = ["person:1 OR 1=1", '{"$ne": ""}', "$in", "人:１", "🦊", "a" * 2000, "person:1'--"]
    for owner in hostile:
        add(catalogue, owner, "note", [f"{owner} says"])
    add(catalogue, ADA, "note", ["ada says"])
    index.apply(wait=True)
    for owner in hostile:
        assert texts_found(catalogue, index, "ada says", [owner]) == [f"{owner} says"]


def test_private_owners_spread_over_all_shards_and_never_over_the_shared_one() -> None:
    shards = {shard_of(f"person:{number}") for number in range(1000)}
    assert len(shards) == PRIVATE_SHARDS
    assert SHARED_SHARD not in shards
    assert by_shard([ADA, SHARED, ADA]) == {shard_of(ADA): [ADA], SHARED_SHARD: [SHARED]}


def test_two_indexes_on_one_folder_in_one_process_show_the_same(tmp_path: Path, catalogue: Catalogue) -> None:
    with index_on(tmp_path) as one, index_on(tmp_path) as other:
        for number in range(3):
            add(catalogue, SHARED, f"note {number}", [f"note {number}"])
            (one, other)[number % 2].apply(wait=True)
            for index in (one, other):
                assert texts_found(catalogue, index, f"note {number}", [SHARED], 1) == [f"note {number}"]
                assert len(index.search(vector_of("x"), [SHARED], 10)) == number + 1


def test_indexes_on_two_folders_in_one_process_know_nothing_of_each_other(tmp_path: Path) -> None:
    with (
        Catalogue(tmp_path / "a") as here,
        Catalogue(tmp_path / "b") as there,
        index_on(tmp_path / "a") as one,
        index_on(tmp_path / "b") as other,
    ):
        add(here, SHARED, "here", ["here"])
        add(there, SHARED, "there", ["there"])
        one.apply(wait=True)
        other.apply(wait=True)
        assert texts_found(here, one, "there", [SHARED]) == ["here"]
        assert texts_found(there, other, "here", [SHARED]) == ["there"]


def test_another_model_is_refused_with_what_to_do(catalogue: Catalogue, index: VectorIndex, tmp_path: Path) -> None:
    add(catalogue, SHARED, "note", ["note"])
    index.apply(wait=True)
    with pytest.raises(OtherEmbeddings) as refused, index_on(tmp_path, model="better-model"):
        pass
    assert all(word in str(refused.value) for word in (MODEL, "better-model", "familiar knowledge rebuild"))


def test_a_rebuild_makes_the_index_another_models(catalogue: Catalogue, index: VectorIndex, tmp_path: Path) -> None:
    texts = named("note", 30)
    add(catalogue, SHARED, "note", texts)
    index.apply(wait=True)
    embed(catalogue, texts, "better-model")
    renewed = VectorIndex(catalogue, Knowledge(), tmp_path, "better-model", DIMENSIONS)
    renewed.rebuild()
    assert texts_found(catalogue, renewed, "note 4", [SHARED], 1) == ["note 4"]
    assert len(ids_in_chroma(tmp_path)) == 30
    with pytest.raises(OtherEmbeddings):
        index.search(vector_of("note 4"), [SHARED], 1)
    renewed.close()
    with index_on(tmp_path, model="better-model") as again:
        assert again.check() == []


def test_closing_gives_back_files_and_threads(tmp_path: Path) -> None:
    """In a process of its own, after one round in which libraries are loaded and pools are made."""
    script = """
import os, sys, time
from pathlib import Path
from tests.knowledge.vector_index import *
def held():
    names = [f"/proc/self/fd/{each}" for each in os.listdir("/proc/self/fd")]
    files = [os.readlink(each) for each in names if os.path.exists(each)]
    return sum("chroma" in each for each in files), len(os.listdir("/proc/self/task"))
def round(number):
    folder = Path(sys.argv[1]) / str(number)
    with Catalogue(folder) as catalogue, index_on(folder) as index:
        add(catalogue, SHARED, "note", named("note", 20))
        index.follow()
        index.apply(wait=True)
        assert index.search(vector_of("note 1"), [SHARED], 1)
    until = time.monotonic() + 20
    while held()[0] and time.monotonic() < until: time.sleep(0.05)
    return held()
SHARED = "shared"
first = round(0)
later = [round(number) for number in range(1, 4)]
assert first[0] == 0 and all(files == 0 and threads <= first[1] + 1 for files, threads in later), (first, later)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
