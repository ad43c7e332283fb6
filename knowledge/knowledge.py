"""All of knowledge under one roof: what the assistant, the channels and the command line use.

Opening it reads little: the embedding model, Chroma and the processes that read files are started when they are first
needed. All of it blocks and may be called from any thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from knowledge.errors import EmbeddingsFailed
from settings import Settings
from store.catalogue.catalogue import Catalogue, Document
from store.errors import NotFound

if TYPE_CHECKING:
    from knowledge.embedding import Embedder
    from knowledge.ingest import Ingest, Stage
    from knowledge.originals import Originals
    from knowledge.reading import Reader
    from knowledge.search import Found, Passage, Searcher
    from knowledge.sync import Sync
    from knowledge.vectors import VectorIndex

log = logging.getLogger("familiar")

FOLDER = "knowledge"  # in the data folder
ORIGINALS = "originals"
MODEL = "embedding.model"  # in the catalogue's notes: which one made the vectors that are searched

Told = Callable[[str, int, int | None], None]  # what is being done, how much of it is, of how much


class Knowledge:
    """`open` it before use, `close` it after."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = settings.data.folder / FOLDER
        self.catalogue = Catalogue(self.folder)
        self._parts = threading.RLock()
        self._opened: list[Callable[[], None]] = []
        self._held: tuple[int, dict[tuple[str, ...], bool]] = (-1, {})

    def open(self) -> Knowledge:
        """Raises StoreError where the catalogue cannot be opened."""
        self.catalogue.open()
        return self

    def close(self) -> None:
        with self._parts:
            while self._opened:
                self._opened.pop()()
        self.catalogue.close()

    def __enter__(self) -> Knowledge:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    # What a turn needs

    def holds(self, readable: Sequence[str]) -> bool:
        """Whether there is any document that those may read."""
        counter, known = self._held
        if counter != (now := self.catalogue.change_counter()):
            known = {}
            self._held = (now, known)
        key = tuple(readable)
        if key not in known:
            known[key] = self.catalogue.count(readable) > 0
        return known[key]

    def search(
        self,
        question: str,
        readable: Sequence[str],
        *,
        history: Sequence[str] = (),
        limit: int | None = None,
        floor: float | None = None,
    ) -> Found:
        """Passages for `question` from documents of the owners `readable`. Raises KnowledgeError, StoreError."""
        return self.searcher.search(question, readable, history=history, limit=limit, floor=floor)

    def passage(self, passage_id: str, readable: Sequence[str]) -> Passage | None:
        """A passage that was found before, as its document has it now; None when it is gone or not theirs to read."""
        from knowledge.passages import by_id

        return by_id(self.catalogue, passage_id, readable)

    def givers(self, passages: Sequence[Passage]) -> set[int]:
        """The persons who handed over those of these passages' documents that are a group's."""
        theirs = {passage.document_id for passage in passages if passage.owner.startswith("group:")}
        found = set()
        for document_id in theirs:
            with suppress(NotFound):  # removed since
                found.add(self.catalogue.document(document_id).added_by)
        return {person_id for person_id in found if person_id is not None}

    # Documents

    def add(
        self,
        owner: str,
        name: str,
        path: Path,
        *,
        mime: str = "",
        added_by: int | None = None,
        on_progress: Callable[[float, Stage], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> tuple[Document, bool]:
        """Take in one file; whether its owner had it already. Raises DocumentRefused, KnowledgeError, StoreError."""
        self.follow()
        document, known = self.ingest.add(
            owner, "file:", name, path, mime=mime, added_by=added_by, on_progress=on_progress, cancelled=cancelled
        )
        return self._gone_along(document, known)

    def documents(self, owners: Sequence[str]) -> list[Document]:
        """Newest first."""
        return self.catalogue.documents(owners)

    def remove(self, document_id: int, owner: str) -> None:
        """Delete a document of this owner, and all that was made of it. Raises NotFound."""
        document = self.catalogue.document(document_id)
        if document.owner != owner:
            raise NotFound(f"There is no document {document_id} here.")
        self.ingest.remove([document])
        self.follow()

    def forget(self, owner: str, person_id: int) -> int:
        """Delete all documents of a person and what they handed over for groups; how many."""
        theirs = {each.id: each for each in self.catalogue.documents([owner])}
        theirs |= {each.id: each for each in self.catalogue.added_by(person_id)}
        self.ingest.remove(list(theirs.values()))
        self.follow()
        return len(theirs)

    def move(self, owner: str, to: str) -> int:
        """Give another owner all that is theirs, and what is being added for them now; how many documents.

        For a group that gets another number. Twice is once. Raises StoreError; it may be tried again then.
        """
        from knowledge.moving import move

        moved = move(self.catalogue, self._originals, owner, to)
        if moved:
            self.follow()
        return moved

    def follow(self) -> None:
        """Keep Chroma up to date in the background, as long as this is open and no other process does."""
        self.vectors.follow()

    def settle(self) -> None:
        """Wait until Chroma has all that the catalogue has, whichever process sees to that. Raises IndexBusy."""
        self.vectors.apply(wait=True)

    def warm(self) -> None:
        """Load what a search needs, so that the first one does not wait for it."""
        self.embedder.embed_queries(["warm"])
        self.searcher.search("warm", [])

    def rebuild(self, *, everything: bool = False, on_progress: Told | None = None) -> str:
        """Make the index anew, after damage or for another embedding model; what was done, in a sentence.

        The vectors are made from the catalogue. With `everything`, the catalogue too: the old one is put aside, what
        people handed over is read again from the originals, and the folder from where it lies. Nothing else may use the
        catalogue then. Not opened before; raises KnowledgeError, StoreError.
        """
        tell = on_progress or _untold
        if everything:
            self._put_catalogue_aside()
        self.open()
        read = 0
        if everything:
            for _ in self.ingest.restore():
                read += 1
                tell("reading what was handed over", read, None)
            if self.settings.knowledge.folder.is_dir():
                self.sync.sync(
                    on_progress=lambda seen: tell("reading the folder", seen.documents_done, seen.documents_total)
                )
        embedded = self._embed_all(tell)
        self.catalogue.set_meta(MODEL, self.embedder.id)
        index = self._index()
        try:
            index.rebuild(lambda done, of: tell("building the index", done, of))
        finally:
            index.close()
        return f"{self.catalogue.chunk_count()} chunks in the index, {embedded} of them embedded anew."

    def status(self) -> tuple[list[str], bool]:
        """How things stand, a line each, and whether nothing is damaged."""
        owners = self.catalogue.owners()
        lines = [
            f"{self.catalogue.count(owners)} documents of {len(owners)} owners, {self.catalogue.chunk_count()} chunks",
            f"embedded by {self.catalogue.get_meta(MODEL) or 'none yet'}",
            f"waiting for the index: {self.catalogue.pending_count()}",
        ]
        damage = self.catalogue.check()
        if not damage and self.catalogue.chunk_count():
            damage = self.vectors.check()
        return [*lines, *damage], not damage

    def _gone_along(self, document: Document, known: bool) -> tuple[Document, bool]:
        """A document that was added, where it is if its owner was moved meanwhile."""
        to = self.catalogue.moved_to(document.owner)
        if to is None:
            return document, known
        self.move(document.owner, to)
        there = self.catalogue.by_source(to, document.source).get(document.source, document)
        if there.original:
            self._originals.give(there.original, to)
        return there, known or there.id != document.id

    def _embed_all(self, tell: Told) -> int:
        """Vectors by the model in force for every chunk that has none; how many were made."""
        from knowledge.prepare import chunk_tokens_of
        from knowledge.splitting import header_of

        model, made = self.embedder.id, 0
        documents = self.catalogue.documents(self.catalogue.owners())
        for number, document in enumerate(documents, 1):
            tokens = chunk_tokens_of(document)
            chunks = {chunk.hash: chunk for chunk in self.catalogue.chunks_of(document.id)}
            missing = self.catalogue.missing_vectors(list(chunks), model)
            if missing:
                vectors = self.embedder.embed_passages(
                    [header_of(document.title, chunks[each].heading, tokens) + chunks[each].text for each in missing]
                )
                self.catalogue.put_vectors(model, dict(zip(missing, vectors, strict=True)))
                made += len(missing)
            tell("embedding", number, len(documents))
        return made

    def _put_catalogue_aside(self) -> None:
        aside = self.folder / f"catalogue-put-aside-{time.strftime('%Y%m%d-%H%M%S')}"
        for file in sorted(self.folder.glob("catalogue.db*")):
            aside.mkdir(exist_ok=True)
            file.rename(aside / file.name)

    def _index(self) -> VectorIndex:
        from knowledge.vectors import VectorIndex

        return VectorIndex(
            self.catalogue, self.settings.knowledge, self.folder, self.embedder.id, self._dimensions(self.embedder)
        )

    def _dimensions(self, embedder: Embedder) -> int:
        """A server of embeddings that is down need not tell what is known; see `knowledge.search` on what goes then."""
        try:
            return embedder.dimensions
        except EmbeddingsFailed:
            if (known := self.catalogue.dimensions(embedder.id)) is None:
                raise
            return known

    @property
    def _originals(self) -> Originals:
        from knowledge.originals import Originals

        return Originals(self.folder / ORIGINALS)

    # The parts, each made when first needed

    @cached_property
    def embedder(self) -> Embedder:
        from knowledge.embedding import open_embedder

        with self._parts:
            embedder = open_embedder(self.settings)
            self._opened.append(embedder.close)
            return embedder

    @cached_property
    def vectors(self) -> VectorIndex:
        with self._parts:
            index = self._index()
            index.open()
            self._opened.append(index.close)
            return index

    @cached_property
    def searcher(self) -> Searcher:
        from knowledge.rerank import open_reranker
        from knowledge.search import Searcher

        with self._parts:
            reranker = open_reranker(self.settings)
            return Searcher(self.catalogue, self.vectors, self.embedder, self.settings.knowledge, reranker)

    @cached_property
    def reader(self) -> Reader:
        from knowledge.reading import Reader

        with self._parts:
            reader = Reader(self.settings.knowledge)
            self._opened.append(reader.close)
            return reader

    @cached_property
    def ingest(self) -> Ingest:
        from knowledge.ingest import Ingest

        with self._parts:
            return Ingest(self.catalogue, self.reader, self.embedder, self.settings.knowledge, self.folder / ORIGINALS)

    @cached_property
    def sync(self) -> Sync:
        from knowledge.sync import Sync

        with self._parts:
            return Sync(self.catalogue, self.ingest, self.settings.knowledge)


def _untold(what: str, done: int, of: int | None) -> None:
    pass
