"""Overwrites what hnswlib leaves in the unused slots of its files.

It makes room for a hundred vectors in memory as malloc gives it, and writes all of it to data_level0.bin and
length.bin, also when there is no vector yet. In a process that had a shard open before, such memory holds vectors of
that shard: so what was removed, and was in no file any more, was found in the file of the next shard (in one of eight
trials with Chroma 1.5.9). header.bin says how many slots are used: after four bytes of version, as 64-bit numbers, an
offset, the capacity, the count and the size of a slot (hnswlib's hnswalg.h, saveIndex, in Chroma's fork).
"""

from __future__ import annotations

import struct
from pathlib import Path

_HEADER = struct.Struct("<i4Q")
_VERSION = 1
FILES = ("data_level0.bin", "length.bin")
_LENGTH = 4  # bytes a slot in length.bin


def blank(segment: Path) -> None:
    """In the folder of one HNSW index. A file that is not as described is left to knowledge.chroma_files.probe."""
    try:
        version, _, _, count, size = _HEADER.unpack_from((segment / "header.bin").read_bytes())
    except (OSError, struct.error):
        return
    if version == _VERSION:
        for name, slot in zip(FILES, (size, _LENGTH), strict=True):
            _zero(segment / name, count * slot)


def _zero(file: Path, start: int) -> None:
    if not file.exists():
        return
    with file.open("r+b") as opened:
        opened.seek(start)
        rest = opened.read()
        if rest.strip(b"\0"):
            opened.seek(start)
            opened.write(bytes(len(rest)))
