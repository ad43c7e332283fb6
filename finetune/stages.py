"""What each stage of a run does, and what it stands on: the other files of this package, put one behind the other.

The stages are values, so that a run can be tried out with others in their place.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from finetune.job import Told
from finetune.record import DataCounts, Decision, Interval, Record, Sample, Training, Unlearned
from settings import Settings
from store.session import Store


@dataclass(frozen=True)
class Ground:
    """The run, as far as it is."""

    settings: Settings
    store: Store
    number: int
    name: str  # of the adapter
    place: str
    folder: Path  # the run's
    file: Path | None  # whose examples are learnt; None: the log's
    strict: bool
    offline: bool  # only to be measured
    record: Record
    told: Told
    until: float = math.inf  # the run may take so long, by time.monotonic()


@dataclass(frozen=True)
class Trained:
    training: Training
    replayed: int = 0  # examples that earlier runs had learned
    general: int = 0  # the base model's own replies, learnt with the others
    before: str = ""  # what it is to be compared with; "": what was in force when the run began


@dataclass(frozen=True)
class Decided:
    decision: Decision
    table: tuple[Interval, ...] = ()
    samples: tuple[Sample, ...] = ()
    unlearned: Unlearned | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Promoted:
    version: int
    said: str  # one sentence
    notes: tuple[str, ...] = ()
    share: float | None = None  # of the conversations that it answers first; None: all


@dataclass(frozen=True)
class Stages:
    """Each may be ended at any point and called again. Those that are not awaited block, and are called in a thread."""

    prepare: Callable[[Ground], DataCounts]
    train: Callable[[Ground], Awaitable[Trained]]
    evaluate: Callable[[Ground], Awaitable[tuple[str, ...]]]  # notes: what could not be measured
    decide: Callable[[Ground], Awaitable[Decided]]
    promote: Callable[[Ground], Awaitable[Promoted]]
    render: Callable[[Record, Path], None]
