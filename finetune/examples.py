"""What a model learns from, and what it is measured on.

    Example      a conversation, with the weight of each reply in the loss
    Preference   of two replies to the same prompt, the better and the worse one
    Judged       a reply with a verdict, where there is no second one to compare it with

All are plain and frozen, and go to JSON and back. `conversation` is what a split keeps on one side: "log:12" for the
log's conversation 12, "file:NAME:3" for an imported one, "general:3" for a prompt of everyday life.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from engine.tokenizer import ChatMessage

# What became of a reply, the strongest first.
Why = Literal["corrected", "rated_up", "chosen", "unremarked", "imported", "general"]
WhyNot = Literal["stopped", "rated_down", "error", "not_chosen", "not_the_model"]


@dataclass(frozen=True)
class Source:
    """Where something comes from: enough to leave it out again."""

    conversation: str
    at: datetime | None = None  # when the reply was given, or the correction made
    message_ids: tuple[int, ...] = ()  # of the log: the replies that are learnt
    person_ids: tuple[int, ...] = ()  # whose words it holds: the writer's, and of those who are quoted
    place: str = ""  # "" private, else the group, as "channel:id": what an adapter of its own can be made for
    language: str = ""  # en, zh, ...; "" while unknown


@dataclass(frozen=True)
class Example:
    """Messages as the model saw them, alternating after an optional system message; the last is a reply."""

    messages: tuple[ChatMessage, ...]
    weights: tuple[float, ...]  # one a message: what its tokens count in the loss; all but replies are 0
    why: Why
    source: Source

    @property
    def reply(self) -> str:
        return self.messages[-1]["content"]

    @property
    def question(self) -> str:
        """The newest thing that was said to the assistant."""
        return next((each["content"] for each in reversed(self.messages) if each["role"] == "user"), "")


@dataclass(frozen=True)
class Preference:
    prompt: tuple[ChatMessage, ...]  # ends with a user's message
    chosen: str
    rejected: str
    why: Literal["corrected", "rated", "chosen", "imported"]
    source: Source
    weight: float = 1.0


@dataclass(frozen=True)
class Judged:
    prompt: tuple[ChatMessage, ...]
    reply: str
    good: bool
    source: Source
    weight: float = 1.0


def as_json(item: Example | Preference | Judged) -> dict[str, Any]:
    row = asdict(item)
    row["source"]["at"] = item.source.at.isoformat() if item.source.at else None
    return row


def source_from_json(row: Mapping[str, Any]) -> Source:
    at = datetime.fromisoformat(row["at"]) if row.get("at") else None
    return Source(
        row["conversation"],
        at,
        tuple(row.get("message_ids", ())),
        tuple(row.get("person_ids", ())),
        row.get("place", ""),
        row.get("language", ""),
    )


def example_from_json(row: Mapping[str, Any]) -> Example:
    return Example(tuple(row["messages"]), tuple(row["weights"]), row["why"], source_from_json(row["source"]))


def preference_from_json(row: Mapping[str, Any]) -> Preference:
    return Preference(
        tuple(row["prompt"]),
        row["chosen"],
        row["rejected"],
        row["why"],
        source_from_json(row["source"]),
        row["weight"],
    )


def judged_from_json(row: Mapping[str, Any]) -> Judged:
    return Judged(tuple(row["prompt"]), row["reply"], row["good"], source_from_json(row["source"]), row["weight"])
