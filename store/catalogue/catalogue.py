"""The catalogue: what is known of the documents, in one SQLite file that several processes may use at once.

    with Catalogue(folder) as catalogue:
        catalogue.put_vectors(model_id, vectors)
        catalogue.put([(document, chunks)], model_id)

An object may be shared by threads. Every method is one transaction: whole or not at all, and on the disk when it
returns. They block; on an event loop, call them through `asyncio.to_thread`. They raise StoreError (store.errors,
store.catalogue.errors). Whoever reads for somebody says whose documents that person may read; of other owners, and of
no owners at all, nothing is found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from store.catalogue import checking, chunks, documents, moving, outbox, owned, putting, refusals, removing, words
from store.catalogue import vectors as cache
from store.catalogue.database import BUSY_TIMEOUT_S, Database
from store.catalogue.entries import Chunk, Document, NewChunk, NewDocument, OutboxItem, Refusal
from store.catalogue.erasing import Eraser
from store.catalogue.vectors import Vector
from store.errors import StoreDamaged

__all__ = ["Catalogue", "Chunk", "Document", "NewChunk", "NewDocument", "OutboxItem", "Refusal"]

FILE = "catalogue.db"


class Catalogue:
    def __init__(self, folder: Path, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        """`busy_timeout_s`: how long a write waits for another process's before StoreLocked."""
        self._database = Database(folder / FILE, busy_timeout_s=busy_timeout_s)
        self._eraser = Eraser(self._database)

    def open(self) -> Catalogue:
        """Raises StoreDamaged, StoreTooNew, CatalogueTooOld, StoreLocked, StoreFull, StoreUnreachable."""
        if self._database.open():
            self._eraser.open()
        return self

    def close(self) -> None:
        """Waits for the erasing of what was removed."""
        self._eraser.close()
        self._database.close()

    def __enter__(self) -> Catalogue:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    # Documents

    def put(self, items: Sequence[tuple[NewDocument, Sequence[NewChunk]]], model_id: str) -> list[Document]:
        """Take in documents, all or none; one with the same owner and source is replaced. In the order given.

        Raises VectorsMissing when the vector of a chunk is not there: put_vectors comes first.
        """
        if not items:
            return []
        with self._database.writing() as connection:
            return putting.put(connection, items, model_id)

    def rename(self, document_id: int, source: str, name: str, title: str, mtime_ns: int) -> Document:
        """Its chunks stay as they are. Raises NotFound; AlreadyThere when its owner has another of that source."""
        with self._database.writing() as connection:
            documents.rename(connection, document_id, source, name, title, mtime_ns)
            return documents.get(connection, document_id)

    def touch(self, document_id: int, mtime_ns: int) -> None:
        """The file was written anew, with the same content."""
        with self._database.writing() as connection:
            documents.touch(connection, document_id, mtime_ns)

    def remove(self, document_ids: Sequence[int]) -> int:
        """With everything made of them. How many there were."""
        if not document_ids:
            return 0
        with self._database.writing() as connection:
            removed = removing.drop_documents(connection, document_ids)
        self._eraser.begin()
        return removed

    def remove_of(self, owner: str) -> int:
        """All that is theirs. How many documents that were."""
        with self._database.writing() as connection:
            theirs = [document.id for document in documents.listing(connection, [owner], None)]
            removed = removing.drop_documents(connection, theirs)
            refusals.clear(connection, owner)
        self._eraser.begin()
        return removed

    def remove_added_by(self, person_id: int) -> int:
        """All that a person added, whosever it is. How many documents that were."""
        with self._database.writing() as connection:
            theirs = [document.id for document in documents.added_by(connection, person_id)]
            removed = removing.drop_documents(connection, theirs)
        self._eraser.begin()
        return removed

    def erase_traces(self) -> bool:
        """Wait until the text of what was removed, if it was not everybody's, is in no unused part of the file either.

        Removals begin that themselves, in the background. False when it failed, and the log says why: it is worth
        another try when no other process is reading, and the next to open the catalogue makes it.
        """
        return self._eraser.erase()

    def move(self, owner: str, to: str) -> int:
        """Give another owner what is theirs, but for documents of a source that the other has too. How many moved.

        From then on `moved_to` tells it, for what is put by somebody who did not know yet.
        """
        with self._database.writing() as connection:
            moved = moving.move(connection, owner, to)
        self._eraser.begin()
        return moved

    def moved_to(self, owner: str) -> str | None:
        """Who has now what was this owner's, or came to it since; None when it was never moved."""
        with self._database.reading() as connection:
            return moving.moved_to(connection, owner)

    def document(self, document_id: int) -> Document:
        """Raises NotFound. For whom it is, is for the caller to check."""
        with self._database.reading() as connection:
            return documents.get(connection, document_id)

    def documents(self, owners: Sequence[str], *, added_by: int | None = None) -> list[Document]:
        """Those of these owners, the newest first; of one person who added them, if `added_by` is given."""
        with self._database.reading() as connection:
            return documents.listing(connection, owners, added_by)

    def owners(self) -> list[str]:
        """Everybody who has documents, for what is done for all of them; a search is always for named owners."""
        with self._database.reading() as connection:
            return owned.names(connection)

    def added_by(self, person_id: int) -> list[Document]:
        """All that a person added, whosever it is, the newest first."""
        with self._database.reading() as connection:
            return documents.added_by(connection, person_id)

    def by_source(self, owner: str, prefix: str) -> dict[str, Document]:
        """The owner's documents whose source begins so, by source."""
        with self._database.reading() as connection:
            return documents.by_source(connection, owner, prefix)

    def with_content(self, owner: str, content_hash: str) -> list[Document]:
        with self._database.reading() as connection:
            return documents.with_content(connection, owner, content_hash)

    def count(self, owners: Sequence[str]) -> int:
        """How many documents these owners have."""
        with self._database.reading() as connection:
            return documents.count(connection, owners)

    # Refusals

    def note_refusal(
        self,
        owner: str,
        source: str,
        name: str,
        content_hash: str,
        mtime_ns: int,
        size: int,
        kind: str,
        reason: str,
    ) -> None:
        """A put of the same source makes it forgotten."""
        refusal = Refusal(source, name, content_hash, mtime_ns, size, kind, reason)
        with self._database.writing() as connection:
            refusals.note(connection, owner, refusal)

    def refusals(self, owner: str) -> dict[str, Refusal]:
        """By source."""
        with self._database.reading() as connection:
            return refusals.of(connection, owner)

    def clear_refusal(self, owner: str, source: str) -> None:
        with self._database.writing() as connection:
            refusals.clear(connection, owner, source)

    # Chunks

    def chunks(self, ids: Sequence[int], readable: Sequence[str]) -> dict[int, Chunk]:
        """Those that there are and that may be read, by id."""
        with self._database.reading() as connection:
            return chunks.get(connection, ids, readable)

    def neighbours(self, document_id: int, first: int, last: int) -> list[Chunk]:
        """A document's chunks from position `first` to `last`, both included, in order."""
        with self._database.reading() as connection:
            return chunks.between(connection, document_id, first, last)

    def chunks_of(self, document_id: int) -> list[Chunk]:
        """In order."""
        with self._database.reading() as connection:
            return chunks.of_document(connection, document_id)

    def chunk_count(self, readable: Sequence[str] | None = None) -> int:
        """None: everybody's."""
        with self._database.reading() as connection:
            return chunks.count(connection, readable)

    # Words

    def search_words(self, terms: Sequence[str], readable: Sequence[str], limit: int) -> list[tuple[int, float]]:
        """(chunk id, BM25), the best first, of the readable chunks that hold at least one of the terms."""
        with self._database.reading() as connection:
            return words.search(connection, terms, readable, limit)

    def document_frequencies(self, terms: Sequence[str], readable: Sequence[str]) -> tuple[dict[str, int], int]:
        """In how many of the readable chunks each term is, and how many readable chunks there are."""
        with self._database.reading() as connection:
            return words.document_frequencies(connection, terms, readable)

    # Vectors

    def missing_vectors(self, hashes: Sequence[str], model_id: str) -> list[str]:
        """Those without a vector by this model, each once, in the order given."""
        with self._database.reading() as connection:
            return cache.missing(connection, hashes, model_id)

    def put_vectors(self, model_id: str, vectors: Mapping[str, Vector]) -> None:
        """Unit vectors (d,). Raises ValueError when one is not finite, or not as long as this model's others."""
        if not vectors:
            return
        with self._database.writing() as connection:
            cache.put(connection, model_id, vectors)

    def vectors(self, hashes: Sequence[str], model_id: str) -> dict[str, Vector]:
        """(d,) float32 each, of those hashes that have one."""
        with self._database.reading() as connection:
            return cache.get(connection, hashes, model_id)

    def dimensions(self, model_id: str) -> int | None:
        """How long this model's vectors are; None when it has none."""
        with self._database.reading() as connection:
            return cache.dimensions(connection, model_id)

    def sweep_vectors(self, older_than_s: float = 3600) -> int:
        """Drop the vectors that no chunk uses and that were put so long ago. How many."""
        with self._database.writing() as connection:
            return cache.sweep(connection, older_than_s)

    # What the vector index has still to do

    def pending(self, limit: int, *, after: int = 0) -> list[OutboxItem]:
        """By id, from the first behind `after`; one for a chunk at most."""
        with self._database.reading() as connection:
            return outbox.pending(connection, limit, after)

    def done(self, item_ids: Sequence[int]) -> None:
        """An item whose chunk has a newer one meanwhile is gone already, and the newer one stays."""
        if not item_ids:
            return
        with self._database.writing() as connection:
            outbox.done(connection, item_ids)

    def pending_count(self) -> int:
        with self._database.reading() as connection:
            return outbox.count(connection)

    def pending_puts(self, readable: Sequence[str], model_id: str) -> tuple[NDArray[np.int64], Vector]:
        """Chunk ids (n,) and vectors (n, d) that the vector index does not have yet; (0,) and (0, 0) for none."""
        with self._database.reading() as connection:
            return outbox.puts(connection, readable, model_id)

    def chunk_keys(self, *, after: int = 0, limit: int = 5000) -> list[tuple[int, str, str]]:
        """(id, owner, hash) of every chunk, by id, from the first behind `after`."""
        with self._database.reading() as connection:
            return chunks.keys(connection, after, limit)

    # Notes, and the state of it all

    def get_meta(self, key: str, default: str = "") -> str:
        with self._database.reading() as connection:
            value = connection.exec_driver_sql("SELECT value FROM meta WHERE key = ?", (key,)).scalar()
        return default if value is None else str(value)

    def set_meta(self, key: str, value: str) -> None:
        """A key that begins with "catalogue." is the catalogue's own."""
        with self._database.writing() as connection:
            connection.exec_driver_sql("REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))

    def change_counter(self) -> int:
        """Grows with every change by anybody: while it stays, what was read stays true."""
        return int(self.get_meta("catalogue.changes"))

    def check(self) -> list[str]:
        """What is damaged, a sentence each; empty when nothing is. Reads the whole file: seconds for 100,000 chunks."""
        try:
            with self._database.writing() as connection:
                return checking.damage(connection)
        except StoreDamaged as error:
            return [str(error)]
