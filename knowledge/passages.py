"""From ranked chunks to the passages that stand in a prompt.

The same text twice (a page that lies in two files) takes the room of another passage: the lower one is dropped. Chunks
that stand next to each other and were both found become one passage, in the order of their document.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from store.catalogue.catalogue import Catalogue, Chunk

JOINED = 3  # chunks of one passage, at most: one long document must not take the room of all others
SAME = 0.9  # of the runs of words in either text are in both: the same text
RUN = 3  # terms
_ID = re.compile(r"(?P<document>[0-9]{1,15}):(?P<first>[0-9]{1,9})-(?P<last>[0-9]{1,9})@[0-9a-f]{8}", re.ASCII)


@dataclass(frozen=True)
class Passage:
    id: str  # "<document id>:<first position>-<last position>@<first 8 of the text's hash>"
    document_id: int
    owner: str
    title: str
    name: str
    source: str
    heading: str
    page: int | None
    page_end: int | None
    text: str
    score: float  # relevance, 0 to 1
    dense: float  # cosine to the question
    lexical: float  # BM25


@dataclass(frozen=True)
class Candidate:
    chunk: Chunk
    terms: tuple[str, ...]  # of its text
    relevance: float
    dense: float
    lexical: float

    def scored(self, relevance: float) -> Candidate:
        return replace(self, relevance=relevance)


def distinct(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Without those that say the same as a better one. Best first."""
    kept: list[tuple[Candidate, frozenset[tuple[str, ...]]]] = []
    for candidate in candidates:
        runs = _runs(candidate.terms)
        if not any(_same(runs, other) for _, other in kept):
            kept.append((candidate, runs))
    return [candidate for candidate, _ in kept]


def passages(candidates: Sequence[Candidate], limit: int) -> list[Passage]:
    """The best `limit` passages of the candidates (best first); a passage stands where its best chunk stands."""
    groups: list[list[Candidate]] = []
    for candidate in candidates:
        touching = [group for group in groups if _touches(group, candidate)]
        size = 1 + sum(len(group) for group in touching)
        if touching and size <= JOINED:
            first, *others = touching
            first.extend([candidate, *(member for group in others for member in group)])
            groups = [group for group in groups if not any(group is other for other in others)]
        elif len(groups) < limit:
            groups.append([candidate])
    return [_joined(group) for group in groups]


def by_id(catalogue: Catalogue, passage_id: str, readable: Sequence[str]) -> Passage | None:
    """A passage that was found before; None when it is gone, says something else now, or is not theirs to read."""
    match = _ID.fullmatch(passage_id)
    if match is None:
        return None
    document_id, first, last = (int(match[group]) for group in ("document", "first", "last"))
    if last - first >= JOINED:
        return None
    there = catalogue.neighbours(document_id, first, last)
    chunks = catalogue.chunks([chunk.id for chunk in there], readable).values()
    if not chunks:
        return None
    passage = _joined([Candidate(chunk, (), 0.0, 0.0, 0.0) for chunk in chunks])
    return passage if passage.id == passage_id else None


def _touches(group: list[Candidate], candidate: Candidate) -> bool:
    chunk = candidate.chunk
    return any(
        member.chunk.document_id == chunk.document_id and abs(member.chunk.position - chunk.position) == 1
        for member in group
    )


def of_chunks(chunks: Sequence[Chunk]) -> Passage:
    """The passage that neighbouring chunks, in order, make together; without scores."""
    first, last = chunks[0], chunks[-1]
    text = "\n\n".join(chunk.text for chunk in chunks)
    pages = [page for chunk in chunks for page in (chunk.page, chunk.page_end) if page is not None]
    fingerprint = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return Passage(
        id=f"{first.document_id}:{first.position}-{last.position}@{fingerprint}",
        document_id=first.document_id,
        owner=first.owner,
        title=first.title,
        name=first.name,
        source=first.source,
        heading=first.heading,
        page=min(pages, default=None),
        page_end=max(pages, default=None),
        text=text,
        score=0.0,
        dense=0.0,
        lexical=0.0,
    )


def _joined(group: list[Candidate]) -> Passage:
    return replace(
        of_chunks(sorted((member.chunk for member in group), key=lambda chunk: chunk.position)),
        score=max(member.relevance for member in group),
        dense=max(member.dense for member in group),
        lexical=max(member.lexical for member in group),
    )


def _runs(terms: Sequence[str]) -> frozenset[tuple[str, ...]]:
    if len(terms) <= RUN:
        return frozenset([tuple(terms)])
    return frozenset(tuple(terms[start : start + RUN]) for start in range(len(terms) - RUN + 1))


def _same(one: frozenset[tuple[str, ...]], other: frozenset[tuple[str, ...]]) -> bool:
    if min(len(one), len(other)) <= SAME * max(len(one), len(other)):
        return False
    shared = len(one & other)
    return shared > SAME * (len(one) + len(other) - shared)
