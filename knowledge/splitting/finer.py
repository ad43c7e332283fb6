"""A span that is too long for a chunk all by itself: cut at clauses, else between words, else between characters.

Characters are those that a reader sees (grapheme clusters, Unicode Standard Annex 29): a letter keeps its accents, and
a family of emoji stays one. Only a cluster that is a span by itself and still too long is cut inside.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

CLAUSE, WORD, CHARACTER = 3.2, 5.0, 9.0

_SEPARATORS = [r"[;；:：|]+\s*", r"[,，、—]+\s*", r"\s+"]
_CLAUSE_ENDS = frozenset(";；:：|,，、—")
_SLAB = 100_000  # characters that are cut at a time, so that ten megabytes of commas do not become ten million strings
_LOOK_BACK = 1000
_LONGEST_CLUSTER = 64  # code points; what people write has less than 20


def finer(text: str, characters: int) -> list[tuple[str, float]]:
    """`text` in spans of at most `characters`, each with the strain of cutting before it (0 before the first).

    A cluster that is longer is a span of its own, except when there is nothing else in `text`.
    """
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    splitter = RecursiveCharacterTextSplitter(
        separators=_SEPARATORS,
        is_separator_regex=True,
        keep_separator="end",
        chunk_size=characters,
        chunk_overlap=0,
        strip_whitespace=False,
    )
    spans = [
        window
        for slab in _windows(text, max(_SLAB, characters), at_spaces=True)
        for span in splitter.split_text(slab)
        for window in _windows(span, characters)
    ]
    return [(spans[0], 0.0)] + [(span, _strain(before)) for before, span in pairwise(spans)] if spans else []


def _strain(before: str) -> float:
    if before[-1].isspace():
        end = before.rstrip()[-1:]
        return CLAUSE if end in _CLAUSE_ENDS else WORD
    return CLAUSE if before[-1] in _CLAUSE_ENDS else CHARACTER


def _windows(text: str, characters: int, *, at_spaces: bool = False) -> Iterator[str]:
    begin = 0
    while len(text) - begin > characters:
        end = begin + characters
        space = text.rfind(" ", end - _LOOK_BACK, end) if at_spaces else -1
        end = space + 1 if space > begin else _end_of_cluster(text, begin, end)
        yield text[begin:end]
        begin = end
    if begin < len(text):
        yield text[begin:]


def _end_of_cluster(text: str, begin: int, end: int) -> int:
    """Where the last cluster before `end` ends, or else the first one; `end` when there is only one."""
    from wcwidth import grapheme_boundary_before, iter_graphemes

    boundary: int = begin + grapheme_boundary_before(text[begin : end + 1], end + 1 - begin)
    if boundary > begin:
        return boundary
    first = len(next(iter_graphemes(text[begin : end + _LONGEST_CLUSTER])))
    return begin + first if end - begin < first < min(len(text), _LONGEST_CLUSTER) else end
