"""Where the documents go that people hand over, as channels need it.

`knowledge` takes documents apart and finds passages in them; bot.shelf fits it to this interface. Where there is none,
a channel has no library, says so, and keeps nothing.

    DocumentRefused    a document that cannot be taken; its keys are texts under `problem`
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from bot.errors import ChatError

Stage = Literal["reading", "splitting", "indexing"]
Progress = Callable[[float, Stage], None]  # the share of the whole that is done, from 0 to 1, and what goes on

Refusal = Literal[
    "document_encrypted",
    "document_empty",
    "document_unknown_type",
    "document_damaged",
    "document_too_large",
    "document_too_slow",
]


class DocumentRefused(ChatError):
    """Nothing of the document was kept."""

    def __init__(self, why: Refusal, name: str, **values: object) -> None:
        super().__init__(why, name=name, **values)


@dataclass(frozen=True)
class Document:
    id: int
    name: str
    passages: int
    added_at: datetime


@dataclass(frozen=True)
class Added:
    document_id: int
    passages: int
    known: bool = False  # the owner had the same content before; it was not taken in again


@dataclass(frozen=True)
class Quote:
    """A passage that a reply rests on, as its document has it now."""

    title: str
    heading: str
    page: int | None
    page_end: int | None
    text: str


class Library(Protocol):
    """Documents belong to an owner (store.catalogue.owners): a person or a group. Nobody finds or removes another's.

    Where the library cannot do its work, these raise ChatError.
    """

    async def add(self, owner: str, added_by: int, name: str, mime: str, path: Path, progress: Progress) -> Added:
        """Take in the file at `path`, which is gone after this returns. `name` and `mime` are the sender's words.

        `added_by` is a Person.id. `progress` may be called from any thread. Handing over the same content again changes
        nothing, so what a crash interrupted can be repeated; of an addition that is cancelled nothing is kept. Raises
        DocumentRefused.
        """

    async def documents(self, owner: str) -> list[Document]:
        """The owner's, newest first."""

    async def remove(self, owner: str, document_id: int) -> None:
        """Delete a document and its passages. Raises ChatError("no_such_document")."""

    async def forget(self, person_id: int) -> None:
        """Delete all that are the person's, and all that they handed over for a group."""

    async def move(self, owner: str, to: str) -> None:
        """Give another owner all that is theirs, and what is being added for them; twice is once."""

    async def quote(self, passage_id: str, readable: Sequence[str]) -> Quote | None:
        """A passage by its id, if it is still there and `readable` (owners) holds its document's owner."""
