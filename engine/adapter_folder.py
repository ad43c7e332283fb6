"""How a version of an adapter is kept on disk: whole or not at all, and never changed afterwards."""

from __future__ import annotations

import contextlib
import filecmp
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.errors import AdapterRefused


@contextlib.contextmanager
def copied(files: Sequence[Path], beside: Path) -> Iterator[Path]:
    """A new folder in `beside` with a copy of the files, gone at the end unless `keep` has given it its place.

    Only one process at a time may do this in `beside`. Raises AdapterRefused when there is no room, say.
    """
    beside.mkdir(parents=True, exist_ok=True)
    for left_by_a_crash in beside.glob(".new-*"):
        shutil.rmtree(left_by_a_crash, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=".new-", dir=beside))
    try:
        for file in files:
            try:
                _copy(file, folder / file.name)
            except OSError as error:
                raise AdapterRefused(f"{file} could not be copied to {beside}: {error.strerror}.") from error
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def keep(copy: Path, place: Path) -> None:
    """Give a copied folder its lasting place. After a crash of the machine it is there whole, or not at all."""
    _sync(copy)
    copy.rename(place)
    place.chmod(0o500)
    _sync(place.parent)


def same_files(one: Path, other: Path) -> bool:
    """Do both folders hold the same files, byte by byte? False too when one of them is gone."""
    try:
        names = {file.name for file in one.iterdir()}
        if names != {file.name for file in other.iterdir()}:
            return False
        return all(filecmp.cmp(one / name, other / name, shallow=False) for name in names)
    except OSError:
        return False


def _copy(source: Path, target: Path) -> None:
    # Without following links: the file may have been replaced by one since it was looked at.
    with os.fdopen(os.open(source, os.O_RDONLY | os.O_NOFOLLOW), "rb") as read, target.open("xb") as written:
        shutil.copyfileobj(read, written, 1 << 20)
        written.flush()
        os.fsync(written.fileno())
    target.chmod(0o400)


def _sync(folder: Path) -> None:
    """Make the names in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
