"""What the catalogue takes in and gives out: plain records, and no rows that would know their database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Action = Literal["put", "delete"]


@dataclass(frozen=True)
class NewChunk:
    text: str
    heading: str
    page: int | None
    page_end: int | None
    hash: str  # of what is embedded; two chunks with the same hash share a vector
    tokens: int
    words: str  # what finds it by its words: terms, separated by spaces


@dataclass(frozen=True)
class NewDocument:
    owner: str  # see store.catalogue.owners
    source: str  # "folder:<relative path>", "url:<address>" or "file:<sha256>"; an owner has it once
    name: str
    title: str
    kind: str
    mime: str
    content_hash: str
    size: int  # bytes
    mtime_ns: int
    pages: int | None
    original: str  # the file's path, relative to the folder of the originals
    added_by: int | None  # a person's id
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Document(NewDocument):
    id: int = 0
    chunks: int = 0  # how many
    added_at: datetime = datetime.min
    updated_at: datetime = datetime.min  # when its content or its name last changed


@dataclass(frozen=True)
class Chunk:
    id: int  # never given to another chunk, also not after it is gone
    document_id: int
    position: int  # in its document, from 0
    text: str
    heading: str
    page: int | None
    page_end: int | None
    hash: str
    tokens: int
    owner: str
    title: str
    source: str
    name: str


@dataclass(frozen=True)
class Refusal:
    """A document that could not be taken in, so that it is not read again while it stays the same."""

    source: str
    name: str
    content_hash: str
    mtime_ns: int
    size: int
    kind: str
    reason: str


@dataclass(frozen=True)
class OutboxItem:
    """What the vector index has still to do for a chunk; a chunk has one at most, the newest."""

    id: int
    chunk_id: int
    action: Action
    owner: str
    hash: str
