"""Whether people like a new version less, from the ratings of those who got it and of those who did not.

Two groups of conversations, drawn by lot: the difference of their mean ratings, with an interval of the bootstrap-t as
in finetune.statistics, which draws conversations and not ratings. It is looked at again and again, and so a fall that
is no more than chance is found more often than the confidence says: the error is on the side of going back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from settings import Gate
from store.canaries import Rated


@dataclass(frozen=True)
class Opinion:
    verdict: Literal["worse", "better", "open"]
    old: float  # mean rating, -1 to 1; NaN: none
    new: float
    low: float = -math.inf  # of the difference, new less old
    high: float = math.inf
    ratings: tuple[int, int] = (0, 0)  # old, new

    def said(self) -> str:
        if self.verdict == "open" and not math.isfinite(self.low):
            return f"There are {self.ratings[0]} ratings of the version before and {self.ratings[1]} of the new one."
        return (
            f"Of the version before {_share(self.old)} of {self.ratings[0]} ratings were good, of the new one "
            f"{_share(self.new)} of {self.ratings[1]} (difference of the mean rating between {self.low:+.2f} and "
            f"{self.high:+.2f})."
        )


def opinion(rated: Sequence[Rated], gate: Gate, seed: int = 0) -> Opinion:
    old, new = [each for each in rated if not each.new], [each for each in rated if each.new]
    counts = (len(old), len(new))
    means = (_mean([each.value for each in old]), _mean([each.value for each in new]))
    if min(counts) < gate.canary_min_ratings:
        return Opinion("open", *means, ratings=counts)
    low, high = _difference(_by_conversation(old), _by_conversation(new), gate.confidence, gate.resamples, seed)
    verdict: Literal["worse", "better", "open"] = "worse" if high < 0 else "better" if low > 0 else "open"
    return Opinion(verdict, *means, low, high, counts)


def _by_conversation(rated: Sequence[Rated]) -> list[float]:
    values: dict[int, list[int]] = {}
    for each in rated:
        values.setdefault(each.conversation_id, []).append(each.value)
    return [_mean(each) for each in values.values()]


def _difference(
    old: Sequence[float], new: Sequence[float], confidence: float, resamples: int, seed: int
) -> tuple[float, float]:
    """The interval of mean(new) - mean(old), one value a conversation; without bounds where one group has one."""
    import numpy as np

    if min(len(old), len(new)) < 2:
        return -math.inf, math.inf
    chance = np.random.default_rng(seed)
    groups = [np.asarray(each, dtype=np.float64) for each in (old, new)]
    spread = math.sqrt(sum(each.var(ddof=1) / len(each) for each in groups))
    difference = float(groups[1].mean() - groups[0].mean())
    if spread == 0:
        return difference, difference
    means, variances = [], []
    for each in groups:
        drawn = each[chance.integers(len(each), size=(resamples, len(each)))]
        means.append(drawn.mean(axis=1))
        variances.append(drawn.var(axis=1, ddof=1) / len(each))
    spreads = np.sqrt(variances[0] + variances[1])
    differences = means[1] - means[0]
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    if (spreads < 1e-9).mean() > 0.001:  # nearly all ratings are alike: there is no spread to divide by
        low, high = np.quantile(differences, tails)
        return float(low), float(high)
    there = spreads >= 1e-9
    below, above = np.quantile((differences[there] - difference) / spreads[there], tails)
    return float(difference - above * spread), float(difference - below * spread)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _share(mean: float) -> str:
    return "none" if math.isnan(mean) else f"{(mean + 1) / 2:.0%}"
