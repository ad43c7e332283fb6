"""Files that were sent, by people and by the bot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from tests.telegram_server.refusal import bad_request

MAX_DOWNLOAD = 20 * 1024 * 1024


@dataclass(frozen=True)
class Stored:
    """One file; `size` is what Telegram says of it."""

    name: str
    data: bytes
    path: str
    size: int


class Files:
    """All of them, by file id and by path."""

    def __init__(self) -> None:
        self.by_id: dict[str, Stored] = {}
        self.by_path: dict[str, Stored] = {}

    def store(self, name: str, data: bytes, folder: str, size: int | None = None) -> dict[str, Any]:
        """Keep a file; returns what every kind of file has in the wire format."""
        number = len(self.by_id)
        file_id = f"FILE{number:08d}"
        path = f"{folder}/file_{number}{PurePosixPath(name).suffix}"
        stored = Stored(name, data, path, len(data) if size is None else size)
        self.by_id[file_id] = self.by_path[path] = stored
        return {"file_id": file_id, "file_unique_id": f"U{number:08d}", "file_size": stored.size}

    def get(self, file_id: str) -> dict[str, Any]:
        """Answer getFile."""
        stored = self.by_id.get(file_id)
        if stored is None:
            raise bad_request("invalid file_id")
        if stored.size > MAX_DOWNLOAD:
            raise bad_request("file is too big")
        unique = f"U{file_id.removeprefix('FILE')}"
        return {"file_id": file_id, "file_unique_id": unique, "file_size": stored.size, "file_path": stored.path}
