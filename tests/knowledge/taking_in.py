"""What tests of taking in documents share: a real catalogue, and quick stand-ins for reading and embedding.

The reader takes a file's text, a paragraph a line; a first line "# title" is its title, else its name is. The embedder
makes vectors from hashes, so equal texts have equal vectors and no others.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from knowledge.errors import DocumentDamaged, DocumentEmpty
from knowledge.ingest import Ingest
from knowledge.parsed import Block, ParsedDocument
from knowledge.sync import Sync
from settings import Knowledge
from store.catalogue.catalogue import Catalogue

LONG_AGO = 1_700_000_000


class HashEmbedder:
    id = "hash"
    dimensions = 8
    max_tokens = 512

    def __init__(self) -> None:
        self.embedded: list[str] = []
        self.before: Callable[[Sequence[str]], None] = lambda texts: None

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def embed_passages(
        self, texts: Sequence[str], *, on_batch: Callable[[int], None] | None = None
    ) -> npt.NDArray[np.float32]:
        self.before(texts)
        self.embedded += texts
        if on_batch is not None:
            on_batch(len(texts))
        return np.stack([vector_of(text) for text in texts])

    def embed_queries(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return self.embed_passages(texts)

    def close(self) -> None:
        pass


def vector_of(text: str) -> npt.NDArray[np.float32]:
    seed = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8]
    vector = np.frombuffer(seed, dtype=np.uint8).astype(np.float32) - 127.5
    return vector / np.linalg.norm(vector)


class LineReader:
    def __init__(self) -> None:
        self.read_names: list[str] = []
        self.before: Callable[[Path], None] = lambda path: None

    def read(self, path: Path, name: str, mime: str = "") -> ParsedDocument:
        self.read_names.append(name)
        self.before(path)
        content = path.read_bytes()
        if b"\x00" in content:
            raise DocumentDamaged(name, "it is not text")
        lines = content.decode("utf-8", "replace").splitlines()
        title = lines.pop(0)[2:] if lines and lines[0].startswith("# ") else Path(name).stem
        blocks = tuple(Block("paragraph", line) for line in lines if line.strip())
        if not blocks:
            raise DocumentEmpty(name, "there is no text in it")
        return ParsedDocument(title, "text", blocks)


class Place:
    """A data folder with its catalogue, and a folder of documents. A second one is what another process would see."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.folder = root / "documents"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data = root / "data" / "knowledge"
        self.knowledge = Knowledge(folder=self.folder, **{"chunk_tokens": 32, **settings})
        self.catalogue = Catalogue(self.data)
        self.reader = LineReader()
        self.embedder = HashEmbedder()
        self.ingest = Ingest(self.catalogue, self.reader, self.embedder, self.knowledge, self.data / "originals")
        self.sync = Sync(self.catalogue, self.ingest, self.knowledge)

    def __enter__(self) -> Place:
        self.catalogue.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.catalogue.close()

    def write(self, name: str, content: str | bytes, *, age_s: float | None = None) -> Path:
        """A file of the folder, written long ago, at another second for each content."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(data)
        when = time.time() - age_s if age_s is not None else LONG_AGO + int(hashlib.md5(data).hexdigest()[:6], 16)
        os.utime(path, (when, when))
        return path

    def originals(self) -> list[str]:
        """What lies among the originals, by their names' parts that are not by chance."""
        files = (path for path in (self.data / "originals").rglob("*") if path.is_file())
        return sorted(f"{path.name[: -13 - len(path.suffix) + 4]}{path.suffix}" for path in files)

    def state(self) -> dict[str, Any]:
        """All that a reader of the catalogue can see, without numbers that depend on the way there."""
        documents = self.catalogue.by_source("shared", "")
        chunks = {source: self.catalogue.chunks_of(document.id) for source, document in documents.items()}
        hashes = {chunk.hash for each in chunks.values() for chunk in each}
        vectors = self.catalogue.vectors(sorted(hashes), self.embedder.id)
        words = {word for each in chunks.values() for chunk in each for word in chunk.text.split()}
        found: dict[str, list[tuple[str, int]]] = {}
        places = {chunk.id: (source, chunk.position) for source, each in chunks.items() for chunk in each}
        for word in sorted(words):
            from knowledge.lexical import terms

            hits = self.catalogue.search_words(terms(word), ["shared"], 10_000)
            found[word] = sorted(places[chunk_id] for chunk_id, _ in hits)
        return {
            "documents": {
                source: (each.name, each.title, each.kind, each.content_hash, each.size, each.chunks)
                for source, each in documents.items()
            },
            "chunks": {
                source: [(chunk.position, chunk.heading, chunk.text, chunk.hash) for chunk in each]
                for source, each in chunks.items()
            },
            "vectors": {hash: vector.round(3).tolist() for hash, vector in sorted(vectors.items())},
            "found": found,
            "refusals": {source: each.kind for source, each in self.catalogue.refusals("shared").items()},
            "keys": sorted((places[chunk_id], owner, hash) for chunk_id, owner, hash in self.catalogue.chunk_keys()),
        }
