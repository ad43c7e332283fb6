"""Train, validation and test: by conversation, and the test part the newest.

A conversation is on one side whole, or the model would be tested on what it has read. The newest are the test, because
that is what a new adapter is for: what people will say next. Validation, which decides when training stops, is drawn at
random from the rest. Conversations that have no time (of a file) count as of one time and are drawn at random.

What is nearly the same on two sides leaves the side that is more learnt from: the test keeps it before validation does,
and that before training. What two examples are compared by is `near_duplicates.said`.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from finetune.errors import DataRefused
from finetune.examples import Example
from finetune.near_duplicates import across, said

_NO_TIME = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Sides:
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    left_out: dict[str, int] = field(default_factory=dict)  # examples, by what they were nearly the same as

    def items(self) -> tuple[tuple[str, tuple[Example, ...]], ...]:
        return ("train", self.train), ("validation", self.validation), ("test", self.test)


def split(
    examples: Sequence[Example],
    *,
    validation_share: float,
    test_share: float,
    near_duplicate: float,
    seed: int,
    learned: Collection[str] = (),
    learned_is_tested: bool = True,
) -> Sides:
    """The three sides. Of one conversation only there is no test, of two no validation.

    `learned` are conversations that an adapter before has learned from: they are tested on after all others only, or
    never, where the new adapter goes on from that one.
    """
    conversations: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        conversations[example.source.conversation].append(example)
    draw = random.Random(seed)
    shuffled = sorted(conversations)
    draw.shuffle(shuffled)  # what the sort leaves in this order is drawn
    newest_first = sorted(shuffled, key=lambda each: _time(conversations[each]), reverse=True)
    held_out = [each for each in newest_first if each not in learned]
    if learned_is_tested:
        held_out += [each for each in newest_first if each in learned]
    many = len(conversations)
    test = held_out[: _share(test_share, many, at_least=many > 1)]
    rest = held_out[len(test) :]
    draw.shuffle(rest)
    validation = rest[: min(_share(validation_share, many, at_least=many > 2), max(0, many - len(test) - 1))]
    return _apart(conversations, set(validation), set(test), near_duplicate)


def prove_apart(sides: Sides, near_duplicate: float) -> None:
    """Look at every two sides. Raises DataRefused with what stands on both."""
    by_side = dict(sides.items())
    for one, other in (("train", "test"), ("validation", "test"), ("train", "validation")):
        for what, values in (("conversation", _conversations), ("reply", _replies)):
            if both := values(by_side[one]) & values(by_side[other]):
                raise DataRefused(f"The {what} {min(both)} is on two sides, {one} and {other}.")
        left, right = by_side[one], by_side[other]
        alike = across([said(each) for each in left], [said(each) for each in right], near_duplicate or 1.0)
        for first, second in alike:
            raise DataRefused(
                f"Nearly the same text is on two sides: in {left[first].source.conversation} ({one}) and in "
                f"{right[second].source.conversation} ({other})."
            )


def _apart(
    conversations: Mapping[str, Sequence[Example]], validation: set[str], test: set[str], near_duplicate: float
) -> Sides:
    sides: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
    for name in sorted(conversations, key=lambda each: (_time(conversations[each]), each)):
        side = "test" if name in test else "validation" if name in validation else "train"
        sides[side] += conversations[name]
    left_out: Counter[str] = Counter()
    for kept, thinned in (("test", "validation"), ("test", "train"), ("validation", "train")):
        sides[thinned], dropped = without_likes_of(sides[kept], sides[thinned], near_duplicate)
        if dropped:
            left_out[f"near_duplicate_of_{kept}"] += dropped
    return Sides(tuple(sides["train"]), tuple(sides["validation"]), tuple(sides["test"]), dict(left_out))


def without_likes_of(
    held_out: Sequence[Example], examples: Sequence[Example], near_duplicate: float
) -> tuple[list[Example], int]:
    """`examples` without those that are nearly the same as one held out, and how many these were."""
    found = across([said(each) for each in held_out], [said(each) for each in examples], near_duplicate or 1.0)
    alike = {number for _, number in found}
    return [each for number, each in enumerate(examples) if number not in alike], len(alike)


def _time(examples: Sequence[Example]) -> datetime:
    return max(each.source.at or _NO_TIME for each in examples)


def _share(share: float, many: int, *, at_least: bool) -> int:
    return max(round(share * many), int(at_least))


def _conversations(examples: Sequence[Example]) -> set[str]:
    return {each.source.conversation for each in examples}


def _replies(examples: Sequence[Example]) -> set[int]:
    return {message_id for each in examples for message_id in each.source.message_ids}
