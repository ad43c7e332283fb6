"""Are the files of an in-process Chroma as the indexer left them?

Whoever may change them notes sizes and times of the HNSW files afterwards, and takes the note away before. That is the
indexer, and also a reader that loads a shard: Chroma writes the files of one that it has not yet synced (see
knowledge.chroma) anew, as empty as they are, when it loads it. So a note that fits says that they can be loaded; one
that does not, that somebody else was at them; and none, that a process died meanwhile. In both cases they are probed
(knowledge.chroma_files) before this process loads them. SQLite looks after its own file.

Every function but `loading` and `changing`, which take the lock for loading, is called under that lock.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock

from knowledge import chroma_files, unused_slots

_LOAD_POLL_S = 0.005


def loading(folder: Path, place: Path | str) -> Any:
    """While this is held, no file of an in-process Chroma changes. A server sees to that itself."""
    if isinstance(place, str):
        return nullcontext()
    return FileLock(folder / "chroma.load.lock", mode=0o600, poll_interval=_LOAD_POLL_S)


@contextmanager
def changing(folder: Path, place: Path | str) -> Iterator[None]:
    """Around all that may write a file of an in-process Chroma, which is also what loads one."""
    with loading(folder, place), touched(place) if isinstance(place, Path) else nullcontext():
        yield


@contextmanager
def touched(chroma: Path) -> Iterator[None]:
    """Around what may change the files. After a failure there is no note, and they are probed next."""
    before = _noted(chroma)
    forget(chroma)
    yield
    remember(chroma, before)


@contextmanager
def loaded(chroma: Path) -> Iterator[None]:
    """Around what loads the files for reading. When that fails, it was not this process that damaged them."""
    note = _note(chroma)
    before = note.read_bytes() if note.exists() else None
    try:
        with touched(chroma):
            yield
    except Exception:
        if before is not None:
            note.write_bytes(before)
        raise


def forget(chroma: Path) -> None:
    _note(chroma).unlink(missing_ok=True)


def remember(chroma: Path, before: dict[str, list[int]] | None = None) -> None:
    """`before`: as they were noted last, where that is known; only what has changed since is looked at."""
    now = _state(chroma)
    for header in chroma.glob("*/header.bin"):
        files = [f"{header.parent.name}/{name}" for name in unused_slots.FILES]
        if any(now.get(file) != (before or {}).get(file) for file in files):
            unused_slots.blank(header.parent)
    new = _note(chroma).with_suffix(".new")
    new.write_text(json.dumps(_state(chroma)), encoding="utf-8")
    new.replace(_note(chroma))


def interrupted(chroma: Path) -> bool:
    """A process was stopped while it changed them."""
    return not _note(chroma).exists()


def fault(chroma: Path, *, closely: bool = False) -> str:
    """What cannot be read, or "". `closely`: whatever the note says, for it says nothing of the database."""
    if not closely and _noted(chroma) == _state(chroma):
        return ""
    wrong = chroma_files.run("probe", chroma)
    if not wrong:
        remember(chroma)
    return wrong


def _noted(chroma: Path) -> dict[str, list[int]] | None:
    try:
        noted: dict[str, list[int]] = json.loads(_note(chroma).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return noted


def _note(chroma: Path) -> Path:
    return chroma.with_name(f"{chroma.name}.intact")


def _state(chroma: Path) -> dict[str, list[int]]:
    files = sorted(each for each in chroma.glob("*/*") if each.is_file())
    state = {}
    for file in files:
        stat = file.stat()
        state[str(file.relative_to(chroma))] = [stat.st_size, stat.st_mtime_ns]
    state[chroma_files.DATABASE] = [int((chroma / chroma_files.DATABASE).exists())]
    return state
