"""What a turn tells its channel, in order: `Waiting`* `Retrieved`? `Token`* (`Finished` | `Failed`).

`Retrieved` comes when documents were searched, whatever was found.
"""

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
class Source:
    """A passage that stood in the prompt."""

    number: int  # as replies name it, e.g. [1]
    passage_id: str
    title: str
    heading: str  # of its section, with those above it: "Opening hours › Sundays"; ""
    page: int | None
    page_end: int | None
    text: str  # as the document has it


@dataclass(frozen=True)
class Retrieved:
    """What the documents had for this message."""

    sources: tuple[Source, ...] = ()
    unanswered: bool = False  # it was a question, and no document answers it
    failed: bool = False  # they could not be searched; why stands in the log


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
    sources: tuple[Source, ...] = ()  # those that the reply names, in the order in which it does
    unanswered: bool = False  # it was a question, and no document answers it


@dataclass(frozen=True)
class Failed:
    """The turn ended without a reply, or with a part of one. What was shown is logged."""

    kind: str  # the key of its text in bot/texts, e.g. "engine_failed"
    detail: str  # for a person; no traceback
    incident: str  # id under which the cause stands in the log; "" where the person can act on the detail alone
    asked_id: int = 0  # the person's message; 0 where it was not stored


Event = Waiting | Retrieved | Token | Finished | Failed
