"""A real catalogue and index, and an embedding model of a few topics: texts on one topic lie close together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from knowledge import lexical
from knowledge.search import Searcher
from knowledge.vectors import VectorIndex
from settings import Knowledge
from store.catalogue.catalogue import Catalogue, Document, NewChunk, NewDocument

TOPICS = {
    "hours": ("open", "hours", "sunday", "closed", "開放", "時間", "几点", "營業"),
    "refund": ("refund", "money", "return", "退款", "退貨", "退货"),
    "dogs": ("dog", "puppy", "leash", "狗", "犬"),
    "printer": ("printer", "toner", "paper", "印表機"),
}
DIMENSIONS = len(TOPICS) + 33


class TopicEmbedder:
    """Its id makes relevance be judged as for the bundled model: unrelated texts at .78, the same topic near .9."""

    id = "multilingual-e5-small/topics"
    dimensions = DIMENSIONS
    max_tokens = 512

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def embed_passages(
        self, texts: Sequence[str], *, on_batch: Callable[[int], None] | None = None
    ) -> npt.NDArray[np.float32]:
        return np.stack([self._embed(text) for text in texts])

    def embed_queries(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return self.embed_passages(texts)

    def close(self) -> None:
        pass

    def _embed(self, text: str) -> npt.NDArray[np.float32]:
        text = text.casefold()
        topics = [float(any(word in text for word in words)) for words in TOPICS.values()]
        bits = np.unpackbits(np.frombuffer(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:4], np.uint8))
        own = (2.0 * bits - 1.0) / np.sqrt(32)
        vector = np.array([*(0.45 * np.array(topics)), *((0.3 if any(topics) else 0.52) * own), 0.85], dtype=np.float32)
        return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


class Shelf:
    """Documents to search in."""

    def __init__(self, folder: Path, embedder: TopicEmbedder | None = None, **knowledge: object) -> None:
        self.knowledge = Knowledge.model_validate(knowledge)
        self.embedder = embedder or TopicEmbedder()
        self.catalogue = Catalogue(folder).open()
        self.vectors = VectorIndex(
            self.catalogue, self.knowledge, folder, self.embedder.id, self.embedder.dimensions
        ).open()
        self.searcher = Searcher(self.catalogue, self.vectors, self.embedder, self.knowledge)

    def close(self) -> None:
        self.vectors.close()
        self.catalogue.close()

    def put(self, name: str, *texts: str, owner: str = "shared", heading: str = "", pages: bool = False) -> Document:
        item = self._item(name, texts, owner, heading, pages)
        return self.catalogue.put([item], self.embedder.id)[0]

    def fill(self, count: int) -> None:
        """Documents that answer nothing."""
        told = "Chapter {0} tells of mountains, rivers and the weather of year {0}."
        items = [
            self._item(f"filler {number}.md", (told.format(number),), "shared", "", False) for number in range(count)
        ]
        self.catalogue.put(items, self.embedder.id)

    def _item(
        self, name: str, texts: Sequence[str], owner: str, heading: str, pages: bool
    ) -> tuple[NewDocument, list[NewChunk]]:
        hashes = [hashlib.sha256(f"{name}{heading}{text}".encode()).hexdigest() for text in texts]
        vectors = self.embedder.embed_passages(texts)
        self.catalogue.put_vectors(self.embedder.id, dict(zip(hashes, vectors, strict=True)))
        chunks = []
        for number, (text, digest) in enumerate(zip(texts, hashes, strict=True), 1):
            page = number if pages else None
            words = " ".join(lexical.terms(f"{name}\n{heading}\n{text}"))
            chunks.append(NewChunk(text, heading, page, page, digest, len(text.split()), words))
        content = hashlib.sha256("".join(texts).encode()).hexdigest()
        document = NewDocument(
            owner, f"folder:{name}", name, name, "text", "text/plain", content, 1, 0, None, name, None
        )
        return document, chunks
