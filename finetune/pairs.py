"""Two measurements side by side: the same items before and after, and the difference between the two.

A loss that is not a number stands in a measurement as `BROKEN` nats, which JSON can carry and nothing else comes near.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from finetune.measurements import Chosen, Loss, Measurements, Probe, Reply
from finetune.statistics import Estimate, paired
from settings import Gate

BROKEN = 1e9


@dataclass(frozen=True)
class Fault:
    passed: bool | None
    said: str


@dataclass(frozen=True)
class Losses:
    """Of the same items before and after."""

    pairs: tuple[tuple[Loss, Loss], ...]
    unpaired: int  # measured on one side only

    @classmethod
    def of(cls, before: Measurements, after: Measurements, *names: str) -> Losses:
        """Of all items in these sets."""
        pairs: list[tuple[Loss, Loss]] = []
        unpaired = 0
        for name in names:
            now = {each.key: each for each in after.losses.get(name, ()) if each.tokens}
            was = {each.key: each for each in before.losses.get(name, ()) if each.tokens}
            pairs += [(each, now[key]) for key, each in was.items() if key in now]
            unpaired += len(was.keys() ^ now.keys())
        return cls(tuple(pairs), unpaired)

    def fault(self, of: str) -> Fault | None:
        """Why nothing can be said of these, or what is plainly wrong with them."""
        if not self.pairs and not self.unpaired:
            return Fault(None, f"There are no {of} to measure on.")
        if self.unpaired:
            return Fault(None, f"Not the same {of} were measured before and after: {self.unpaired} have no partner.")
        if any(_broken(old.loss) for old, _ in self.pairs):
            return Fault(None, f"The loss on {of} was not a number before.")
        broken = sum(_broken(new.loss) for _, new in self.pairs)
        if broken:
            return Fault(False, f"The loss on {broken} of {len(self.pairs)} {of} is not a number: broken weights.")
        return None

    def by_conversation(self, gate: Gate) -> Estimate:
        """The difference in nats a token; each conversation counts the same."""
        return difference(self.before, self.after, self.conversations, gate)

    def by_token(self, gate: Gate) -> Estimate:
        """The difference in nats a token; each token counts the same, as in a perplexity."""
        tokens = [float(old.tokens) for old, _ in self.pairs]
        return difference(self.before, self.after, self.conversations, gate, tokens)

    @property
    def before(self) -> list[float]:
        return [old.loss / old.tokens for old, _ in self.pairs]

    @property
    def after(self) -> list[float]:
        return [new.loss / new.tokens for _, new in self.pairs]

    @property
    def conversations(self) -> list[str]:
        return [old.conversation for old, _ in self.pairs]


def replies(before: Measurements, after: Measurements) -> list[tuple[Reply, Reply]]:
    now = {each.key: each for each in after.replies}
    return [(old, now[old.key]) for old in before.replies if old.key in now]


def probes(before: Measurements, after: Measurements) -> list[tuple[Probe, Probe]]:
    now = {each.key: each for each in after.probes}
    return [(old, now[old.key]) for old in before.probes if old.key in now]


def chosen(before: Measurements, after: Measurements) -> list[tuple[Chosen, Chosen]]:
    now = {each.key: each for each in after.chosen}
    return [(old, now[old.key]) for old in before.chosen if old.key in now]


def is_number(pair: Chosen) -> bool:
    return not (_broken(pair.better) or _broken(pair.worse))


def difference(
    before: Sequence[float],
    after: Sequence[float],
    conversations: Sequence[str],
    gate: Gate,
    weights: Sequence[float] | None = None,
) -> Estimate:
    return paired(before, after, conversations, weights=weights, confidence=gate.confidence, resamples=gate.resamples)


def exponential(estimate: Estimate) -> Estimate:
    """Of a difference of losses: the ratio of perplexities."""
    return replace(estimate, mean=_exp(estimate.mean), low=_exp(estimate.low), high=_exp(estimate.high))


def ends(estimate: Estimate) -> tuple[float | None, float | None]:
    """JSON knows no infinity."""
    return (estimate.low, estimate.high) if estimate.known else (None, None)


def _broken(value: float) -> bool:
    return not abs(value) < BROKEN  # NaN too


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
