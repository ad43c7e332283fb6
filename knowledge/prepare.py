"""A file becomes a document with its chunks, ready to be embedded: all that can be done for several files at a time.

    KnowledgeError
    ├── TooManyDocuments           a person or a group has handed over as many as they may
    └── DocumentRefused
        └── DocumentUnreadable     not now: it vanished, may not be opened, or changed while it was read

What a document was read by is part of its `content_hash` ("<sha256>/<recipe>"): when reading, splitting or
`chunk_tokens` change, it counts as changed, and the next sync takes it in again.
"""

from __future__ import annotations

import logging
import mimetypes
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol
from uuid import uuid4

from knowledge.embedding import Embedder
from knowledge.errors import DocumentEmpty, DocumentRefused, DocumentTooLarge, KnowledgeError
from knowledge.lexical import terms
from knowledge.originals import Kept, Originals, fingerprint
from knowledge.parsed import ParsedDocument
from knowledge.splitting import DEFAULT_CHUNK_TOKENS, SPLITTER_VERSION, Piece, hash_of, header_of, split
from settings import Knowledge
from store.catalogue.catalogue import Catalogue, Document, NewChunk, NewDocument
from store.catalogue.owners import SHARED
from store.errors import StoreError

Stage = Literal["reading", "splitting", "indexing"]
Step = Callable[[float, Stage], None]  # the share of the whole that is done, from 0 to 1, and what goes on

FOLDER = "folder:"
READING_VERSION = 1  # raise it when reading a file finds other text than before

_SETTLED_NS = 2 * 10**9
_SPLIT_BY = re.compile(r"/r\d+s\d+t(\d+)$")

log = logging.getLogger("familiar")


class TooManyDocuments(KnowledgeError):
    pass


class DocumentUnreadable(DocumentRefused):
    pass


class Reads(Protocol):
    """knowledge.reading.Reader, as far as it is needed here."""

    def read(self, path: Path, name: str, mime: str = "") -> ParsedDocument: ...


@dataclass(frozen=True)
class ToAdd:
    owner: str
    source: str  # "folder:<relative path>", "url:<address>", "file:<sha256>"; "file:" alone is completed
    name: str
    path: Path
    mime: str = ""
    added_by: int | None = None
    original: str = ""  # where it already lies among the originals: when the catalogue is made anew

    @property
    def is_of_folder(self) -> bool:
        return self.source.startswith(FOLDER)


@dataclass(frozen=True)
class Known:
    """The same content is there already."""

    item: ToAdd
    document: Document


@dataclass(frozen=True)
class Prepared:
    item: ToAdd
    document: NewDocument
    chunks: Sequence[NewChunk]
    kept: Kept | None  # an original that is new
    chunk_tokens: int

    @property
    def key(self) -> tuple[str, str]:
        return self.document.owner, self.document.source

    def texts(self) -> dict[str, str]:
        """What is to be embedded, by hash."""
        title = self.document.title
        return {chunk.hash: header_of(title, chunk.heading, self.chunk_tokens) + chunk.text for chunk in self.chunks}


class Preparation:
    """Thread-safe."""

    def __init__(
        self, catalogue: Catalogue, reader: Reads, embedder: Embedder, knowledge: Knowledge, originals: Originals
    ) -> None:
        self.catalogue = catalogue
        self.reader = reader
        self.embedder = embedder
        self.knowledge = knowledge
        self.originals = originals
        self.recipe = f"r{READING_VERSION}s{SPLITTER_VERSION}t{knowledge.chunk_tokens}"
        self.limits = (  # a refused document is tried again when they change
            f"{self.recipe} {knowledge.max_file_mb:g} {knowledge.parse_timeout_s:g} {knowledge.parse_memory_mb} "
            f"{knowledge.ocr_pages}"
        )

    def prepare(self, item: ToAdd, step: Step = lambda share, stage: None) -> Prepared | Known:
        """`step` may raise to stop it. Raises DocumentRefused, TooManyDocuments and what is wrong with all documents,
        as EmbeddingsFailed and StoreError; nothing is left behind then."""
        kept: Kept | None = None
        try:
            with _explained(item.name):
                before = self._checked(item)
                step(0.02, "reading")
                if item.is_of_folder or item.original:
                    digest, path, original = fingerprint(item.path), item.path, item.original
                else:
                    kept = self._keep(item)
                    digest, path, original = kept.sha256, self.originals.path(kept.original), kept.original
                    item = replace(item, source=kept.source)
                content_hash, mtime_ns = f"{digest}/{self.recipe}", settled(before.st_mtime_ns)
                if (known := self._known(item, content_hash)) is not None:
                    self.drop(kept)
                    if item.is_of_folder and known.mtime_ns != mtime_ns:
                        self.catalogue.touch(known.id, mtime_ns)
                    return Known(item, known)
                self._check_room(item)
                step(0.05, "reading")
                parsed = self.reader.read(path, item.name, item.mime)
                step(0.2, "splitting")
                chunk_tokens = self.knowledge.chunk_tokens
                pieces = split(parsed, self.embedder.count_tokens, chunk_tokens=chunk_tokens)
                if not pieces:
                    raise DocumentEmpty(item.name, "there is no text in it")
                if item.is_of_folder and _differs(before, item.path.stat()):
                    raise DocumentUnreadable(item.name, "it changed while it was read; the next sync takes it in")
            document = NewDocument(
                owner=item.owner,
                source=item.source,
                name=item.name,
                title=parsed.title,
                kind=parsed.kind,
                mime=item.mime or mimetypes.guess_type(item.name)[0] or "",
                content_hash=content_hash,
                size=before.st_size,
                mtime_ns=mtime_ns,
                pages=parsed.pages,
                original=original,
                added_by=item.added_by,
                notes=parsed.notes,
            )
            chunks = [_chunk(parsed.title, piece, chunk_tokens) for piece in pieces]
            return Prepared(item, document, chunks, kept, chunk_tokens)
        except BaseException:
            with suppress(StoreError):
                self.drop(kept)
            raise

    def drop(self, kept: Kept | None) -> None:
        """An original that is not needed after all."""
        if kept is not None:
            self.originals.drop(kept.original)

    def _checked(self, item: ToAdd) -> os.stat_result:
        found = item.path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise DocumentUnreadable(item.name, "it is not a file")
        if found.st_size > self.knowledge.max_file_mb * 2**20:
            raise DocumentTooLarge(
                item.name,
                f"it has {found.st_size / 2**20:.1f} MB, more than the {self.knowledge.max_file_mb:g} MB that are read "
                "(knowledge.max_file_mb)",
            )
        return found

    def _keep(self, item: ToAdd) -> Kept:
        return self.originals.keep(
            item.path,
            owner=item.owner,
            source=item.source,
            name=item.name,
            mime=item.mime,
            added_by=item.added_by,
        )

    def _known(self, item: ToAdd, content_hash: str) -> Document | None:
        """A document of the folder is its path, so two paths with one content are two. Others are their content."""
        for document in self.catalogue.with_content(item.owner, content_hash):
            if document.source == item.source:
                return document
            handed_over = not item.is_of_folder and not document.source.startswith(FOLDER)
            if handed_over and not item.original:
                return document
        return None

    def _check_room(self, item: ToAdd) -> None:
        most = self.knowledge.documents_per_person
        if item.owner == SHARED or not most or item.original:
            return
        if self.catalogue.count([item.owner]) < most or self.catalogue.by_source(item.owner, item.source):
            return
        raise TooManyDocuments(
            f"{item.name} was not taken in: there are {most} documents already, which is the most "
            "(knowledge.documents_per_person). Remove one first."
        )


def settled(mtime_ns: int) -> int:
    """The time of change by which a file is known to be unchanged; 0, which no file has, where that cannot be told yet.

    Two writes within the tick of a file system's clock have one time. So a file that was written just now is looked at
    again by the next sync.
    """
    return mtime_ns if time.time_ns() - mtime_ns > _SETTLED_NS else 0


def chunk_tokens_of(document: Document) -> int:
    """With which setting it was split. It may be another by now, and what was embedded followed from the old one."""
    split_by = _SPLIT_BY.search(document.content_hash)
    return int(split_by[1]) if split_by else DEFAULT_CHUNK_TOKENS


def _differs(before: os.stat_result, after: os.stat_result) -> bool:
    def written(found: os.stat_result) -> tuple[int, int, int, int]:
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino

    return written(before) != written(after)


def _chunk(title: str, piece: Piece, chunk_tokens: int) -> NewChunk:
    embedded = header_of(title, piece.heading, chunk_tokens) + piece.text
    return NewChunk(
        text=piece.text,
        heading=piece.heading,
        page=piece.page,
        page_end=piece.page_end,
        hash=hash_of(embedded),
        tokens=piece.tokens,
        words=" ".join(terms(embedded)),
    )


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Whatever goes wrong with one document is a DocumentRefused; what would go wrong with every one stays as it is."""
    try:
        yield
    except (KnowledgeError, StoreError):
        raise
    except OSError as error:
        raise DocumentUnreadable(name, f"it cannot be read ({error.strerror or error})") from error
    except Exception as error:
        reference = uuid4().hex[:8]
        log.exception("reading %r failed unexpectedly (%s)", name, reference)
        raise DocumentUnreadable(name, f"something unforeseen went wrong, see the log for {reference}") from error
