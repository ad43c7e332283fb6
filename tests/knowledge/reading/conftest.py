"""One reader for all tests of this folder: its processes load each library once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from knowledge.parsed import ParsedDocument
from knowledge.reading import Reader
from settings import Knowledge

ReadContent = Callable[..., ParsedDocument]


@pytest.fixture(scope="session")
def reader() -> Iterator[Reader]:
    with Reader(Knowledge(ocr_pages=0), workers=1) as reader:
        yield reader


@pytest.fixture(scope="session")
def scanning_reader() -> Iterator[Reader]:
    """Recognising a page takes seconds, so only those tests do it that are about it."""
    with Reader(Knowledge(), workers=1) as reader:
        yield reader


@pytest.fixture
def read(reader: Reader, tmp_path: Path) -> ReadContent:
    """read("a.txt", b"...") as a document."""
    return reading_with(reader, tmp_path)


@pytest.fixture
def read_scan(scanning_reader: Reader, tmp_path: Path) -> ReadContent:
    return reading_with(scanning_reader, tmp_path)


def reading_with(reader: Reader, tmp_path: Path) -> ReadContent:
    def read_content(name: str, content: bytes | str, mime: str = "") -> ParsedDocument:
        path = tmp_path / "uploaded"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return reader.read(path, name, mime)

    return read_content
