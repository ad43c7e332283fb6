"""What can go wrong on the way from the log to an adapter.

    FinetuneError
    ├── NotEnoughData       too few examples to learn from; says how many there are, how many it takes, and what counts
    ├── DataRefused         a file of examples is malformed, or of no known form; names the line
    ├── MethodRefused       a way of training cannot work here: for this model, or nothing could serve its result
    ├── TrainingFailed      the training process ended without an adapter: out of memory, killed, a loss of NaN
    ├── EvaluationFailed    before or after could not be measured
    ├── RunUnderWay         another run of this data folder is going on
    └── RunNotFound         there is no run of this number

Each text says what happened and what to do. A failed run leaves the adapter in force as it was.
"""

from __future__ import annotations


class FinetuneError(Exception):
    """Nothing was learnt, and nothing was changed."""


class NotEnoughData(FinetuneError):
    """There is too little to learn from."""

    def __init__(self, said: str, notes: tuple[str, ...] = ()) -> None:
        super().__init__(said)
        self.notes = notes  # what else an operator should know


class DataRefused(FinetuneError):
    """A file of examples cannot be used."""


class MethodRefused(FinetuneError):
    """This way of training cannot be used with this model, or what it makes cannot be served."""


class TrainingFailed(FinetuneError):
    """Training ended without an adapter."""


class EvaluationFailed(FinetuneError):
    """Before or after could not be measured."""


class RunUnderWay(FinetuneError):
    """Another run is going on."""


class RunNotFound(FinetuneError):
    """There is no such run."""
