"""All that is known of a run, gathered stage by stage: what its report shows and its row in the store sums up."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Verdict = Literal["promoted", "rejected", "not_proven", "nothing_to_learn", "failed", ""]  # "": under way


@dataclass(frozen=True)
class DataCounts:
    """What the data was: counts only."""

    examples: dict[str, int] = field(default_factory=dict)  # by why: corrected, rated_up, ...
    left_out: dict[str, int] = field(default_factory=dict)  # by reason, of replies: stopped, loops, near-duplicate, ...
    conversations: dict[str, int] = field(default_factory=dict)  # by side: train, validation, test
    sides: dict[str, int] = field(default_factory=dict)  # examples by side
    people: int = 0
    consent: dict[str, int] = field(default_factory=dict)  # people by choice: yes, no, unasked
    redactions: dict[str, int] = field(default_factory=dict)  # by kind: EMAIL, PHONE, ...
    preferences: int = 0
    judged: int = 0
    replayed: int = 0
    general: int = 0
    forgotten: int = 0  # conversations that earlier adapters learned from and this one did not
    # Of what the adapter in force learned and people took back: people, conversations, examples, taught_by_others.
    taken_back: dict[str, int] = field(default_factory=dict)
    source: str = "log"  # or the file's name
    malformed: tuple[str, ...] = ()  # its first lines that could not be used, and how many more: until they are noted
    fingerprint: str = ""  # sha256 over the sorted examples


@dataclass(frozen=True)
class Point:
    """A point of the loss curves."""

    step: int
    train: float | None = None  # mean loss a token since the point before
    validation: float | None = None
    learning_rate: float = 0.0


@dataclass(frozen=True)
class Training:
    method: str
    base: str
    continued_from: str = ""  # name@version, "" from the base model
    trainable: int = 0  # parameters
    parameters: int = 0  # of the base model
    steps: int = 0
    best_step: int = 0
    stopped_early: bool = False
    epochs: float = 0.0
    tokens: int = 0  # that went through the model
    seconds: float = 0.0
    tokens_per_s: float = 0.0
    peak_mb: float = 0.0
    energy_j: float | None = None  # None: no counter could be read
    device: str = ""
    dtype: str = ""
    resumed: int = 0  # how often it went on after having been ended
    curve: tuple[Point, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """One rule of the gate."""

    name: str  # gain, general_perplexity, rounds, preferences, probes, refusals, over_refusals, loops, empty, length
    passed: bool | None  # None: too few items to say
    said: str  # one sentence with the numbers
    value: float | None = None
    low: float | None = None  # of the confidence interval
    high: float | None = None
    limit: float | None = None
    n: int = 0


@dataclass(frozen=True)
class Decision:
    verdict: Literal["promoted", "rejected", "not_proven"]
    said: str  # one sentence
    checks: tuple[Check, ...] = ()
    overridden: str = ""  # why an operator promoted it all the same; "" when nobody did
    not_worse: bool = False  # not shown to be better: enough where what was in force learned what was taken back since


@dataclass(frozen=True)
class Sample:
    """Replies to one held-out prompt, side by side."""

    conversation: str
    question: str
    reference: str
    before: str
    after: str


@dataclass(frozen=True)
class Interval:
    """A number before and after, and the difference with its paired bootstrap interval."""

    name: str  # e.g. "loss a token, test"
    before: float
    after: float
    difference: float
    low: float | None = None
    high: float | None = None
    n: int = 0
    better: Literal["lower", "higher", "same"] = "lower"  # which way is good


@dataclass(frozen=True)
class Unlearned:
    """Whether the new model still knows what people took back: losses, in nats a token, each conversation alike."""

    people: int
    conversations: int
    before: float  # the adapter in force, which learned it
    after: float  # the new one, which did not
    base: float  # the base model, which never knew it
    difference: float  # the new one's less the base model's
    low: float | None = None  # of its interval
    high: float | None = None
    taught_by_others: int = 0  # examples that are nearly the same as some that others taught, who agree


@dataclass(frozen=True)
class Record:
    """A run. Everything after `started_at` is there once its stage is over."""

    number: int
    name: str  # of the adapter: familiar, or a group's own
    trigger: str  # "by hand", "schedule"
    started_at: datetime
    finished_at: datetime | None = None
    verdict: Verdict = ""
    said: str = ""  # the verdict in one sentence
    version: int | None = None  # that was registered
    share: float | None = None  # of the conversations that it answers first, where it was promoted; None: all
    before: str = "base"  # what it is compared with: the adapter in force, or the base model
    in_force: str = ""  # when the run began, where that is not what it is compared with
    data: DataCounts | None = None
    training: Training | None = None
    table: tuple[Interval, ...] = ()
    decision: Decision | None = None
    unlearned: Unlearned | None = None  # None: nobody took anything back that could be measured
    samples: tuple[Sample, ...] = ()
    notes: tuple[str, ...] = ()  # what an operator should know: what could not be measured, and why
    seconds: dict[str, float] = field(default_factory=dict)  # by stage
    can_go_on: bool = True  # where it failed: gone on with, it could come to another end

    @property
    def instead_of(self) -> str:
        """What is in force unless somebody has put something else there since."""
        return self.in_force or self.before
