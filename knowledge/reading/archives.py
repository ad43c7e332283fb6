"""What must be asked of a zip file before anything in it is unpacked: Word, PowerPoint, Excel and EPUB are zip files.

The directory at its end says how large everything in it becomes. Python's zipfile unpacks no more of a member than was
said there, so a directory that lies is caught by what was said, and what was said is caught here.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from pathlib import Path

from knowledge.errors import DocumentDamaged, DocumentEncrypted, DocumentTooLarge
from knowledge.reading.limits import MEGABYTE, Limits

MOST_MEMBERS = 20_000
HARMLESS_BYTES = 10 * MEGABYTE  # whatever it was packed into
RATIO = 100
PROLOG_BYTES = 65536
ENCRYPTED = 0x1
DOCTYPE = re.compile(rb"<!(DOCTYPE|ENTITY)", re.I)


def members(path: Path, name: str) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, OverflowError, UnicodeError) as error:
        raise DocumentDamaged(name, "it is cut or damaged (a zip file that cannot be opened)") from error


def check(path: Path, name: str, limits: Limits) -> None:
    """Raises DocumentTooLarge for a bomb, DocumentEncrypted, DocumentDamaged."""
    found = members(path, name)
    unpacked = sum(member.file_size for member in found)
    packed = path.stat().st_size
    if len(found) > MOST_MEMBERS:
        raise DocumentTooLarge(name, f"it has {len(found)} files in it, more than {MOST_MEMBERS}")
    if unpacked > limits.unpacked_bytes or (unpacked > HARMLESS_BYTES and unpacked > RATIO * packed):
        reason = f"unpacked it would have {unpacked / MEGABYTE:.0f} MB, from {packed / MEGABYTE:.1f} MB (a zip bomb?)"
        raise DocumentTooLarge(name, reason)
    if any(member.flag_bits & ENCRYPTED for member in found):
        raise DocumentEncrypted(name, "it is encrypted; hand over a copy without a password")


def refuse_entities(path: Path, name: str) -> None:
    """Office files must have no DTD (ECMA-376 part 2, 8.1.4), and one that has is after the parser's memory."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.filename.lower().endswith((".xml", ".rels")):
                continue
            with archive.open(member) as part:
                prolog = part.read(PROLOG_BYTES)
            if DOCTYPE.search(prolog) or DOCTYPE.search(prolog.replace(b"\0", b"")):
                raise DocumentDamaged(name, f"{member.filename} in it declares entities, which such files never do")


def read_member(archive: zipfile.ZipFile, member: str, name: str) -> bytes:
    try:
        return archive.read(member)
    except KeyError as error:
        raise DocumentDamaged(name, f"{member} is missing in it") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
        raise DocumentDamaged(name, f"{member} in it is damaged") from error
