"""How a document comes into the catalogue, or a new state of it takes the place of the old.

A chunk that is the same as before keeps its row and its number, wherever in the document it is now: its vector and
its words stay as they are, and the vector index hears only of the differences.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from store.catalogue import documents, outbox, refusals, vectors, words
from store.catalogue.database import many
from store.catalogue.entries import Document, NewChunk, NewDocument
from store.catalogue.errors import VectorsMissing
from store.catalogue.removing import drop_chunks
from store.storable import storable


def put(
    connection: Connection, items: Sequence[tuple[NewDocument, Sequence[NewChunk]]], model_id: str
) -> list[Document]:
    """Raises VectorsMissing, when a chunk's vector by this model is not in the cache."""
    missing = vectors.missing(connection, [chunk.hash for _, chunks in items for chunk in chunks], model_id)
    if missing:
        raise VectorsMissing(missing)
    changes = _Changes(connection)
    latest = {(document.owner, document.source): (document, chunks) for document, chunks in items}
    placed = {key: _put(connection, document, chunks, changes) for key, (document, chunks) in latest.items()}
    changes.write(connection)
    if len(latest) < len(items):  # one was put in two states: the vectors of the first are nobody's
        vectors.drop_unused(connection, [chunk.hash for _, chunks in items for chunk in chunks])
    return [documents.get(connection, placed[document.owner, document.source]) for document, _ in items]


@dataclass(frozen=True)
class _Kept:
    id: int
    position: int
    page: int | None
    page_end: int | None


class _Changes:
    """What changes in the chunks of all documents that are put, collected: thousands of rows go in at once."""

    def __init__(self, connection: Connection) -> None:
        last = connection.exec_driver_sql("SELECT seq FROM sqlite_sequence WHERE name = 'chunk'").scalar()
        self._last = int(last or 0)  # the numbers are given out here, and not by SQLite
        self._rows: list[tuple[Any, ...]] = []
        self._words: dict[int, list[tuple[int, str]]] = defaultdict(list)
        self._hashes: dict[int, list[tuple[int, str]]] = defaultdict(list)
        self._moved: list[tuple[int, int | None, int | None, int]] = []
        self._gone: list[int] = []

    def add(self, owner_id: int, document_id: int, position: int, chunk: NewChunk, tokens: str) -> None:
        self._last += 1
        heading, text = storable(chunk.heading), storable(chunk.text)
        place = (self._last, document_id, position, chunk.page, chunk.page_end)
        self._rows.append((*place, chunk.tokens, chunk.hash, heading, text, tokens))
        self._words[owner_id].append((self._last, tokens))
        self._hashes[owner_id].append((self._last, chunk.hash))

    def keep(self, kept: _Kept, position: int, chunk: NewChunk) -> None:
        if (kept.position, kept.page, kept.page_end) != (position, chunk.page, chunk.page_end):
            self._moved.append((position, chunk.page, chunk.page_end, kept.id))

    def drop(self, chunk_ids: Iterable[int]) -> None:
        self._gone += chunk_ids

    def write(self, connection: Connection) -> None:
        many(connection, "UPDATE chunk SET position = ?, page = ?, page_end = ? WHERE id = ?", self._moved)
        many(
            connection,
            "INSERT INTO chunk (id, document_id, position, page, page_end, tokens, hash, heading, text, words) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            self._rows,
        )
        for owner_id, chunks in self._words.items():
            words.add(connection, owner_id, chunks)
            outbox.add(connection, "put", owner_id, self._hashes[owner_id])
        drop_chunks(connection, self._gone)


def _put(connection: Connection, new: NewDocument, chunks: Sequence[NewChunk], changes: _Changes) -> int:
    document_id, owner_id = documents.insert_or_update(connection, new, len(chunks))
    refusals.clear(connection, new.owner, new.source)
    before = _chunks_before(connection, document_id)
    for position, chunk in enumerate(chunks):
        tokens = words.tokens_of(chunk.words)
        same = before.get((chunk.hash, storable(chunk.heading), storable(chunk.text), tokens))
        if same:
            changes.keep(same.popleft(), position, chunk)
        else:
            changes.add(owner_id, document_id, position, chunk, tokens)
    changes.drop(kept.id for same in before.values() for kept in same)
    return document_id


def _chunks_before(connection: Connection, document_id: int) -> dict[tuple[str, str, str, str], deque[_Kept]]:
    """The document's chunks by what they are; a document may hold the same more than once."""
    before: dict[tuple[str, str, str, str], deque[_Kept]] = defaultdict(deque)
    rows = connection.exec_driver_sql(
        "SELECT hash, heading, text, words, id, position, page, page_end FROM chunk WHERE document_id = ? "
        "ORDER BY position",
        (document_id,),
    )
    for hash_, heading, text, tokens, *place in rows:
        before[hash_, heading, text, tokens].append(_Kept(*place))
    return dict(before)
