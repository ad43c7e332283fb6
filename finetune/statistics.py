"""What the difference between two models is, and how sure: the paired bootstrap over conversations.

Replies of one conversation resemble each other, so conversations are drawn, with replacement, and not replies.

The interval is the bootstrap-t (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 12.5; Hall, The
Annals of Statistics 16(3), 1988): each resample's mean is studentised by the resample's own spread. Percentiles of the
plain means are too narrow where there are few conversations or a few of them moved much: on differences that are skewed
towards loss, 50 conversations and no gain at all, they say "gain" 9 times in 100 where they claim 2.5, and the
bootstrap-t 5 times (`python -m bench.gate`). It takes a spread to divide by, so shares with a handful of events get
percentiles.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_AT_ONCE = 4_000_000  # draws that are held in memory
_ALL_ALIKE = 0.001  # of the resamples hold one value only: if more do, percentiles are taken


@dataclass(frozen=True)
class Estimate:
    """A mean difference, and the interval that holds the true one with the confidence asked for."""

    mean: float
    low: float
    high: float
    n: int  # conversations

    @property
    def known(self) -> bool:
        """Whether there was anything to estimate it from."""
        return math.isfinite(self.low) and math.isfinite(self.high)


def paired(
    before: Sequence[float],
    after: Sequence[float],
    by: Sequence[str],
    *,
    weights: Sequence[float] | None = None,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Estimate:
    """The mean of `after` minus `before`, item by item; `by` names the conversation of each item.

    Each conversation counts the same, whatever number of items it has. With `weights` (tokens, say) each item counts
    its weight: sum of weighted differences over the sum of weights.
    """
    if not (len(before) == len(after) == len(by)) or (weights is not None and len(weights) != len(by)):
        raise ValueError("before, after, by and weights are not of one length")
    if not by:
        return Estimate(math.nan, math.nan, math.nan, 0)
    conversations, place = np.unique(np.asarray(by, dtype=object).astype(str), return_inverse=True)
    n = len(conversations)
    differences = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    counts: Array = np.ones(len(by)) if weights is None else np.asarray(weights, dtype=np.float64)
    sums: Array = np.bincount(place, differences * counts, n).astype(np.float64)
    sizes: Array = np.bincount(place, counts, n).astype(np.float64)
    if weights is None:
        sums, sizes = sums / sizes, np.ones(n)
    if not np.isfinite(sums).all() or not sizes.sum() > 0:
        return Estimate(math.nan, math.nan, math.nan, n)
    center = float(sums.sum() / sizes.sum())
    if n == 1:
        return Estimate(center, -math.inf, math.inf, n)
    low, high = interval(sums, sizes, confidence, resamples, seed)
    return Estimate(center, low, high, n)


def mean(values: Sequence[float], by: Sequence[str]) -> float:
    """Of which each conversation counts the same; NaN of nothing."""
    groups: dict[str, list[float]] = {}
    for value, conversation in zip(values, by, strict=True):
        groups.setdefault(conversation, []).append(value)
    return sum(sum(group) / len(group) for group in groups.values()) / len(groups) if groups else math.nan


def interval(sums: Array, sizes: Array, confidence: float, resamples: int, seed: int) -> tuple[float, float]:
    """Of sum(sums) / sum(sizes), one entry of both a conversation (n)."""
    n = len(sums)
    center = sums.sum() / sizes.sum()
    spread = np.sqrt(((sums - center * sizes) ** 2).sum()) / sizes.sum()
    if spread <= 1e-12 * max(1.0, abs(center)):
        return float(center), float(center)
    columns = np.stack([sums, sizes, sums * sums, sums * sizes, sizes * sizes], axis=1)  # (n, 5)
    drawn = np.concatenate([counts @ columns for counts in _resampled(n, resamples, seed)])  # (resamples, 5)
    total, size, squared, mixed, size_squared = drawn.T
    means = total / size
    # The resample's own spread: of sums - means * sizes, multiplied out.
    variances = squared - 2 * means * mixed + means**2 * size_squared
    spreads = np.sqrt(np.maximum(variances, 0)) / size
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    spreadless = spreads < 1e-9 * spread
    if spreadless.mean() > _ALL_ALIKE:
        low, high = np.quantile(means, tails)
        return float(low), float(high)
    studentised = (means - center)[~spreadless] / spreads[~spreadless]
    below, above = np.quantile(studentised, tails)
    return float(center - above * spread), float(center - below * spread)


def _resampled(n: int, resamples: int, seed: int) -> Iterator[Array]:
    """How often each of n is drawn, for each resample: blocks of (up to all resamples, n)."""
    chance = np.random.default_rng(seed)
    rows = max(1, _AT_ONCE // n)
    for start in range(0, resamples, rows):
        many = min(rows, resamples - start)
        drawn = chance.integers(n, size=(many, n)) + n * np.arange(many)[:, None]
        yield np.bincount(drawn.ravel(), minlength=many * n).reshape(many, n).astype(np.float64)
