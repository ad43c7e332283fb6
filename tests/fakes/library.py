"""A library that keeps documents in memory and refuses what a real one refuses. One passage is one line."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bot.errors import ChatError
from bot.library import Added, Document, DocumentRefused, Progress, Quote
from store.catalogue import owners
from store.tables import now

ENCRYPTED = b"%PDF-1.7 /Encrypt"
DAMAGED = b"%PDF-1.7 cut in the mid"


@dataclass(frozen=True)
class Held:
    owner: str
    added_by: int
    document: Document
    mime: str
    data: bytes


class FakeLibrary:
    def __init__(self) -> None:
        self.held: dict[int, Held] = {}  # by document id
        self.quotes: dict[str, tuple[str, Quote]] = {}  # by passage id: its document's owner, and the passage
        self.paths: list[Path] = []  # every file that was handed over
        self.moves: list[tuple[str, str]] = []  # every one that was asked for: from whom, to whom
        self.steps = 4  # how often an addition tells of its progress
        self.error: Exception | None = None  # what an addition ends with
        self.down: ChatError | None = None  # what everything but an addition says
        self.progress: Progress | None = None  # of the latest addition
        self.reached = asyncio.Event()  # an addition is half done
        self.go_on = asyncio.Event()  # clear it and additions stay there
        self.go_on.set()
        self._newest_id = 0

    async def add(self, owner: str, added_by: int, name: str, mime: str, path: Path, progress: Progress) -> Added:
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
            if each.owner == owner and each.data == data:
                return Added(each.document.id, each.document.passages, known=True)
        return self.keep(owner, name, mime, data, added_by)

    def keep(self, owner: str, name: str, mime: str, data: bytes, added_by: int = 0) -> Added:
        self._newest_id += 1
        document = Document(self._newest_id, name, len(data.splitlines()), now())
        self.held[document.id] = Held(owner, added_by, document, mime, data)
        return Added(document.id, document.passages)

    async def documents(self, owner: str) -> list[Document]:
        self._answer()
        return [each.document for each in reversed(self.held.values()) if each.owner == owner]

    async def remove(self, owner: str, document_id: int) -> None:
        self._answer()
        held = self.held.get(document_id)
        if held is None or held.owner != owner:
            raise ChatError("no_such_document")
        del self.held[document_id]

    async def forget(self, person_id: int) -> None:
        self._answer()
        self.held = {
            number: each
            for number, each in self.held.items()
            if each.owner != owners.person(person_id) and each.added_by != person_id
        }

    async def move(self, owner: str, to: str) -> None:
        self.moves.append((owner, to))
        self._answer()
        for number, each in self.held.items():
            if each.owner == owner:
                self.held[number] = replace(each, owner=to)

    async def quote(self, passage_id: str, readable: Sequence[str]) -> Quote | None:
        self._answer()
        owner, quote = self.quotes.get(passage_id, ("", None))
        return quote if owner in readable else None

    def _answer(self) -> None:
        if self.down is not None:
            raise self.down

    def _read(self, progress: Progress) -> None:
        """In a thread, as reading is."""
        for step in range(self.steps):
            progress(step / self.steps, "reading" if step < self.steps / 2 else "indexing")

    def _refuse(self, name: str, path: Path, data: bytes) -> None:
        if path.suffix not in (".txt", ".md", ".pdf"):
            raise DocumentRefused("document_unknown_type", name, reason="its kind is not known")
        if data.startswith(ENCRYPTED):
            raise DocumentRefused("document_encrypted", name, reason="it needs a password")
        if data.startswith(DAMAGED):
            raise DocumentRefused("document_damaged", name, reason="it cannot be parsed")
        if not data.strip():
            raise DocumentRefused("document_empty", name, reason="there is no text in it")
