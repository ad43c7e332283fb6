"""Small catalogues and vector indexes for tests: chunks by name, with vectors drawn from the name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from knowledge.vectors import VectorIndex
from settings import Knowledge
from store.catalogue.catalogue import Catalogue, Document, NewChunk, NewDocument

MODEL = "test-model"
DIMENSIONS = 16
ADA, BEN = "person:1", "person:2"


def vector_of(text: str, dimensions: int = DIMENSIONS) -> NDArray[np.float32]:
    """The same text has the same unit vector, in every process; no component is lost in float16."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
    drawn = np.random.default_rng(seed).normal(size=dimensions)
    return np.asarray(drawn / np.linalg.norm(drawn), dtype=np.float16).astype(np.float32)


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def add(catalogue: Catalogue, owner: str, source: str, texts: Sequence[str], model: str = MODEL) -> Document:
    embed(catalogue, texts, model)
    chunks = [NewChunk(text, "", None, None, hash_of(text), 1, hash_of(text)[:8]) for text in texts]
    document = NewDocument(
        owner=owner,
        source=f"file:{source}",
        name=source,
        title=source,
        kind="text",
        mime="text/plain",
        content_hash=hash_of("\n".join(texts)),
        size=1,
        mtime_ns=1,
        pages=None,
        original=source,
        added_by=None,
    )
    return catalogue.put([(document, chunks)], model)[0]


def embed(catalogue: Catalogue, texts: Sequence[str], model: str = MODEL) -> None:
    catalogue.put_vectors(model, {hash_of(text): vector_of(text) for text in texts})


def named(prefix: str, count: int) -> list[str]:
    return [f"{prefix} {number}" for number in range(count)]


@contextmanager
def index_on(folder: Path, *, model: str = MODEL, url: str = "", patience_s: float = 60) -> Iterator[VectorIndex]:
    """A vector index on a catalogue of its own, as another process would have it."""
    with Catalogue(folder) as catalogue:
        knowledge = Knowledge(chroma_url=url)
        with VectorIndex(catalogue, knowledge, folder, model, DIMENSIONS, patience_s=patience_s) as index:
            yield index


def texts_found(catalogue: Catalogue, index: VectorIndex, text: str, readable: Sequence[str], k: int = 5) -> list[str]:
    """What a person sees: the texts of the hits that are still there and theirs to read, the best first."""
    hits = index.search(vector_of(text), readable, k)
    chunks = catalogue.chunks([chunk for chunk, _ in hits], readable)
    return [chunks[chunk].text for chunk, _ in hits if chunk in chunks]


def ids_in_chroma(folder: Path, url: str = "") -> list[int]:
    """Every vector's id, with those that are there twice twice, as a new process finds them."""
    from knowledge.chroma import OpenChroma
    from knowledge.shards import LayoutNote

    with Catalogue(folder) as catalogue:
        layout = LayoutNote(catalogue).read()
    chroma = OpenChroma(url or folder / "chroma")
    try:
        return sorted(chunk for shard in layout.shards.values() for chunk in chroma.ids(shard.collection))
    finally:
        chroma.retire()


def all_chunk_ids(catalogue: Catalogue) -> list[int]:
    return [chunk for chunk, _, _ in catalogue.chunk_keys(limit=1_000_000)]
