"""Whatever happens to the folder and to the process, the next sync ends where a fresh build of the folder does."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.knowledge.killed_syncs import sync_and_die
from tests.knowledge.taking_in import LONG_AGO, Place

REPOSITORY = Path(__file__).parents[2]

NAMES = st.sampled_from(["a.txt", "b.txt", "sub/a.txt", "sub/c.md", "deep/er/a.txt", "猫.txt"])
LINES = st.sampled_from(["alpha " * 12, "beta " * 12, "gamma delta", "# Title", "图书馆早上九点开门。", "omega " * 30])
CONTENTS = st.one_of(
    st.lists(LINES, max_size=5).map(lambda lines: "\n".join(lines).encode()), st.just(b"\x00"), st.just(b"")
)
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("write"), NAMES, CONTENTS),
        st.tuples(st.just("write"), NAMES, CONTENTS),
        st.tuples(st.just("remove"), NAMES),
        st.tuples(st.just("move"), NAMES, NAMES),
        st.tuples(st.just("copy"), NAMES, NAMES),
        st.tuples(st.just("swap"), NAMES, NAMES),
        st.tuples(st.just("touch"), NAMES, st.integers(0, 1000)),
        st.tuples(st.just("sync")),
        st.tuples(st.just("kill"), st.integers(1, 14)),
        st.tuples(st.just("index"), st.integers(1, 5)),
    ),
    min_size=1,
    max_size=14,
)


def happen(root: Path, index: set[int], change: tuple[Any, ...]) -> None:
    """`index` stands for the vector index: the ids of the chunks in it."""
    folder = root / "documents"
    match change:
        case "write", name, content:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        case "remove", name:
            (folder / name).unlink(missing_ok=True)
        case ("move" | "copy" | "swap") as how, source, target if (folder / source).exists() and source != target:
            (folder / target).parent.mkdir(parents=True, exist_ok=True)
            if how == "swap" and (folder / target).exists():
                (folder / target).rename(root / "aside")
                (folder / source).rename(folder / target)
                (root / "aside").rename(folder / source)
            elif how == "copy":
                shutil.copy2(folder / source, folder / target)
            else:
                (folder / source).rename(folder / target)
        case "touch", name, seconds if (folder / name).exists():
            os.utime(folder / name, (LONG_AGO + seconds, LONG_AGO + seconds))
        case ("sync",):
            with Place(root) as place:
                place.sync.sync(allow_empty=True)
        case "kill", steps:
            sync_and_die(root, steps)
        case "index", items:
            with Place(root) as place:
                follow(place, index, items)


def follow(place: Place, index: set[int], items: int) -> None:
    """What the vector index does: up to `items` of the outbox."""
    pending = place.catalogue.pending(items)
    for item in pending:
        if item.action == "put":
            index.add(item.chunk_id)
        else:
            index.discard(item.chunk_id)
    place.catalogue.done([item.id for item in pending])


def synced(root: Path, index: set[int] | None = None) -> dict[str, Any]:
    with Place(root) as place:
        place.sync.sync(allow_empty=True)
        again = place.sync.sync(allow_empty=True)
        assert (again.added, again.changed, again.renamed, again.removed) == (0, 0, 0, 0)
        hashes = [hash for _, _, hash in place.catalogue.chunk_keys()]
        assert place.catalogue.missing_vectors(hashes, place.embedder.id) == []
        index = set() if index is None else index
        follow(place, index, 100_000)
        assert index == {chunk_id for chunk_id, _, _ in place.catalogue.chunk_keys()}
        assert place.catalogue.check() == []
        return place.state()


def built_fresh(root: Path) -> dict[str, Any]:
    fresh = root / "fresh"
    shutil.copytree(root / "documents", fresh / "documents")
    return synced(fresh)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], database=None)
@given(CHANGES)
def test_any_order_of_changes_syncs_and_kills_ends_as_a_fresh_build(changes: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, index = Path(folder), set[int]()
        (root / "documents").mkdir()
        for change in changes:
            happen(root, index, change)
        assert synced(root, index) == built_fresh(root)


BEFORE = {
    "stays.txt": b"alpha " * 40,
    "changes.txt": b"beta " * 40,
    "goes.txt": b"gamma " * 40,
    "moves.txt": b"# Title\ndelta " + b"delta " * 40,
    "is-renamed.txt": b"epsilon " * 40,
    "becomes-bad.txt": b"zeta " * 40,
    "was-bad.txt": b"\x00",
    "bad-goes.txt": b"\x00\x00",
}


def changed_folder(root: Path) -> None:
    with Place(root) as place:
        for name, content in BEFORE.items():
            place.write(name, content)
        place.sync.sync()
        place.write("changes.txt", b"beta " * 40 + b"\n" + b"eta " * 40)
        (place.folder / "goes.txt").unlink()
        (place.folder / "sub").mkdir()
        (place.folder / "moves.txt").rename(place.folder / "sub" / "moves.txt")
        (place.folder / "is-renamed.txt").rename(place.folder / "renamed.txt")
        place.write("becomes-bad.txt", b"\x00\x00\x00")
        place.write("was-bad.txt", b"theta " * 40)
        (place.folder / "bad-goes.txt").unlink()
        place.write("new.txt", b"iota " * 40)
        os.utime(place.folder / "stays.txt", (LONG_AGO - 5, LONG_AGO - 5))


def test_a_kill_at_every_step_of_a_sync_is_made_good_by_the_next(tmp_path: Path) -> None:
    changed_folder(tmp_path / "once")
    for steps in range(1, 100):
        root = tmp_path / str(steps)
        shutil.copytree(tmp_path / "once", root)
        died = sync_and_die(root, steps)
        state = synced(root)
        if steps == 1:
            expected = built_fresh(root)
        assert state == expected, f"killed at step {steps}"
        if not died:
            break
    assert 14 < steps < 99


def test_kills_one_after_another_still_come_to_an_end(tmp_path: Path) -> None:
    """Each sync gets one step further than needed to do something, and dies."""
    changed_folder(tmp_path)
    for _ in range(60):
        if not sync_and_die(tmp_path, 5):
            break
    else:
        pytest.fail("it never came to an end")
    assert synced(tmp_path) == built_fresh(tmp_path)


def test_a_process_killed_for_real_leaves_what_the_next_sync_completes(tmp_path: Path) -> None:
    chance = random.Random(4)
    with Place(tmp_path) as place:
        for n in range(300):
            place.write(f"{n % 7}/{n}.txt", f"# Document {n}\n" + f"number{n} " * chance.randrange(1, 80))
        for n in range(0, 300, 30):
            place.write(f"bad/{n}.txt", b"\x00" + str(n).encode())
    command = [sys.executable, "-m", "tests.knowledge.killed_syncs", str(tmp_path)]
    killed = 0
    for attempt in range(6):
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            process.wait(0.02 + 0.12 * chance.random())
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.wait()
        process.stdout.close()
        if attempt == 2:
            for n in range(0, 300, 3):
                (tmp_path / "documents" / f"{n % 7}/{n}.txt").unlink()
    assert killed >= 1
    assert synced(tmp_path) == built_fresh(tmp_path)
