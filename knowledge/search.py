"""A question becomes passages: found by meaning and by words, put in one order, judged, and joined.

    question (and history) -> what to search for        followup
      -> candidates: vectors.search, catalogue.search_words, both within what the asker may read
      -> one order                                      fusion, or the reranker
      -> relevance 0..1, and the floor                  relevance
      -> distinct, neighbours joined                    passages

When the embedding model does not answer, the question is compared by its words alone: better few passages than none.

Whom the passages are for is said in every call, and both searches and the reading of the text ask for it again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from knowledge import followup, fusion, lexical, relevance
from knowledge.errors import EmbeddingsFailed
from knowledge.passages import Candidate, Passage, distinct, passages
from settings import Knowledge

if TYPE_CHECKING:
    from knowledge.embedding import Embedder
    from knowledge.rerank import Reranker
    from knowledge.vectors import VectorIndex
    from store.catalogue.catalogue import Catalogue, Chunk

__all__ = ["Found", "Passage", "Searcher"]

CANDIDATES = 50  # of each search
JUDGED_A_PASSAGE = 3  # candidates whose text is looked at, for each passage wanted: neighbours and doubles fall away
JUDGED_AT_LEAST = 10
RERANKED = 20
TERMS = 32  # of a question; who pastes a page as a question is served by its rarest words
TERMS_COUNTED = 512

Vector = npt.NDArray[np.float32]

log = logging.getLogger("familiar")


@dataclass(frozen=True)
class Found:
    passages: tuple[Passage, ...]  # the best first
    best: float  # relevance of the best candidate, also when it is below the floor; 0 when there is none
    query: str  # what was searched for
    timings: dict[str, float]  # seconds: embed, dense, lexical, judge, and rerank where there is one
    degraded: str = ""  # why only words were compared, and no meaning


class Searcher:
    """Blocking; any thread may use it, several at a time."""

    def __init__(
        self,
        catalogue: Catalogue,
        vectors: VectorIndex,
        embedder: Embedder,
        knowledge: Knowledge,
        reranker: Reranker | None = None,
    ) -> None:
        self.catalogue = catalogue
        self.vectors = vectors
        self.embedder = embedder
        self.knowledge = knowledge
        self.reranker = reranker
        self._estimated: relevance.Calibration | None = None
        self._warned = False

    @property
    def judge(self) -> str:
        """What the relevance was judged by; a floor that was found with another judge says nothing."""
        return f"{self.embedder.id}+{self.knowledge.reranker}" if self.reranker else self.embedder.id

    @property
    def floor(self) -> float:
        """The relevance that a passage must have to be used, as things stand."""
        configured = self.knowledge.relevance_floor
        return self.calibration().floor if configured == "auto" else configured

    def search(
        self,
        question: str,
        readable: Sequence[str],
        *,
        history: Sequence[str] = (),
        limit: int | None = None,
        floor: float | None = None,
    ) -> Found:
        """The passages that answer `question`, of documents whose owner is among `readable`.

        `history` holds the person's earlier messages of this branch, the oldest first. `floor`: the relevance that a
        passage must have; None is the one in force, 0 none. Raises KnowledgeError and StoreError, but not when the
        embedding model fails: see `Found.degraded`.
        """
        query = question if self.knowledge.follow_ups == "off" else followup.standalone(question, history)
        query = query.encode("utf-8", "replace").decode()
        if not query.strip():
            return Found((), 0.0, query, {})
        timings: dict[str, float] = {}
        clock = _Clock(timings)
        vector, degraded = self._embedded(query)
        clock.lap("embed")
        if not readable:
            return Found((), 0.0, query, timings, degraded)
        dense = {} if vector is None else dict(self.vectors.search(vector, readable, CANDIDATES))
        clock.lap("dense")
        weights = self._weights(query, readable)
        by_words = dict(self.catalogue.search_words(list(weights), readable, CANDIDATES))
        clock.lap("lexical")
        chunks = self.catalogue.chunks([*dict.fromkeys([*dense, *by_words])], readable)
        cosines = {} if vector is None else self._with_cosines(dense, chunks, vector)
        by_words = {chunk_id: score for chunk_id, score in by_words.items() if chunk_id in chunks}
        ranked = list(fusion.convex(by_words, cosines, self.knowledge.dense_weight))
        calibration = self.calibration()
        wanted = limit or self.knowledge.passages
        judged = [
            self._judged(
                query, chunks[chunk_id], cosines.get(chunk_id), by_words.get(chunk_id, 0.0), weights, calibration
            )
            for chunk_id in ranked[: max(JUDGED_AT_LEAST, JUDGED_A_PASSAGE * wanted, RERANKED if self.reranker else 0)]
        ]
        clock.lap("judge")
        if self.reranker and judged:
            judged = self._reranked(query, judged)
            clock.lap("rerank")
        if floor is None:
            configured = self.knowledge.relevance_floor
            floor = calibration.floor if configured == "auto" else configured
        best = max((candidate.relevance for candidate in judged), default=0.0)
        above = [candidate for candidate in judged if candidate.relevance >= floor]
        return Found(tuple(passages(distinct(above), wanted)), best, query, timings, degraded)

    def calibration(self) -> relevance.Calibration:
        """How relevance is judged here."""
        if in_force := relevance.in_force(self.catalogue, self.judge):
            return in_force
        if self._estimated is None:
            self._estimated = relevance.estimated(self.catalogue, self.embedder.id, self.judge)
        return self._estimated

    def _embedded(self, query: str) -> tuple[Vector | None, str]:
        """The question's vector; or None, and why there is none. An outage is logged once."""
        try:
            vector: Vector = self.embedder.embed_queries([query])[0]
        except EmbeddingsFailed as error:
            if not self._warned:
                log.warning("questions are compared by their words alone, as they cannot be embedded: %s", error)
            self._warned = True
            return None, str(error)
        self._warned = False
        return vector, ""

    def _weights(self, query: str, readable: Sequence[str]) -> dict[str, float]:
        """The terms to search for and to cover, with what each counts in what may be read."""
        terms = lexical.query_terms(query)[:TERMS_COUNTED]
        weights = relevance.weights(*self.catalogue.document_frequencies(terms, readable))
        if len(weights) <= TERMS:
            return weights
        rarest = sorted(weights, key=lambda term: -weights[term])[:TERMS]
        return {term: weights[term] for term in rarest}

    def _with_cosines(
        self, dense: Mapping[int, float], chunks: Mapping[int, Chunk], vector: Vector
    ) -> dict[int, float]:
        """The cosine of every candidate, the best first: also of those that only their words brought in."""
        cosines = {chunk_id: cosine for chunk_id, cosine in dense.items() if chunk_id in chunks}
        missing = [chunk for chunk_id, chunk in chunks.items() if chunk_id not in cosines]
        stored = self.catalogue.vectors(list({chunk.hash for chunk in missing}), self.embedder.id) if missing else {}
        for chunk in missing:
            if (theirs := stored.get(chunk.hash)) is not None:
                cosines[chunk.id] = float(theirs @ vector)
        return cosines

    def _judged(
        self,
        query: str,
        chunk: Chunk,
        cosine: float | None,
        bm25: float,
        weights: Mapping[str, float],
        calibration: relevance.Calibration,
    ) -> Candidate:
        terms = tuple(lexical.terms(chunk.text))
        share = relevance.covered({*terms, *lexical.terms(f"{chunk.title}\n{chunk.heading}")}, weights)
        if cosine is None:
            return Candidate(chunk, terms, relevance.by_words(share), 0.0, bm25)
        score = relevance.relevance(query, chunk.text, share, cosine, calibration)
        return Candidate(chunk, terms, score, cosine, bm25)

    def _reranked(self, query: str, judged: Sequence[Candidate]) -> list[Candidate]:
        """In the cross-encoder's order, and with its score as the relevance: it has read both texts together."""
        assert self.reranker is not None
        texts = [f"{candidate.chunk.heading or candidate.chunk.title}\n{candidate.chunk.text}" for candidate in judged]
        scores = self.reranker.score(query, texts)
        order = sorted(range(len(judged)), key=lambda index: -scores[index])
        return [judged[index].scored(float(scores[index])) for index in order]


class _Clock:
    def __init__(self, timings: dict[str, float]) -> None:
        self._timings = timings
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self._timings[name] = now - self._last
        self._last = now
