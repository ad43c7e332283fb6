"""A sync whenever the folder changes, as long as somebody wants it.

The kernel tells of changes (inotify, through watchfiles); where it cannot (no watches left), the folder is looked at
again and again. Either way a sync runs now and then although nothing was told: a network drive tells nothing of what
others write to it.

What goes wrong in one sync is logged, and the next is tried: the folder may be mounted again, the disk have room.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from knowledge.errors import KnowledgeError
from knowledge.sync import Sync, SyncProgress, SyncReport
from store.errors import StoreError

_LOOK_S = 10.0
_ANYWAY_S = 600.0
_QUIET_S = 1.0  # without a change before a sync begins: a copy of many files is one sync
_LONGEST_S = 30.0  # and how long changes that do not stop may put it off

log = logging.getLogger("familiar")


def watch(
    sync: Sync,
    stop: threading.Event,
    *,
    on_report: Callable[[SyncReport], None] | None = None,
    on_error: Callable[[Exception], None] | None = None,
    on_progress: Callable[[SyncProgress], None] | None = None,
    look_s: float = _LOOK_S,
    anyway_s: float = _ANYWAY_S,
) -> None:
    """Sync now, and after every change, until `stop` is set. Blocks; a running sync is finished first.

    `look_s`: between two looks at a folder that the kernel does not watch. `anyway_s`: between two syncs without a
    known change. A problem that stays is told once.
    """
    problem = ""
    for _ in _changes(sync.folder, stop, look_s, anyway_s):
        try:
            report = sync.sync(on_progress=on_progress)
        except (KnowledgeError, StoreError, OSError) as error:
            if str(error) != problem:
                log.warning("the folder of documents was not synced: %s", error)
                if on_error is not None:
                    on_error(error)
            problem = str(error)
            continue
        problem = ""
        if on_report is not None:
            on_report(report)


def _changes(folder: Path, stop: threading.Event, look_s: float, anyway_s: float) -> Iterator[None]:
    """Whenever something may have changed, and at first."""
    told = True
    while not stop.is_set():
        if told and folder.is_dir():
            try:
                yield from _told(folder, stop, anyway_s)
            except (OSError, RuntimeError) as error:  # watchfiles' own errors are RuntimeErrors
                log.warning("the kernel does not watch %s (%s): it is looked at every %g s", folder, error, look_s)
                told = False
            continue
        yield
        stop.wait(look_s)


def _told(folder: Path, stop: threading.Event, anyway_s: float) -> Iterator[None]:
    """By the kernel. Ends when the folder is not there any more; raises where the kernel cannot."""
    import watchfiles

    quiet_s = anyway_s  # the first sync comes when watching has begun, so that nothing falls between
    for changes in watchfiles.watch(
        folder,
        watch_filter=None,
        debounce=int(_LONGEST_S * 1000),
        step=int(_QUIET_S * 1000),
        rust_timeout=int(_QUIET_S * 1000),
        yield_on_timeout=True,
        stop_event=stop,
        raise_interrupt=False,
        force_polling=False,
        ignore_permission_denied=True,
    ):
        quiet_s += _QUIET_S
        if changes or quiet_s >= anyway_s:
            quiet_s = 0.0
            yield
        if not folder.is_dir():
            return
