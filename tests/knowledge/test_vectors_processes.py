"""Several processes at one index, and processes that are killed. With real ones."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from knowledge import indexer
from knowledge.chroma import OpenChroma
from knowledge.errors import IndexBusy
from store.catalogue.catalogue import Catalogue
from store.catalogue.owners import SHARED
from tests.knowledge.vector_index import ADA, add, all_chunk_ids, ids_in_chroma, index_on, named, texts_found
from tests.knowledge.vector_process import IndexProcess


@pytest.fixture
def other(tmp_path: Path) -> Iterator[IndexProcess]:
    with IndexProcess(tmp_path) as other:
        yield other


def test_a_reader_sees_each_change_of_another_process_at_once(catalogue: Catalogue, tmp_path: Path) -> None:
    with IndexProcess(tmp_path) as other, index_on(tmp_path) as index:
        gone = other.ask("add", ADA, "old", ["old 1", "old 2"])
        for number in range(4):
            owner = (SHARED, ADA)[number % 2]
            other.ask("add", owner, f"note {number}", [f"note {number}"])
            assert texts_found(catalogue, index, f"note {number}", [SHARED, ADA], 1) == [f"note {number}"]
            assert other.ask("apply", True) is True
            assert texts_found(catalogue, index, f"note {number}", [SHARED, ADA], 1) == [f"note {number}"]
        other.ask("remove", gone)
        other.ask("apply", True)
        assert sorted(texts_found(catalogue, index, "old 1", [SHARED, ADA])) == named("note", 4)


def test_a_reader_finds_everything_at_every_moment_of_a_long_writing(
    catalogue: Catalogue, other: IndexProcess, tmp_path: Path
) -> None:
    """Whatever is in Chroma, in the outbox or just on its way from one to the other."""
    add(catalogue, SHARED, "first", named("first", 30))
    add(catalogue, ADA, "hers", named("hers", 30))
    other.ask("apply", True)
    with index_on(tmp_path) as index:
        for number in range(3):
            add(catalogue, SHARED, f"shared {number}", named(f"shared {number}", 700))
            add(catalogue, ADA, f"ada {number}", named(f"ada {number}", 700))
            other.tell("apply", True)
            for _ in range(6):
                for text in ("first 3", f"shared {number} 650", f"shared {number} 1"):
                    assert texts_found(catalogue, index, text, [SHARED], 1) == [text]
                for text in ("hers 3", f"ada {number} 650", f"ada {number} 1"):
                    assert texts_found(catalogue, index, text, [ADA], 1) == [text]
            assert other.answer() is True
        assert index.check() == []


def test_a_change_in_the_middle_of_a_search_costs_it_no_hit(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the reader has in memory then leads to vectors that are gone, instead of to those behind them."""
    monkeypatch.setattr(indexer, "_ALWAYS_ANEW", 0)  # or the whole shard would be another, which is easy to see
    monkeypatch.setattr(indexer, "_DELETED_SHARE", 100)
    gone = add(catalogue, SHARED, "gone", named("gone", 20))
    add(catalogue, SHARED, "kept", named("kept", 20))
    with index_on(tmp_path) as writer, index_on(tmp_path) as reader:
        writer.apply(wait=True)
        assert len(texts_found(catalogue, reader, "gone 1", [SHARED], 20)) == 20
        ask = OpenChroma.nearest

        def interrupted(chroma: OpenChroma, *words: Any) -> list[tuple[int, float]]:
            monkeypatch.setattr(OpenChroma, "nearest", ask)
            catalogue.remove([gone.id])
            writer.apply(wait=True)
            return ask(chroma, *words)

        monkeypatch.setattr(OpenChroma, "nearest", interrupted)
        assert sorted(texts_found(catalogue, reader, "gone 1", [SHARED], 20)) == sorted(named("kept", 20))


def test_a_reader_that_loads_a_young_shard_does_the_writer_no_harm(catalogue: Catalogue, tmp_path: Path) -> None:
    """Chroma writes the files of a shard of less than a thousand vectors anew when it is loaded."""
    with index_on(tmp_path) as writer:
        writer.follow()
        for number in range(3):
            add(catalogue, SHARED, f"part {number}", named(f"part {number}", 450))
            writer.apply(wait=True)
            with IndexProcess(tmp_path) as other:
                assert other.ask("find", f"part {number} 3", [SHARED], 1) == [f"part {number} 3"]
    with index_on(tmp_path) as index:
        assert index.check() == []
        for text in (f"part {part} {number}" for part in range(3) for number in range(0, 450, 15)):
            assert texts_found(catalogue, index, text, [SHARED], 1) == [text]


def test_only_one_process_is_the_indexer_and_the_others_may_wait_for_it(
    catalogue: Catalogue, other: IndexProcess, tmp_path: Path
) -> None:
    other.ask("follow")
    add(catalogue, SHARED, "first", ["first"])
    with index_on(tmp_path) as index:
        index.apply(wait=True)  # whoever does it
        while catalogue.pending_count():
            time.sleep(0.05)
        add(catalogue, SHARED, "second", ["second"])
        assert index.apply(wait=False) is False
        assert index.apply(wait=True) is True
        assert catalogue.pending_count() == 0
        other.kill()
        add(catalogue, SHARED, "third", ["third"])
        assert index.apply(wait=False) is True
    assert ids_in_chroma(tmp_path) == all_chunk_ids(catalogue)


def test_waiting_for_an_indexer_that_does_nothing_ends(catalogue: Catalogue, tmp_path: Path) -> None:
    add(catalogue, SHARED, "note", ["note"])
    with FileLock(tmp_path / "chroma.lock"), index_on(tmp_path, patience_s=0.2) as index:
        with pytest.raises(IndexBusy, match="1 changes"):
            index.apply(wait=True)
        with pytest.raises(IndexBusy):
            index.rebuild()
        assert texts_found(catalogue, index, "note", [SHARED]) == ["note"]


def test_a_follower_takes_over_when_the_indexer_is_killed(
    catalogue: Catalogue, other: IndexProcess, tmp_path: Path
) -> None:
    other.ask("add", SHARED, "before", ["before"])
    other.ask("follow")
    other.ask("apply", True)
    with index_on(tmp_path) as index:
        index.follow()
        other.kill()
        add(catalogue, SHARED, "after", ["after"])
        while catalogue.pending_count():
            time.sleep(0.05)
        assert sorted(texts_found(catalogue, index, "x", [SHARED])) == ["after", "before"]


def test_killed_at_any_moment_nothing_acknowledged_is_lost_and_nothing_removed_is_left(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    chance = random.Random(4)
    told: dict[str, set[int]] = {"added": set(), "to be removed": set(), "removed": set()}
    for run in range(4):
        with IndexProcess(tmp_path) as victim:
            victim.tell("work", run)
            for _ in range(chance.randint(1, 9)):
                event, document = victim.answer()
                told[event].add(document)
            time.sleep(chance.random() * 0.15)
            rest = victim.kill()
            for event, document in rest:
                told[event].add(document)
    there = {document.id for document in catalogue.documents([SHARED, ADA])}
    assert told["added"] - told["to be removed"] <= there
    assert not told["removed"] & there
    with index_on(tmp_path) as index:
        index.apply(wait=True)
        assert ids_in_chroma(tmp_path) == all_chunk_ids(catalogue)
        assert index.check() == []
        for document in sorted(there):
            text = catalogue.chunks_of(document)[7].text
            assert texts_found(catalogue, index, text, [SHARED, ADA], 1) == [text]
