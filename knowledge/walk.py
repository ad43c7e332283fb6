"""What lies in the folder of documents: every file that may be one, with its size and time of change.

Links are followed, but no folder is entered twice, so links in a circle end. What cannot be looked at is told apart
from what is not there. The name of a file is bytes that need not be text; `source_of` gives it one that can be stored,
and that no other file has.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from knowledge.prepare import FOLDER

_NOT_DOCUMENTS = (
    ".swp",
    ".swx",
    ".part",
    ".partial",
    ".crdownload",
    ".download",
    ".tmp",
    ".temp",
    ".lock",
    ".lck",
    "~",
)
_NEITHER = {"thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class File:
    source: str
    path: Path
    size: int
    mtime_ns: int

    @property
    def name(self) -> str:
        return display_name(self.path.name)


@dataclass(frozen=True)
class Walked:
    files: dict[str, File]
    closed: dict[str, str]  # source of a folder or file that cannot be looked at: the reason

    def may_hold(self, source: str) -> bool:
        """Whether this is there, or may be and cannot be seen."""
        return source in self.files or any(
            source == each or source.startswith((f"{each}/", f"{each}~")) for each in self.closed
        )


def walk(folder: Path, leave_out: Iterable[Path] = ()) -> Walked:
    """Every file below `folder` that may be a document. Raises OSError when `folder` itself cannot be read.

    Links are followed, but no folder is entered twice, so that links in a circle end; where there are two ways to one,
    the one without links counts. `leave_out` are folders that may lie below and are not entered.
    """
    files: dict[str, File] = {}
    closed: dict[str, str] = {}
    here = folder.stat()
    if not stat.S_ISDIR(here.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    seen = {(found.st_dev, found.st_ino) for each in leave_out if (found := _stat(each)) is not None}
    folders, linked = [(folder, "")], list[tuple[Path, str]]()
    while folders or linked:
        path, below = folders.pop() if folders else linked.pop(0)
        if (found := _stat(path)) is not None:
            if below and (found.st_dev, found.st_ino) in seen:
                continue
            seen.add((found.st_dev, found.st_ino))
        try:
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except FileNotFoundError:
            if not below:
                raise
            continue
        except OSError as error:
            if not below:
                raise
            closed[FOLDER + _legible(below[:-1])] = f"the folder cannot be read ({error.strerror})"
            continue
        for entry in entries:
            if _is_passed_over(entry.name):
                continue
            try:
                found = entry.stat()
            except OSError as error:
                if entry.is_symlink() or not isinstance(error, FileNotFoundError):  # else it is gone meanwhile
                    closed[FOLDER + _legible(below + entry.name)] = f"it cannot be looked at ({error.strerror})"
                continue
            if stat.S_ISDIR(found.st_mode):
                (linked if entry.is_symlink() else folders).append((path / entry.name, f"{below}{entry.name}/"))
            elif stat.S_ISREG(found.st_mode):
                source = source_of(below + entry.name)
                files[source] = File(source, path / entry.name, found.st_size, found.st_mtime_ns)
    return Walked(files, closed)


def source_of(relative: str) -> str:
    """The name in the catalogue of a file at this path below the folder. One that is not UTF-8 is told by its bytes."""
    try:
        relative.encode()
    except UnicodeEncodeError:
        digest = hashlib.sha256(os.fsencode(relative)).hexdigest()
        return f"{FOLDER}{_legible(relative)}~{digest[:16]}"
    return FOLDER + relative


def display_name(name: str) -> str:
    """A file's name as it can be shown and stored: one line, valid text."""
    return "".join(char if char.isprintable() else " " for char in _legible(name))


def _legible(name: str) -> str:
    return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in name)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _is_passed_over(name: str) -> bool:
    """Hidden, or something that a program has open or not finished."""
    lower = name.lower()
    return name.startswith((".", "~$", "#")) or lower.endswith(_NOT_DOCUMENTS) or lower in _NEITHER
