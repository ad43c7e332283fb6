"""What can go wrong between a prompt and its reply.

    EngineError
    ├── EngineFailed        the engine is down and will not be started again; carries the end of its log
    ├── EngineLost          the engine died or the connection broke while a reply was under way
    ├── EngineBusy          the server's queue is full (503)
    ├── EngineRefused       the server did not take the request for another reason; carries its words
    │   ├── PromptTooLong   prompt and reply do not fit the model
    │   ├── UnknownModel    no base model or loaded adapter has this name
    │   └── WrongKey        the API key was not accepted
    ├── ReplyTimeout        no first token, or no next one, in time
    └── AdapterRefused      an adapter is broken or does not fit the base model; serving went on without it
    ModelUnavailable        a model cannot be had here (no network, not enough room, not a model folder)

Each text says what happened and what to do; none is a traceback.
"""

from __future__ import annotations


class EngineError(Exception):
    """The reply could not be generated."""


class EngineFailed(EngineError):
    """The engine is down and will not be started again by itself."""

    def __init__(self, reason: str, log_tail: str = "") -> None:
        super().__init__(reason)
        self.log_tail = log_tail


class EngineLost(EngineError):
    """The engine died, or the connection to it broke, while a reply was under way."""


class EngineBusy(EngineError):
    """The server's own queue is full."""


class EngineRefused(EngineError):
    """The server did not take the request."""


class PromptTooLong(EngineRefused):
    """Prompt and reply together do not fit the model."""


class UnknownModel(EngineRefused):
    """No base model and no loaded adapter has this name."""


class WrongKey(EngineRefused):
    """The server did not accept the API key."""


class ReplyTimeout(EngineError):
    """The first token, or the next one, did not come in time."""


class AdapterRefused(EngineError):
    """An adapter is broken or does not fit the base model. Serving went on without it, unless `engine_poisoned`."""

    def __init__(self, reason: str, *, engine_poisoned: bool = False) -> None:
        super().__init__(reason)
        self.engine_poisoned = engine_poisoned  # the engine answers nobody rightly any more and must be started anew


class ModelUnavailable(EngineError):
    """A model cannot be had here."""
