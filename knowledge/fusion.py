"""Two rankings of the same candidates become one.

The scores of both searches are brought to 0..1 within the query (min-max) and added, weighted. This convex combination
keeps how far apart candidates are, which ranks alone forget; it was better than reciprocal rank fusion on every set
here, as in Bruch, Gai and Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval" (ACM TOIS 2023).
"""

from __future__ import annotations

from collections.abc import Mapping


def convex(lexical: Mapping[int, float], dense: Mapping[int, float], dense_weight: float) -> dict[int, float]:
    """Chunk id -> score in 0..1, best first.

    A candidate that the lexical search did not return counts as holding no word of the question; one without a cosine
    counts as the farthest of all. Where one search found nothing, the other decides alone.
    """
    words, meaning = _normalised(lexical, lowest=0.0), _normalised(dense)
    if not words or not meaning:
        return _ranked(words or meaning)
    ids = [*meaning, *(chunk_id for chunk_id in words if chunk_id not in meaning)]
    return _ranked(
        {i: dense_weight * meaning.get(i, 0.0) + (1 - dense_weight) * words.get(i, 0.0) for i in ids},
    )


def reciprocal_rank(lexical: Mapping[int, float], dense: Mapping[int, float], k: int = 60) -> dict[int, float]:
    """Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet" (SIGIR 2009): to compare with."""
    scores: dict[int, float] = {}
    for ranking in (_ranked(dense), _ranked(lexical)):
        for rank, chunk_id in enumerate(ranking, 1):
            scores[chunk_id] = scores.get(chunk_id, 0.0) + 1 / (k + rank)
    return _ranked(scores)


def _normalised(scores: Mapping[int, float], lowest: float | None = None) -> dict[int, float]:
    if not scores:
        return {}
    low = min(scores.values()) if lowest is None else min(lowest, *scores.values())
    span = max(scores.values()) - low
    return {chunk_id: (score - low) / span if span > 0 else 1.0 for chunk_id, score in scores.items()}


def _ranked(scores: Mapping[int, float]) -> dict[int, float]:
    return dict(sorted(scores.items(), key=lambda item: (-item[1], item[0])))
