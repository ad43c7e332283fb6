"""Several processes, processes that are killed, and a disk without room: all of a change or nothing of it."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from store.catalogue.catalogue import Catalogue
from store.errors import StoreFull, StoreLocked
from tests.store.catalogue.made import add, found, hash_of, texts

WRITE = """
import sys
from pathlib import Path
from store.catalogue.catalogue import Catalogue
from tests.store.catalogue.made import add
who = sys.argv[2]
with Catalogue(Path(sys.argv[1])) as catalogue:
    print("open", flush=True)
    sys.stdin.readline()
    for number in range(15):
        add(catalogue, who, f"{number}", [f"{who} {number} {each}" for each in range(20)])
        print(number, flush=True)
"""


def test_two_processes_put_at_once_and_both_are_kept(folder: Path, another_process: Callable[..., Popen[str]]) -> None:
    writers = [another_process(WRITE, str(folder), who) for who in ("person:1", "person:2")]
    for writer in writers:
        assert writer.stdout.readline() == "open\n"
    outcomes = [writer.communicate("\n", timeout=60) for writer in writers]
    assert [error for _, error in outcomes] == ["", ""]
    with Catalogue(folder) as catalogue:
        assert catalogue.count(["person:1"]) == catalogue.count(["person:2"]) == 15
        assert len(catalogue.search_words(["person:1"], ["person:1", "person:2"], 1000)) == 300
        assert catalogue.pending_count() == 600
        assert catalogue.check() == []


REPLACE = """
import sys
from pathlib import Path
from store.catalogue.catalogue import Catalogue
from tests.store.catalogue.made import add
with Catalogue(Path(sys.argv[1])) as catalogue:
    for round in range(int(sys.argv[2]), 10**6):
        add(catalogue, "person:1", "d", [f"round{round} {each}" for each in range(100)] + ["stays"])
        print(round, flush=True)
"""


def test_killed_in_the_middle_of_putting_all_of_a_document_is_there_or_nothing_of_it(
    folder: Path, another_process: Callable[..., Popen[str]]
) -> None:
    chance = random.Random(0)
    acknowledged = -1
    for _ in range(8):
        writer = another_process(REPLACE, str(folder), str(acknowledged + 1))
        acknowledged = int(writer.stdout.readline())
        time.sleep(chance.uniform(0, 0.1))
        writer.send_signal(signal.SIGKILL)
        acknowledged = int(([str(acknowledged), *writer.stdout.read().split()])[-1])
        writer.wait()
        with Catalogue(folder) as catalogue:
            assert catalogue.check() == []
            kept = catalogue.documents(["person:1"])[0]
            state = texts(catalogue, kept)
            current = int(state[0].removeprefix("round").split()[0])
            assert acknowledged <= current <= acknowledged + 1
            assert state == [f"round{current} {each}" for each in range(100)] + ["stays"]
            assert sorted(found(catalogue, f"round{current}", ["person:1"], 1000)) == sorted(state[:-1])
            assert found(catalogue, f"round{current - 1}", ["person:1"]) == []
            live = {key[0] for key in catalogue.chunk_keys()}
            assert {each.chunk_id for each in catalogue.pending(10**6) if each.action == "put"} == live
            acknowledged = current


HOLD = """
import sys
from pathlib import Path
from store.catalogue.catalogue import Catalogue
with Catalogue(Path(sys.argv[1])) as catalogue, catalogue._database.writing():
    print("locked", flush=True)
    sys.stdin.readline()
"""


def test_reading_goes_on_while_another_process_writes_and_writing_waits(
    folder: Path, another_process: Callable[..., Popen[str]]
) -> None:
    with Catalogue(folder, busy_timeout_s=0.2) as catalogue:
        add(catalogue, "shared", "d", ["word"])
        other = another_process(HOLD, str(folder))
        assert other.stdout.readline() == "locked\n"
        assert found(catalogue, "word", ["shared"]) == ["word"]
        with pytest.raises(StoreLocked, match="in use by another program"):
            add(catalogue, "shared", "e", ["more"])
        other.communicate("\n", timeout=30)
        add(catalogue, "shared", "e", ["more"])
        assert found(catalogue, "more", ["shared"]) == ["more"]


def test_threads_share_a_catalogue(catalogue: Catalogue, at_once: Callable[..., list[Any]]) -> None:
    def work(number: int) -> int:
        for each in range(5):
            add(catalogue, f"person:{number}", f"{each}", ["shared text", f"text {number}"])
            assert len(found(catalogue, "shared", [f"person:{number}"])) == each + 1
        return catalogue.remove_of(f"person:{number}") if number % 2 else 0

    assert at_once(*[lambda number=number: work(number) for number in range(6)]) == [0, 5, 0, 5, 0, 5]
    assert catalogue.chunk_count() == 30
    assert catalogue.check() == []


@pytest.fixture
def full_disk() -> Iterator[Callable[[bool], None]]:
    """full_disk(True): no SQLite file may grow by more than a few pages."""
    limit = [2**30]

    def fill(connection: Connection) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={min(limit[0], 2**30) if limit[0] else pages + 3}")

    def be_full(full: bool) -> None:
        limit[0] = 0 if full else 2**30

    event.listen(Engine, "begin", fill)
    yield be_full
    event.remove(Engine, "begin", fill)


def test_a_disk_without_room_leaves_everything_as_it_was(
    catalogue: Catalogue, full_disk: Callable[[bool], None]
) -> None:
    before = add(catalogue, "shared", "d", ["before"])
    state = (catalogue.pending(100), catalogue.change_counter())
    full_disk(True)
    with pytest.raises(StoreFull, match="no room left"):
        add(catalogue, "shared", "d", ["after " + hash_of(str(number)) * 50 for number in range(200)])
    full_disk(False)
    assert (catalogue.pending(100), catalogue.change_counter()) == state
    assert catalogue.document(before.id) == before
    assert found(catalogue, "before", ["shared"]) == ["before"]
    assert catalogue.check() == []
    add(catalogue, "shared", "d", ["after " + hash_of(str(number)) * 50 for number in range(200)])
    assert catalogue.chunk_count() == 200
