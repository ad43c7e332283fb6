"""Where the documents go that people hand over, as channels need it.

`knowledge` takes documents apart and finds passages in them; what fits it to this interface stands beside it. Until
there is one, a channel has no library, says so, and keeps nothing.

    DocumentRefused    a document that cannot be taken; its keys are texts under `problem`
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from bot.errors import ChatError

Stage = Literal["reading", "splitting", "indexing"]
Progress = Callable[[float, Stage], None]  # the share of the whole that is done, from 0 to 1, and what goes on

Refusal = Literal["document_encrypted", "document_empty", "document_unknown_type", "document_damaged"]


class DocumentRefused(ChatError):
    """Nothing of the document was kept."""

    def __init__(self, why: Refusal, name: str) -> None:
        super().__init__(why, name=name)


@dataclass(frozen=True)
class Document:
    """One of a person's documents."""

    id: int
    name: str
    passages: int
    added_at: datetime


@dataclass(frozen=True)
class Added:
    document_id: int
    passages: int
    known: bool = False  # the person had handed over the same content before; it was not taken in again


class Library(Protocol):
    """Documents belong to persons (store.tables.Person.id); nobody finds or removes those of another.

    Where the library cannot do its work, these raise ChatError.
    """

    async def add(self, person_id: int, name: str, mime: str, path: Path, progress: Progress) -> Added:
        """Take in the file at `path`, which is gone after this returns. `name` and `mime` are the sender's words.

        `progress` may be called from any thread. Handing over the same content again changes nothing, so what a crash
        interrupted can be repeated; of an addition that is cancelled nothing is kept. Raises DocumentRefused.
        """

    async def documents(self, person_id: int) -> list[Document]:
        """Theirs, newest first."""

    async def remove(self, person_id: int, document_id: int) -> None:
        """Delete a document and its passages. Raises ChatError("no_such_document")."""

    async def forget(self, person_id: int) -> None:
        """Delete all of theirs."""
