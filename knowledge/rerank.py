"""A second look at the passages that a search found: a cross-encoder reads question and passage together.

It is better than comparing vectors and far slower, so it sees only the best candidates, and only where the operator
names one. Source: passage re-ranking with BERT (Nogueira and Cho, 2019, arXiv:1901.04085).
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

import numpy as np

from knowledge.embedding.checked import well_formed
from knowledge.embedding.hub import load
from knowledge.errors import EmbeddingsFailed
from settings import Settings

BATCH = 16


def open_reranker(settings: Settings) -> Reranker | None:
    """The one that the settings name; None where they name none. It may take seconds. Raises EmbeddingsFailed."""
    return Reranker(settings.knowledge.reranker) if settings.knowledge.reranker else None


class Reranker:
    """Blocking; any thread may use it, one at a time is served."""

    def __init__(self, name: str) -> None:
        """Raises EmbeddingsFailed."""
        from sentence_transformers import CrossEncoder

        self._name = name
        self._model = load(CrossEncoder, name, "knowledge.reranker")
        if (labels := self._model.num_labels) != 1:
            raise EmbeddingsFailed(
                f"{name} (knowledge.reranker) gives {labels} numbers for a pair; a reranker gives one."
            )
        self._lock = Lock()

    def score(self, question: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers, from 0 to 1. Raises EmbeddingsFailed."""
        from torch.nn import Sigmoid

        if not texts:
            return []
        pairs = [(well_formed(question), well_formed(text)) for text in texts]
        with self._lock:
            scores = self._model.predict(
                pairs, batch_size=BATCH, activation_fn=Sigmoid(), show_progress_bar=False, convert_to_numpy=True
            )
        if not np.isfinite(scores).all():
            raise EmbeddingsFailed(f"{self._name} (knowledge.reranker) gave scores that are not finite numbers.")
        return [float(score) for score in scores]
