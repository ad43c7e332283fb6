"""One document, or many, all the way in: read, split, embedded, and put into the catalogue in one transaction.

    KnowledgeError
    └── Cancelled      whoever asked for it does not want it any more; nothing of it is kept

Reading happens in other processes (knowledge.reading) and embedding in native code, so `add_many` keeps both busy at
once: a few threads read and split ahead, while the calling thread embeds the chunks of several documents together and
commits. How far reading runs ahead is bounded in documents and in bytes, so memory does not grow with the folder.

A chunk's vector goes into the catalogue's cache before its document does. Somebody may remove a document with the same
chunk in between, and the vector with it: the catalogue then refuses the document, and what is missing is embedded anew.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from knowledge.embedding import Embedder
from knowledge.errors import DocumentRefused, KnowledgeError
from knowledge.originals import Originals
from knowledge.prepare import (
    FOLDER,
    DocumentUnreadable,
    Known,
    Preparation,
    Prepared,
    Reads,
    Stage,
    Step,
    ToAdd,
    TooManyDocuments,
)
from settings import Knowledge
from store.catalogue.catalogue import Catalogue, Document
from store.catalogue.errors import VectorsMissing
from store.errors import StoreError

__all__ = [
    "FOLDER",
    "Added",
    "Cancelled",
    "DocumentUnreadable",
    "Ingest",
    "Known",
    "Outcome",
    "Refused",
    "Stage",
    "ToAdd",
    "TooManyDocuments",
]

_READERS = 3
_AHEAD = 32  # documents that are being read, or wait to be embedded
_AHEAD_BYTES = 64 * 2**20
_BATCH_DOCUMENTS = 64
_BATCH_CHUNKS = 512  # about a minute's embedding on two cores: what a kill costs at most
_SLICE = 128  # chunks embedded in one call: how soon a cancellation is noticed
_HELD = 2_000  # vectors of a document that are kept in memory until it is complete
_ORPHAN_S = 3600
_ABANDONED_S = 24 * 3600  # longer than the largest document takes
_TRIES = 3


class Cancelled(KnowledgeError):
    pass


@dataclass(frozen=True)
class Added:
    item: ToAdd
    document: Document
    embedded: int  # chunks that had no vector yet


@dataclass(frozen=True)
class Refused:
    item: ToAdd
    error: KnowledgeError


Outcome = Added | Known | Refused
Outcomes = Generator[Outcome, None, None]  # close it to stop


class Ingest:
    """Thread-safe; several processes may take in documents at once."""

    def __init__(
        self, catalogue: Catalogue, reader: Reads, embedder: Embedder, knowledge: Knowledge, originals: Path
    ) -> None:
        self.catalogue = catalogue
        self.embedder = embedder
        self.originals = Originals(originals)
        self.preparation = Preparation(catalogue, reader, embedder, knowledge, self.originals)
        self._turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def add(
        self,
        owner: str,
        source: str,
        name: str,
        path: Path,
        *,
        mime: str = "",
        added_by: int | None = None,
        on_progress: Step | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> tuple[Document, bool]:
        """The document, and whether its owner had handed over the same content before (it is not taken in again then).

        Blocks, for seconds to minutes. The file at `path` is not needed afterwards unless it is of the folder.
        `cancelled` is asked again and again; when it says True nothing is kept and Cancelled is raised. One owner's
        additions in this process take turns. Raises DocumentRefused, TooManyDocuments, EmbeddingsFailed, StoreError.
        """

        def step(share: float, stage: Stage) -> None:
            if cancelled is not None and cancelled():
                raise Cancelled(f"{name} was not taken in: it was cancelled.")
            if on_progress is not None:
                on_progress(share, stage)

        with self._turn(owner, lambda: step(0.0, "reading")):
            read = self.preparation.prepare(ToAdd(owner, source, name, path, mime, added_by), step)
            if isinstance(read, Known):
                return read.document, True
            return self._finish(read, step), False

    def add_many(self, items: Iterable[ToAdd], on_progress: Callable[[int], None] | None = None) -> Outcomes:
        """Every item's outcome, in any order, once it is committed. A document that is refused stops no other.

        `on_progress` is told how many chunks were embedded so far. EmbeddingsFailed and StoreError end it; what was
        yielded stays. Closing the iterator stops the work.
        """
        waiting, ahead = deque[Prepared](), dict[Future[Prepared | Known], tuple[ToAdd, int]]()
        embedded = _Counter(on_progress)
        source = iter(items)
        pool = ThreadPoolExecutor(_READERS, thread_name_prefix="read")
        exhausted = False
        try:
            while True:
                while not exhausted and _room(ahead.values()):
                    if (item := next(source, None)) is None:
                        exhausted = True
                    else:
                        ahead[pool.submit(self.preparation.prepare, item)] = item, _size(item.path)
                idle = bool(waiting) or not ahead  # something else to do than to wait
                done, _ = wait(ahead, timeout=0 if idle else None, return_when=FIRST_COMPLETED)
                for future in done:
                    item, _ = ahead.pop(future)
                    try:
                        read = future.result()
                    except (DocumentRefused, TooManyDocuments) as error:
                        yield Refused(item, error)
                        continue
                    if isinstance(read, Known):
                        yield read
                        continue
                    if any(other.key == read.key for other in waiting):
                        yield from self._commit(waiting, embedded)
                    waiting.append(read)
                    if _is_full(waiting):
                        yield from self._commit(waiting, embedded)
                if not done and waiting:
                    yield from self._commit(waiting, embedded)
                if exhausted and not ahead and not waiting:
                    return
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for future in ahead:
                future.add_done_callback(self._abandon)
            for read in waiting:
                self._undo(read)

    def restore(self, on_progress: Callable[[int], None] | None = None) -> Outcomes:
        """Take in again what was handed over, from the originals: for a catalogue that was lost."""
        return self.add_many(
            (
                ToAdd(
                    kept.owner,
                    kept.source,
                    kept.name,
                    self.originals.path(kept.original),
                    kept.mime,
                    kept.added_by,
                    kept.original,
                )
                for kept in self.originals.kept()
            ),
            on_progress,
        )

    def remove(self, documents: Sequence[Document]) -> int:
        """Remove documents with their originals; how many there were. Files of the folder stay where they are."""
        marked = [document.original for document in documents if document.original]
        for original in marked:
            self.originals.mark_gone(original)
        removed = self.catalogue.remove([document.id for document in documents])
        for original in marked:
            self.originals.drop(original)
        return removed

    def tidy(self, older_than_s: float = _ABANDONED_S) -> None:
        """End what killed processes left half done: originals without a document, removals that were not finished."""
        for kept, state in self.originals.half_done(older_than_s):
            same = self._of_source(kept.owner, kept.source)
            there = same is not None and same.original == kept.original
            if there and state == "gone":
                self.originals.unmark(kept.original)
            elif there:
                self.originals.settle(kept.original)
            else:
                self.originals.drop(kept.original)
        self.catalogue.sweep_vectors(min(older_than_s, _ORPHAN_S))

    def _finish(self, read: Prepared, step: Step) -> Document:
        """Embed and commit one document. Its vectors wait in memory, so that a cancelled one leaves nothing behind."""
        texts, held, written = read.texts(), dict[str, np.ndarray](), False
        count = 0

        def done(more: int) -> None:
            step(0.25 + 0.75 * min((count + more) / len(texts), 1.0), "indexing")

        try:
            done(0)
            for vectors in self._embedded(texts, done):
                held |= vectors
                count += len(vectors)
                if len(held) >= _HELD:
                    self.catalogue.put_vectors(self.embedder.id, held)
                    held, written = {}, True
            done(0)
            if held:
                self.catalogue.put_vectors(self.embedder.id, held)
                written = True
            previous = self._of_source(*read.key)
            (document,) = self._put([read], texts)
        except BaseException:
            self._undo(read)
            if written:
                with suppress(StoreError):
                    self.catalogue.sweep_vectors(0)  # others whose vectors this takes embed them again
            raise
        self._settle(read, previous)
        return document

    def _commit(self, waiting: deque[Prepared], embedded: _Counter) -> Iterator[Added]:
        """Embed what waits and put it into the catalogue, in one transaction."""
        texts: dict[str, str] = {}
        for read in waiting:
            texts |= read.texts()
        new = self._embed(texts, embedded)
        previous = [self._of_source(*read.key) for read in waiting if read.kept]
        replaced = {(one.owner, one.source): one for one in previous if one is not None}
        documents = self._put(waiting, texts)
        committed = list(waiting)
        waiting.clear()
        for read in committed:
            self._settle(read, replaced.get(read.key))
        for read, document in zip(committed, documents, strict=True):
            mine = {chunk.hash for chunk in read.chunks} & new
            new -= mine
            yield Added(read.item, document, len(mine))

    def _put(self, read: Sequence[Prepared], texts: Mapping[str, str]) -> list[Document]:
        for _ in range(_TRIES):
            try:
                return self.catalogue.put([(each.document, each.chunks) for each in read], self.embedder.id)
            except VectorsMissing as error:
                self._embed({hash: texts[hash] for hash in error.hashes})
        return self.catalogue.put([(each.document, each.chunks) for each in read], self.embedder.id)

    def _embed(self, texts: Mapping[str, str], embedded: _Counter | None = None) -> set[str]:
        """Embed what has no vector yet, and put the vectors into the cache; their hashes."""
        new: set[str] = set()
        for vectors in self._embedded(texts, embedded.show if embedded else None):
            self.catalogue.put_vectors(self.embedder.id, vectors)
            new |= vectors.keys()
            if embedded:
                embedded.add(len(vectors))
        return new

    def _embedded(
        self, texts: Mapping[str, str], on_batch: Callable[[int], None] | None
    ) -> Iterator[dict[str, np.ndarray]]:
        """The vectors that are missing, by hash. Texts of like length go together; the longest first, so that memory
        does not rise later."""
        missing = self.catalogue.missing_vectors(list(texts), self.embedder.id)
        missing.sort(key=lambda hash: len(texts[hash]), reverse=True)
        for at in range(0, len(missing), _SLICE):
            hashes = missing[at : at + _SLICE]
            vectors = self.embedder.embed_passages([texts[hash] for hash in hashes], on_batch=on_batch)
            yield dict(zip(hashes, vectors, strict=True))

    def _settle(self, read: Prepared, previous: Document | None) -> None:
        if read.kept is None:
            return
        self.originals.settle(read.kept.original)
        if previous is not None and previous.original and previous.original != read.kept.original:
            self.originals.drop(previous.original)

    def _undo(self, read: Prepared) -> None:
        with suppress(StoreError):
            self.preparation.drop(read.kept)

    def _abandon(self, future: Future[Prepared | Known]) -> None:
        """A document that was still being read when nobody waited for it any more."""
        if not future.cancelled() and future.exception() is None and isinstance(read := future.result(), Prepared):
            self._undo(read)

    def _of_source(self, owner: str, source: str) -> Document | None:
        return self.catalogue.by_source(owner, source).get(source)

    @contextmanager
    def _turn(self, owner: str, ask: Callable[[], None]) -> Iterator[None]:
        turn = self._turns[owner]
        ask()
        while not turn.acquire(timeout=0.2):
            ask()
        try:
            yield
        finally:
            turn.release()


class _Counter:
    """Chunks embedded so far, told to whoever shows it."""

    def __init__(self, on_progress: Callable[[int], None] | None) -> None:
        self._on_progress = on_progress
        self._done = 0

    def show(self, more: int) -> None:
        if self._on_progress is not None:
            self._on_progress(self._done + more)

    def add(self, count: int) -> None:
        self._done += count


def _room(ahead: Collection[tuple[ToAdd, int]]) -> bool:
    return len(ahead) < _AHEAD and sum(size for _, size in ahead) < _AHEAD_BYTES


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # reading it will say why


def _is_full(waiting: Sequence[Prepared]) -> bool:
    return len(waiting) >= _BATCH_DOCUMENTS or sum(len(read.chunks) for read in waiting) >= _BATCH_CHUNKS
