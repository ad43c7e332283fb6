"""What a turn tells its channel, in order: `Waiting`* `Retrieved`? `Token`* (`Finished` | `Failed`)."""

from __future__ import annotations

from dataclasses import dataclass

from engine.state import Phase


@dataclass(frozen=True)
class Waiting:
    """The engine is not ready yet; the turn goes on by itself."""

    phase: Phase
    seconds: float  # how long this phase has lasted
    detail: str = ""


@dataclass(frozen=True)
class Token:
    """The next piece of the reply, to be appended to what is shown."""

    text: str


@dataclass(frozen=True)
class Finished:
    """The reply is complete (or was stopped) and logged.

    One that was stopped before its first token is not logged: then message_id and siblings are 0 and text is "".
    """

    message_id: int
    asked_id: int  # the person's message that it replies to
    text: str
    finish: str  # stop | length | stopped
    model: str
    adapter: str  # "" for the base model
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int  # of a stopped reply: the pieces that came, each about a token
    ttft_s: float  # from the turn's begin to its first token
    tokens_per_s: float  # of the reply, after its first token; 0 when there is no more than one
    siblings: int  # how many replies the user's message has now, this one included


@dataclass(frozen=True)
class Failed:
    """The turn ended without a reply, or with a part of one. What was shown is logged."""

    kind: str  # the key of its text in bot/texts, e.g. "engine_failed"
    detail: str  # for a person; no traceback
    incident: str  # id under which the cause stands in the log; "" where the person can act on the detail alone
    asked_id: int = 0  # the person's message; 0 where it was not stored


Event = Waiting | Token | Finished | Failed
