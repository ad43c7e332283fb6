"""The originals of what was handed over or fetched, kept so that the catalogue can be made anew from them.

    originals/3f/person-17-3f8a…-1c9d04aa.pdf     the document, byte for byte
    originals/3f/person-17-3f8a…-1c9d04aa.json    whose it is and where it came from

Files of the synced folder are not here: they lie in that folder.

The second file says by its ending how far things are: .new while the document is taken in, .json once the catalogue
has it, .gone from just before it leaves the catalogue until the original is deleted. So what a killed process left
half done is told from what must stay, without asking a catalogue that may be damaged, and a document that somebody
removed does not come back with a rebuilt catalogue. The last part of a name is random: two additions of the same
content at the same time have one file each, and neither can delete the other's.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Literal

from store.errors import StoreFull, StoreUnreachable

State = Literal["new", "json", "gone"]

_BLOCK = 2**20
_STATES: tuple[State, ...] = ("new", "json", "gone")

log = logging.getLogger("familiar")


@dataclass(frozen=True)
class Kept:
    """One original. `original` is its path below the folder, as the catalogue names it."""

    original: str
    sha256: str
    size: int
    owner: str
    source: str
    name: str
    mime: str
    added_by: int | None
    added_at: str  # ISO 8601, UTC


class Originals:
    """Raises StoreFull and StoreUnreachable; what was begun then is not there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, original: str) -> Path:
        return self.folder / original

    def keep(self, path: Path, *, owner: str, source: str, name: str, mime: str, added_by: int | None) -> Kept:
        """Copy the file at `path`; it stays "new" until `settle`. A source of "file:" alone gets the content's hash.

        Raises OSError where `path` cannot be read.
        """
        with path.open("rb") as stream, self._writing(name):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            incoming = self.folder / f"{secrets.token_hex(8)}.part"
            made = [incoming]
            try:
                digest, size = self._copy(stream, incoming)
                stem = f"{digest[:2]}/{_slug(owner)}-{digest}-{secrets.token_hex(4)}"
                kept = Kept(
                    original=stem + _suffix(name),
                    sha256=digest,
                    size=size,
                    owner=owner,
                    source=source + digest if source == "file:" else source,
                    name=name,
                    mime=mime,
                    added_by=added_by,
                    added_at=datetime.now(UTC).isoformat(timespec="seconds"),
                )
                made += [self.path(kept.original), self._card(kept.original, "new")]
                made[1].parent.mkdir(mode=0o700, exist_ok=True)
                self._write_card(made[2], kept)
                incoming.replace(made[1])
                _flush(made[1].parent)
            except BaseException:
                for each in made:
                    with suppress(OSError):
                        each.unlink(missing_ok=True)
                raise
        return kept

    def settle(self, original: str) -> None:
        """The catalogue has it."""
        self._move(original, "new", "json")

    def mark_gone(self, original: str) -> None:
        """It is about to leave the catalogue."""
        self._move(original, "json", "gone")

    def unmark(self, original: str) -> None:
        """It did not leave the catalogue after all."""
        self._move(original, "gone", "json")

    def give(self, original: str, owner: str) -> None:
        """It is another owner's now. One that is not there is no error."""
        with self._writing(original):
            for state in _STATES:
                card = self._card(original, state)
                if (kept := self._read_card(card)) is None or kept.owner == owner:
                    continue
                rewritten = self.folder / f"{secrets.token_hex(8)}.part"
                try:
                    self._write_card(rewritten, replace(kept, owner=owner))
                    rewritten.replace(card)
                    _flush(card.parent)
                finally:
                    rewritten.unlink(missing_ok=True)

    def drop(self, original: str) -> None:
        """Delete it. One that is not there is no error: this may be the second try."""
        with self._writing(original):
            self.path(original).unlink(missing_ok=True)
            for state in _STATES:
                self._card(original, state).unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                _flush(self.path(original).parent)

    def kept(self) -> Iterator[Kept]:
        """Every original that the catalogue has, or had before it was lost, oldest first."""
        yield from sorted((kept for kept, _ in self._cards("json")), key=lambda kept: (kept.added_at, kept.original))

    def half_done(self, older_than_s: float) -> Iterator[tuple[Kept, State]]:
        """What killed processes left as "new" or "gone", and not what others are at now. Also deletes cut copies."""
        before = time.time() - older_than_s
        for copy in self.folder.glob("*.part"):
            with suppress(FileNotFoundError):
                if copy.stat().st_mtime < before:
                    copy.unlink()
        for state in ("new", "gone"):
            for kept, card in self._cards(state):
                with suppress(FileNotFoundError):
                    if card.stat().st_mtime < before:
                        yield kept, state

    def _copy(self, stream: BinaryIO, target: Path) -> tuple[str, int]:
        digest, size = hashlib.sha256(), 0
        with target.open("xb") as copy:
            os.fchmod(copy.fileno(), 0o600)
            while block := _read(stream):
                digest.update(block)
                size += len(block)
                copy.write(block)
            copy.flush()
            os.fsync(copy.fileno())
        return digest.hexdigest(), size

    def _write_card(self, path: Path, kept: Kept) -> None:
        fields = {key: value for key, value in asdict(kept).items() if key != "original"}
        with path.open("x", encoding="ascii") as card:
            os.fchmod(card.fileno(), 0o600)
            json.dump(fields | {"suffix": Path(kept.original).suffix}, card, indent=1)
            card.flush()
            os.fsync(card.fileno())

    def _card(self, original: str, state: State) -> Path:
        return self.path(original).with_suffix(f".{state}")

    def _cards(self, state: State) -> Iterator[tuple[Kept, Path]]:
        for card in self.folder.glob(f"??/*.{state}"):
            if (kept := self._read_card(card)) is not None:
                yield kept, card

    def _read_card(self, card: Path) -> Kept | None:
        """None where there is none, or no more: another process moved it on; or it cannot be read."""
        try:
            fields = json.loads(card.read_text(encoding="ascii"))
            original = card.with_suffix(fields.pop("suffix")).relative_to(self.folder).as_posix()
            return Kept(original=original, **fields)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            log.warning("%s cannot be read, its document is passed over: %s", card, error)
            return None

    def _move(self, original: str, before: State, after: State) -> None:
        with self._writing(original), suppress(FileNotFoundError):
            self._card(original, before).replace(self._card(original, after))
            _flush(self.path(original).parent)

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        try:
            yield
        except _Unreadable as error:
            raise error.cause from None
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise StoreFull(
                    f"There is no room left in {self.folder} ({error.strerror}); nothing of {name} was kept. "
                    "Free some space and try again."
                ) from error
            raise StoreUnreachable(
                f"{self.folder} cannot be written ({error.strerror or error}). Check data.folder in the configuration, "
                "and that this user may read and write there."
            ) from error


def fingerprint(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal. Raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class _Unreadable(Exception):
    """The file to be copied failed, not our folder."""

    def __init__(self, cause: OSError) -> None:
        self.cause = cause


def _read(stream: BinaryIO) -> bytes:
    try:
        return stream.read(_BLOCK)
    except OSError as error:
        raise _Unreadable(error) from error


def _slug(owner: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", owner)[:64]


def _suffix(name: str) -> str:
    """The end of a sender's name, as far as it is harmless: reading goes by it where the content does not tell."""
    suffix = Path(name).suffix.lower()
    return suffix if re.fullmatch(r"\.[a-z0-9]{1,10}", suffix) and suffix[1:] not in _STATES else ".bin"


def _flush(folder: Path) -> None:
    """A rename survives a power cut once its folder is written."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
