"""What can go wrong on a channel that a person can cause or cure.

    ChatError    a command or a message that cannot be carried out; `key` names its text in bot/texts, under `problem`

Failures inside a turn are events, not exceptions (bot.events.Failed); both take their texts from the same place.
"""

from __future__ import annotations

from engine import errors as engine
from store import errors as store


class ChatError(Exception):
    """What was asked cannot be done. `Texts.problem(error)` says why, and what to do, in the person's language."""

    def __init__(self, key: str, **values: object) -> None:
        super().__init__(key, values)
        self.key = key
        self.values = values


KINDS: dict[type[Exception], str] = {
    engine.EngineFailed: "engine_failed",
    engine.EngineLost: "engine_lost",
    engine.EngineBusy: "engine_busy",
    engine.PromptTooLong: "prompt_too_long",
    engine.UnknownModel: "unknown_model",
    engine.WrongKey: "wrong_key",
    engine.EngineRefused: "engine_refused",
    engine.ReplyTimeout: "reply_timeout",
    engine.AdapterRefused: "adapter_refused",
    engine.ModelUnavailable: "model_unavailable",
    store.NotFound: "not_found",
    store.StoreFull: "store_full",
    store.StoreLocked: "store_locked",
    store.StoreUnreachable: "store_unreachable",
    store.StoreDamaged: "store_damaged",
    store.StoreTooNew: "store_too_new",
    store.StoreError: "store_failed",
}


def kind_of(error: Exception) -> str | None:
    """The key of the text for an error of the engine or the store; None for one that nobody expected."""
    return next((KINDS[cause] for cause in type(error).__mro__ if cause in KINDS), None)
