"""How a run's folder is written: each file whole or not at all, whatever ends the process in between.

A file is written under a temporary name beside its place, forced to the disk and renamed. One that a crash left behind
under such a name (".name-…") is never read, and is overwritten by nobody.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from finetune.errors import DataRefused


def write_json(path: Path, content: Any) -> None:
    """Raises OSError, a full disk's among them; what was there before stays then."""
    text = json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False)
    write(path, lambda file: file.write(text.encode() + b"\n"))


def write_lines(path: Path, rows: Iterable[Any]) -> int:
    """One row of JSON a line; how many there were. Raises like `write_json`."""
    count = 0

    def all_rows(file: IO[bytes]) -> None:
        nonlocal count
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n")
            count += 1

    write(path, all_rows)
    return count


def read_json(path: Path) -> Any:
    """Raises DataRefused when it is not there or not JSON."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataRefused(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise DataRefused(f"{path} is not JSON: {error}.") from error


def read_lines(path: Path) -> Iterator[Any]:
    """The rows of a file that `write_lines` wrote. Raises DataRefused naming the line that is not JSON."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise DataRefused(f"{path}, line {number}: {error}.") from error
    except OSError as error:
        raise DataRefused(f"{path} cannot be read: {error.strerror}.") from error


def write(path: Path, content: Callable[[IO[bytes]], object]) -> None:
    """Let `content` write the file at `path`, which is replaced when that has gone well. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            content(file)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
