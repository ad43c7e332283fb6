"""Any model of sentence-transformers, by its id or folder.

Source: Sentence-BERT (Reimers and Gurevych, 2019, arXiv:1908.10084).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from knowledge.embedding import Vectors
from knowledge.embedding.checked import estimated_tokens, unit_vectors, well_formed
from knowledge.embedding.hub import load
from knowledge.embedding.prompts import Prompts, prompts_of
from settings import Knowledge

BATCH = 32
LONGEST = 8192  # tokens, where a model does not say how long its texts may be


class SentenceEmbedder:
    def __init__(self, knowledge: Knowledge) -> None:
        """Raises EmbeddingsFailed."""
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(knowledge.embedding_threads or os.cpu_count() or 1)
        self._model = load(SentenceTransformer, knowledge.embeddings, "knowledge.embeddings")
        self._name = Path(knowledge.embeddings).name if Path(knowledge.embeddings).is_dir() else knowledge.embeddings
        self._prompts = _prompts(self._model, self._name)
        self._lock = Lock()  # a fast tokenizer must not be asked by two threads at once
        longest = self._model.max_seq_length or LONGEST
        added = len(self._ids([self._prompts.passage], added=True)[0])
        self.max_tokens = max(1, min(longest, LONGEST) - added)
        self.dimensions = self.embed_queries([""]).shape[1]
        self.id = f"{self._name}/{_fingerprint(self._model, self._prompts)}"

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        if not texts:
            return []
        with self._lock:
            return [len(ids) for ids in self._ids([well_formed(text) for text in texts], added=False)]

    def embed_passages(self, texts: Sequence[str], *, on_batch: Callable[[int], None] | None = None) -> Vectors:
        return self._embedded(texts, self._model.encode_document, self._prompts.passage, on_batch)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self._embedded(texts, self._model.encode_query, self._prompts.query, None)

    def close(self) -> None:
        """Nothing is held but memory."""

    def _embedded(
        self, texts: Sequence[str], encode: Any, prompt: str, on_batch: Callable[[int], None] | None
    ) -> Vectors:
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))  # alike in length: little padding
        vectors = np.empty((len(texts), getattr(self, "dimensions", 0)), np.float32)
        for begin in range(0, len(order), BATCH):
            numbers = order[begin : begin + BATCH]
            batch = [well_formed(texts[number]) for number in numbers]
            with self._lock:
                given = encode(batch, prompt=prompt, batch_size=BATCH, show_progress_bar=False)
            unit = unit_vectors(given, len(batch), vectors.shape[1] or None, self._name)
            if not vectors.shape[1]:
                vectors = np.empty((len(texts), unit.shape[1]), np.float32)
            vectors[numbers] = unit
            if on_batch is not None:
                on_batch(begin + len(batch))
        return vectors

    def _ids(self, texts: Sequence[str], *, added: bool) -> list[Any]:
        tokenizer = self._model.tokenizer
        if not callable(tokenizer):  # a model of word vectors
            return [range(estimated_tokens(text)) for text in texts]
        ids: list[Any] = tokenizer(list(texts), add_special_tokens=added, truncation=False, verbose=False)["input_ids"]
        return ids


def _prompts(model: Any, name: str) -> Prompts:
    """The model's own, else those that its name asks for."""
    own = model.prompts
    passage = next((own[key] for key in ("document", "passage", "corpus") if own.get(key)), "")
    return Prompts(own.get("query") or "", passage) if own.get("query") or passage else prompts_of(name)


def _fingerprint(model: Any, prompts: Prompts) -> str:
    """Of some numbers of each weight: a model that was trained on is another one, whatever its folder is called."""
    import torch

    digest = hashlib.sha256(repr(prompts).encode())
    for name, weight in model.state_dict().items():
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        digest.update(weight.reshape(-1)[:64].to("cpu", torch.float32).numpy().tobytes())
    return digest.hexdigest()[:12]
