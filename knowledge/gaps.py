"""Questions that mean much the same, put together, so that an operator sees what is missing and how often.

Greedy single-pass clustering by cosine: a question joins the nearest group whose first member it is close to, else it
begins one. Good enough for hundreds of questions, and the order of time decides what names a group: its first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from knowledge.embedding import Embedder
from knowledge.lexical import query_terms

ALIKE = 0.9  # cosine; with the bundled model paraphrases lie above it and other questions below
SHARED_TERMS = 0.6  # Jaccard, for those that differ in little but word order


@dataclass
class Group:
    """Indexes into the questions given; the first is the one that names it."""

    members: list[int] = field(default_factory=list)


def grouped(questions: Sequence[str], embedder: Embedder) -> list[Group]:
    """The largest group first, then by the order given."""
    if not questions:
        return []
    vectors = embedder.embed_queries(questions)
    words = [set(query_terms(question)) for question in questions]
    groups: list[Group] = []
    for index in range(len(questions)):
        nearest = _nearest(index, groups, vectors, words)
        if nearest is None:
            groups.append(Group([index]))
        else:
            nearest.members.append(index)
    return sorted(groups, key=lambda group: (-len(group.members), group.members[0]))


def _nearest(index: int, groups: Sequence[Group], vectors: np.ndarray, words: Sequence[set[str]]) -> Group | None:
    best: tuple[float, Group] | None = None
    for group in groups:
        first = group.members[0]
        cosine = float(vectors[index] @ vectors[first])
        union = words[index] | words[first]
        shared = len(words[index] & words[first]) / len(union) if union else 1.0
        if (cosine >= ALIKE and shared > 0) or shared >= SHARED_TERMS:
            best = max(best or (cosine, group), (cosine, group), key=lambda each: each[0])
    return best[1] if best else None
