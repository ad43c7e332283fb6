"""The catalogue follows the folder while somebody watches, and problems end when their cause does."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import watchfiles

from knowledge import watch as watching
from knowledge.sync import FolderMissing, SyncReport
from tests.knowledge.taking_in import Place

WAIT_S = 30


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Place(tmp_path) as place:
        yield place


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_QUIET_S", 0.1)


class Seen:
    def __init__(self) -> None:
        self.reports = queue.Queue[SyncReport]()
        self.errors = queue.Queue[Exception]()

    def report(self, wanted: Callable[[SyncReport], bool] = lambda report: True) -> SyncReport:
        """The next that is wanted: a change may be seen in two parts."""
        while not wanted(found := self.reports.get(timeout=WAIT_S)):
            pass
        return found


@contextmanager
def watched(place: Place, **settings: Any) -> Iterator[Seen]:
    seen, stop = Seen(), threading.Event()
    thread = threading.Thread(
        target=watching.watch,
        args=(place.sync, stop),
        kwargs={"on_report": seen.reports.put, "on_error": seen.errors.put, **settings},
    )
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join(WAIT_S)
    assert not thread.is_alive()


def test_what_lies_there_is_taken_in_first_and_changes_follow(place: Place) -> None:
    place.write("a.txt", "one")
    with watched(place) as seen:
        assert seen.report().added == 1
        place.write("sub/b.txt", "two")
        seen.report(lambda found: found.added == 1)
        place.write("a.txt", "three")
        seen.report(lambda found: found.changed == 1)
        (place.folder / "a.txt").unlink()
        seen.report(lambda found: found.removed == 1)
    assert list(place.catalogue.by_source("shared", "")) == ["folder:sub/b.txt"]


def test_a_sync_does_not_wake_itself(place: Place) -> None:
    place.write("a.txt", "one")
    with watched(place) as seen:
        seen.report()
        place.write("b.txt", "two")
        seen.report(lambda found: found.added == 1)
        with pytest.raises(queue.Empty):
            while True:  # one more may follow, when the change was seen in two parts
                seen.reports.get(timeout=1)


def test_without_the_kernel_the_folder_is_looked_at(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_watches_left(*_: Any, **__: Any) -> Iterator[Any]:
        raise OSError(28, "OS file watch limit reached")
        yield

    monkeypatch.setattr(watchfiles, "watch", no_watches_left)
    with watched(place, look_s=0.1) as seen:
        seen.report()
        place.write("a.txt", "one")
        seen.report(lambda found: found.added == 1)
        place.write("a.txt", "two")
        seen.report(lambda found: found.changed == 1)


def test_changes_that_nobody_tells_of_are_found_anyway(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def deaf(*_: Any, stop_event: threading.Event, **__: Any) -> Iterator[set[Any]]:
        while not stop_event.wait(0.02):
            yield set()

    monkeypatch.setattr(watchfiles, "watch", deaf)
    with watched(place, anyway_s=0.5) as seen:
        seen.report()
        place.write("a.txt", "one")
        seen.report(lambda found: found.added == 1)


def test_a_folder_that_goes_and_comes_back_is_followed_again(place: Place, tmp_path: Path) -> None:
    place.write("a.txt", "one")
    with watched(place, look_s=0.1) as seen:
        assert seen.report().added == 1
        place.folder.rename(tmp_path / "unmounted")
        assert isinstance(seen.errors.get(timeout=WAIT_S), FolderMissing)
        assert list(place.catalogue.by_source("shared", "")) == ["folder:a.txt"]
        (tmp_path / "unmounted").rename(place.folder)
        place.write("b.txt", "two")
        seen.report(lambda found: found.added == 1)
        place.write("c.txt", "three")
        seen.report(lambda found: found.added == 1)


def test_a_problem_that_stays_is_told_once(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.folder.rmdir()
    looks = 0
    sync = place.sync.sync

    def counted(**settings: Any) -> SyncReport:
        nonlocal looks
        looks += 1
        return sync(**settings)

    place.sync.sync = counted  # type: ignore[method-assign]
    with watched(place, look_s=0.01) as seen:
        seen.errors.get(timeout=WAIT_S)
        while looks < 5:
            pass
        place.folder.mkdir()
        seen.report()
    assert caplog.text.count("was not synced") == 1
