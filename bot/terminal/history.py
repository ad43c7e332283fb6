"""What a person typed, for the arrow keys of the next session: one file, readable by its owner only."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from prompt_toolkit.history import FileHistory

_MOST_ENTRIES = 5000


class TypedHistory(FileHistory):
    """Kept for the session alone when the file cannot be read or written; a full disk must not end a chat."""

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            self._open_for_owner_only(os.O_CREAT)

    def load_history_strings(self) -> Iterable[str]:
        try:
            return list(super().load_history_strings())[:_MOST_ENTRIES]
        except OSError:
            return []

    def store_string(self, string: str) -> None:
        with suppress(OSError):
            super().store_string(string)

    def forget(self, texts: set[str] | None = None) -> None:
        """Take out what sent one of these texts, or everything. Raises OSError."""
        kept = [] if texts is None else [each for each in self.load_history_strings() if _text_of(each) not in texts]
        self._loaded_strings = kept  # the newest first
        self._open_for_owner_only(os.O_TRUNC)
        for entry in reversed(kept):
            super().store_string(entry)

    def _open_for_owner_only(self, flag: int) -> None:
        descriptor = os.open(self.filename, os.O_RDWR | os.O_CLOEXEC | flag, 0o600)
        try:
            if stat.S_IMODE(os.fstat(descriptor).st_mode) != 0o600:
                os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)


def _text_of(entry: str) -> str:
    """What the entry sent, as it was stored."""
    text = entry.strip()
    for command in ("/edit ", "/correct "):
        text = text.removeprefix(command).strip()
    return text[1:] if text.startswith("//") else text
