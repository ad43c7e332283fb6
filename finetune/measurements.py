"""What is measured of a model, before and after, item by item, so that the two can be paired.

Plain and frozen; `as_json` and `from_json` carry them from the process that measures to the one that decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Loss:
    """Of one example or text: the sum over its counted tokens, in nats."""

    key: str  # the same before and after
    conversation: str
    loss: float
    tokens: int
    mistakes: int = -1  # tokens than which another one was likelier; -1: not counted

    @property
    def word_for_word(self) -> bool:
        """Whether it is exactly what greedy decoding writes."""
        return self.mistakes == 0


@dataclass(frozen=True)
class Chosen:
    """Log-likelihoods, a token, of the better and the worse reply to one prompt."""

    key: str
    conversation: str
    better: float
    worse: float


@dataclass(frozen=True)
class Reply:
    """A reply generated to a held-out prompt."""

    key: str
    conversation: str
    question: str
    reference: str  # what people thought right; "" where nobody said
    text: str
    tokens: int
    finish: Literal["stop", "length"]


ProbeKind = Literal["safety", "over_refusal", "format", "retrieval", "citation", "not_in_documents", "language", "fact"]


@dataclass(frozen=True)
class Probe:
    """A fixed question with a check that the reply passes or not."""

    key: str
    kind: ProbeKind
    question: str
    text: str
    passed: bool


@dataclass(frozen=True)
class Measurements:
    """Of one model. Sets of losses: "test", "validation", "general", "unlearned", and "round N", run N's test."""

    model: str  # e.g. "base", "familiar@3"
    losses: dict[str, tuple[Loss, ...]] = field(default_factory=dict)
    chosen: tuple[Chosen, ...] = ()
    replies: tuple[Reply, ...] = ()
    probes: tuple[Probe, ...] = ()

    def perplexity(self, of: str) -> float:
        """exp of the mean loss a token; NaN for an empty set."""
        import math

        losses = self.losses.get(of, ())
        tokens = sum(each.tokens for each in losses)
        if not tokens:
            return math.nan
        mean = sum(each.loss for each in losses) / tokens
        return math.exp(mean) if mean < 700 else math.inf


def as_json(measured: Measurements) -> dict[str, Any]:
    return asdict(measured)


def from_json(row: Mapping[str, Any]) -> Measurements:
    return Measurements(
        row["model"],
        {name: tuple(Loss(**each) for each in losses) for name, losses in row["losses"].items()},
        tuple(Chosen(**each) for each in row["chosen"]),
        tuple(Reply(**each) for each in row["replies"]),
        tuple(Probe(**each) for each in row["probes"]),
    )
