"""A file becomes a title and blocks of text, in a process that may be killed (sandbox.py).

    from knowledge.reading import SUPPORTED, Reader

formats.py    which format a file really is: by its content first, then by its name
parse.py      the one function that runs in that process: the format's parser, and what holds for all of them
text, markup (HTML and Markdown), pdf, scans, office, sheets, epub, mail     one family of formats each
archives.py   what must be asked of a zip file before anything in it is unpacked
web.py        a page from the network, with the addresses that must not be asked
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from knowledge.errors import DocumentEmpty, DocumentRefused, DocumentTooLarge, DocumentUnknownType
from knowledge.parsed import ParsedDocument
from knowledge.reading.formats import IMAGES, SUPPORTED
from knowledge.reading.limits import MEGABYTE, Limits
from knowledge.reading.sandbox import PARSE, ReadingStopped, Sandbox
from settings import Knowledge

__all__ = ["IMAGES", "SUPPORTED", "Reader", "ReadingStopped"]


class Reader:
    """Reads as many files at a time as it has `workers`; close it, or its processes end with this one."""

    def __init__(self, knowledge: Knowledge, *, workers: int | None = None, function: str = PARSE) -> None:
        workers = workers or max(1, min(4, len(os.sched_getaffinity(0))))
        self._sandbox = Sandbox(workers, knowledge.parse_memory_mb, function=function)
        self._limits = Limits(
            max_bytes=int(knowledge.max_file_mb * MEGABYTE),
            timeout_s=knowledge.parse_timeout_s,
            memory_mb=knowledge.parse_memory_mb,
            ocr_pages=knowledge.ocr_pages,
        )

    def read(self, path: Path, name: str, mime: str = "") -> ParsedDocument:
        """The text of the file at `path`, which people know as `name`. Blocking; any thread.

        `mime` is what the sender called it, believed only where neither content nor name say more.
        Raises DocumentRefused's family, and ReadingStopped when this reader was closed.
        """
        try:
            status = path.stat()
        except OSError as error:
            raise DocumentRefused(name, f"it cannot be opened ({error.strerror or error})") from error
        except ValueError as error:  # a null byte in the path
            raise DocumentRefused(name, "it cannot be opened (its path is not one)") from error
        if not stat.S_ISREG(status.st_mode):
            raise DocumentUnknownType(name, "it is not a file")
        if status.st_size == 0:
            raise DocumentEmpty(name, "it is empty")
        if status.st_size > self._limits.max_bytes:
            megabytes, limit = status.st_size / MEGABYTE, self._limits.max_bytes / MEGABYTE
            reason = f"it has {megabytes:.1f} MB, more than the {limit:g} MB that are read (knowledge.max_file_mb)"
            raise DocumentTooLarge(name, reason)
        return self._sandbox.run(path, name, mime, self._limits)

    def close(self) -> None:
        self._sandbox.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
