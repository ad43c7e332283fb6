"""Which texts are nearly the same: those whose sets of 5-character shingles overlap by so much (Jaccard).

Two ways, for two ends. `repeated` thins out one heap: MinHash and locality-sensitive hashing (Broder 1997; Indyk and
Motwani 1998) find who may be alike, and the overlap is then counted. `across` compares two heaps that must have nothing
in common, so nothing may escape it: of two sets that overlap enough, the rarest few elements cannot all differ
(Bayardo, Ma and Srikant, "Scaling Up All Pairs Similarity Search", WWW 2007), so that looking up these is exact.

Upper and lower case, full and half width, and white space make no difference.
"""

from __future__ import annotations

import math
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from finetune import grounding
from finetune.examples import Example

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Shingles = NDArray[np.uint64]  # sorted, each once

CHARACTERS = 5
PERMUTATIONS = 128
MISSED = 1e-6  # chance that locality-sensitive hashing passes over two that are just alike enough

_FACTOR = 0x9E3779B97F4A7C15  # odd, so that nothing is lost modulo 2**64


def said(example: Example) -> str:
    """What makes an example the same as another: each reply that is learnt, and what it answers.

    Not what was said before, or all replies of a long conversation would be alike; nor the passages of documents, or
    all questions that one page answers would be.
    """
    parts: list[str] = []
    question = ""
    for message, weight in zip(example.messages, example.weights, strict=True):
        if message["role"] == "user":
            question = grounding.asked(message["content"])
        elif weight > 0:
            parts += [question, message["content"]]
    return normal("\n".join(parts))


def normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def jaccard(one: Shingles, other: Shingles) -> float:
    import numpy as np

    common = len(np.intersect1d(one, other, assume_unique=True))
    together = len(one) + len(other) - common
    return common / together if together else 1.0


def shingles(text: str) -> Shingles:
    """Of a normal text, hashed to 64 bits. A text of fewer characters than one takes is its own."""
    import numpy as np

    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    windows = max(1, len(points) - CHARACTERS + 1)
    hashed = np.zeros(windows, dtype=np.uint64)
    for at in range(min(CHARACTERS, len(points))):
        hashed = (hashed ^ points[at : at + windows]) * np.uint64(_FACTOR)
        hashed ^= hashed >> np.uint64(29)
    return np.unique(hashed)


def repeated(texts: Sequence[str], threshold: float) -> set[int]:
    """Which of these normal texts are nearly the same as one before them that is not repeated itself."""
    import numpy as np
    from datasketch import MinHash, MinHashLSH

    bands, rows = _bands(threshold)
    index: Any = MinHashLSH(num_perm=PERMUTATIONS, params=(bands, rows))
    sets = [shingles(text) for text in texts]
    found: set[int] = set()
    for number, one in enumerate(sets):
        sketch = MinHash(PERMUTATIONS, hashfunc=int)
        sketch.update_batch((one >> np.uint64(32)).tolist())
        if any(jaccard(one, sets[other]) >= threshold for other in index.query(sketch)):
            found.add(number)
        else:
            index.insert(number, sketch)
    return found


def across(left: Sequence[str], right: Sequence[str], threshold: float) -> Iterator[tuple[int, int]]:
    """Every pair of a text of `left` and one of `right` that are nearly the same. All are normal texts."""
    import numpy as np

    one, other = _rarest_first([shingles(each) for each in left], [shingles(each) for each in right])
    if not one or not other:
        return
    first, second = ([each[: _prefix(len(each), threshold)] for each in some] for some in (one, other))
    common = set(np.intersect1d(np.concatenate(first), np.concatenate(second)).tolist())  # most stand in one text only
    holders: dict[int, list[int]] = defaultdict(list)
    for number, prefix in enumerate(first):
        for element in common.intersection(prefix.tolist()):
            holders[element].append(number)
    for number, prefix in enumerate(second):
        shared = common.intersection(prefix.tolist())
        for candidate in sorted({each for element in shared for each in holders[element]}):
            if jaccard(one[candidate], other[number]) >= threshold:
                yield candidate, number


def _prefix(size: int, threshold: float) -> int:
    """Two sets that overlap by `threshold` share at least that share of either, so one of this many of each."""
    return size - math.ceil(threshold * size - 1e-9) + 1


def _rarest_first(left: list[Shingles], right: list[Shingles]) -> tuple[list[Shingles], list[Shingles]]:
    """Each set in one order that is the same for all: the rarer, the earlier."""
    import numpy as np

    if not left or not right:
        return [], []
    elements, counts = np.unique(np.concatenate([*left, *right]), return_counts=True)

    def ordered(one: Shingles) -> Shingles:
        order: NDArray[np.intp] = np.lexsort((one, counts[np.searchsorted(elements, one)]))
        return one[order]

    return [ordered(one) for one in left], [ordered(one) for one in right]


def _bands(threshold: float) -> tuple[int, int]:
    """Bands and rows a band: as many rows, so as few needless comparisons, as miss hardly anything."""
    rows = 1
    while (1 - threshold ** (rows + 1)) ** (PERMUTATIONS // (rows + 1)) < MISSED:
        rows += 1
        if rows == PERMUTATIONS // 2:
            break
    return PERMUTATIONS // rows, rows
