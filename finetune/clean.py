"""Examples that would teach the wrong thing, or the same thing twice, are taken out.

overlong          the newest question and its reply alone take more tokens than one example may have
empty, loops      nothing is said, or the same again and again
other_language    the reply is not in the language of the question, and nobody said that it is good so
duplicate         the same question and reply as another's; near_duplicate: nearly the same

Of several that are the same, the one stays that counts most, and of these the newest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from finetune.degenerate import empty, looping
from finetune.examples import Example
from finetune.grounding import asked
from finetune.languages import differ
from finetune.near_duplicates import repeated, said
from settings import Finetune, Learning

_APPROVED = ("corrected", "rated_up")  # somebody looked at the reply itself, and at what language it is in
_MESSAGE_TOKENS = 8  # that a chat template puts around a message, at most
_NO_TIME = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Cleaned:
    examples: tuple[Example, ...]
    left_out: dict[str, int]  # by reason


def cleaned(
    examples: Sequence[Example], count: Callable[[str], int], finetune: Finetune, learning: Learning
) -> Cleaned:
    """The examples that are worth learning, in their order. `count`: how many tokens a text is for the model."""
    left_out: Counter[str] = Counter()
    good: list[Example] = []
    for example in examples:
        if reason := _fault(example, count, finetune.max_tokens):
            left_out[reason] += 1
        else:
            good.append(example)
    once = _once(good, learning.near_duplicate, left_out)
    return Cleaned(tuple(once), dict(sorted(left_out.items())))


def _fault(example: Example, count: Callable[[str], int], max_tokens: int) -> str:
    replies = [
        message["content"] for message, weight in zip(example.messages, example.weights, strict=True) if weight > 0
    ]
    if any(empty(each) for each in replies):
        return "empty"
    if any(looping(each) for each in replies):
        return "loops"
    if example.why not in _APPROVED and differ(asked(example.question), example.reply):
        return "other_language"
    return "overlong" if _is_overlong(example, count, max_tokens) else ""


def _is_overlong(example: Example, count: Callable[[str], int], max_tokens: int) -> bool:
    """Of a longer conversation the oldest messages go; these cannot."""
    fixed = [each["content"] for each in example.messages[:1] if each["role"] == "system"]
    texts = [*fixed, example.question, example.reply]
    room = max_tokens - _MESSAGE_TOKENS * len(texts)
    if sum(len(each.encode()) for each in texts) <= room:  # a token is a byte at least
        return False
    return sum(count(each) for each in texts) > room


def _once(examples: Sequence[Example], near_duplicate: float, left_out: Counter[str]) -> list[Example]:
    best_first = sorted(range(len(examples)), key=lambda each: _worth(examples[each]), reverse=True)
    texts: dict[str, int] = {}
    for number in best_first:
        texts.setdefault(said(examples[number]), number)
    left_out["duplicate"] += len(examples) - len(texts)
    alike = repeated(list(texts), near_duplicate) if near_duplicate else set()
    left_out["near_duplicate"] += len(alike)
    kept = {number for place, number in enumerate(texts.values()) if place not in alike}
    for reason in ("duplicate", "near_duplicate"):
        if not left_out[reason]:
            del left_out[reason]
    return [each for number, each in enumerate(examples) if number in kept]


def _worth(example: Example) -> tuple[float, datetime]:
    return max(example.weights), example.source.at or _NO_TIME
