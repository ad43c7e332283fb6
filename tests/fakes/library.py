"""A library that keeps documents in memory and refuses what a real one refuses. One passage is one line."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from bot.errors import ChatError
from bot.library import Added, Document, DocumentRefused, Progress
from store.tables import now

ENCRYPTED = b"%PDF-1.7 /Encrypt"
DAMAGED = b"%PDF-1.7 cut in the mid"


@dataclass(frozen=True)
class Held:
    person_id: int
    document: Document
    mime: str
    data: bytes


class FakeLibrary:
    def __init__(self) -> None:
        self.held: dict[int, Held] = {}  # by document id
        self.paths: list[Path] = []  # every file that was handed over
        self.steps = 4  # how often an addition tells of its progress
        self.error: Exception | None = None
        self.progress: Progress | None = None  # of the latest addition
        self.reached = asyncio.Event()  # an addition is half done
        self.go_on = asyncio.Event()  # clear it and additions stay there
        self.go_on.set()
        self._newest_id = 0

    async def add(self, person_id: int, name: str, mime: str, path: Path, progress: Progress) -> Added:
        self.paths.append(path)
        self.progress = progress
        await asyncio.to_thread(self._read, progress)
        data = await asyncio.to_thread(path.read_bytes)
        self.reached.set()
        await self.go_on.wait()
        if self.error is not None:
            raise self.error
        self._refuse(name, path, data)
        for each in self.held.values():
            if each.person_id == person_id and each.data == data:
                return Added(each.document.id, each.document.passages, known=True)
        return self.keep(person_id, name, mime, data)

    def keep(self, person_id: int, name: str, mime: str, data: bytes) -> Added:
        self._newest_id += 1
        document = Document(self._newest_id, name, len(data.splitlines()), now())
        self.held[document.id] = Held(person_id, document, mime, data)
        return Added(document.id, document.passages)

    async def documents(self, person_id: int) -> list[Document]:
        return [each.document for each in reversed(self.held.values()) if each.person_id == person_id]

    async def remove(self, person_id: int, document_id: int) -> None:
        held = self.held.get(document_id)
        if held is None or held.person_id != person_id:
            raise ChatError("no_such_document")
        del self.held[document_id]

    async def forget(self, person_id: int) -> None:
        self.held = {number: each for number, each in self.held.items() if each.person_id != person_id}

    def _read(self, progress: Progress) -> None:
        """In a thread, as reading is."""
        for step in range(self.steps):
            progress(step / self.steps, "reading" if step < self.steps / 2 else "indexing")

    def _refuse(self, name: str, path: Path, data: bytes) -> None:
        if path.suffix not in (".txt", ".md", ".pdf"):
            raise DocumentRefused("document_unknown_type", name)
        if data.startswith(ENCRYPTED):
            raise DocumentRefused("document_encrypted", name)
        if data.startswith(DAMAGED):
            raise DocumentRefused("document_damaged", name)
        if not data.strip():
            raise DocumentRefused("document_empty", name)
