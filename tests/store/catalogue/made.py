"""Documents, chunks and vectors made for tests. A chunk's text says it all: its hash and its words follow from it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from store.catalogue.catalogue import Catalogue, Document, NewChunk, NewDocument
from store.catalogue.vectors import Vector

MODEL = "house-e5-int8"
DIMENSIONS = 8


def document(owner: str, name: str, **other: Any) -> NewDocument:
    return replace(
        NewDocument(
            owner=owner,
            source=f"file:{name}",
            name=name,
            title=name.title(),
            kind="text",
            mime="text/plain",
            content_hash=hash_of(name),
            size=1,
            mtime_ns=1,
            pages=None,
            original=f"ab/{name}",
            added_by=None,
        ),
        **other,
    )


def chunk(text: str, **other: Any) -> NewChunk:
    made = NewChunk(
        text=text, heading="", page=None, page_end=None, hash=hash_of(text), tokens=len(text.split()), words=text
    )
    return replace(made, **other)


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


def vector_of(hash_: str) -> Vector:
    """Always the same, of unit length, and another for another hash; float16 holds it exactly enough."""
    seed = int.from_bytes(hashlib.sha256(hash_.encode()).digest()[:8], "big")
    vector = np.random.default_rng(seed).standard_normal(DIMENSIONS)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def add(catalogue: Catalogue, owner: str, name: str, texts: Sequence[str], **other: Any) -> Document:
    """A document of chunks with these texts, and their vectors."""
    return put(catalogue, [(document(owner, name, **other), [chunk(text) for text in texts])])[0]


def put(catalogue: Catalogue, items: Sequence[tuple[NewDocument, Sequence[NewChunk]]]) -> list[Document]:
    hashes = {each.hash for _, chunks in items for each in chunks}
    catalogue.put_vectors(MODEL, {each: vector_of(each) for each in hashes})
    return catalogue.put(items, MODEL)


def ids(catalogue: Catalogue, document: Document) -> list[int]:
    return [each.id for each in catalogue.chunks_of(document.id)]


def texts(catalogue: Catalogue, document: Document) -> list[str]:
    return [each.text for each in catalogue.chunks_of(document.id)]


def found(catalogue: Catalogue, words: str, readable: Sequence[str], limit: int = 50) -> list[str]:
    """The texts of what the words find, the best first."""
    hits = catalogue.search_words(words.split(), readable, limit)
    chunks = catalogue.chunks([chunk_id for chunk_id, _ in hits], readable)
    return [chunks[chunk_id].text for chunk_id, _ in hits]


def bytes_of(folder: Path) -> bytes:
    """Everything in the catalogue's files."""
    return b"".join(file.read_bytes() for file in sorted(folder.iterdir()))
