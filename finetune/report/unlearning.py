"""Whether what people took back is not known any more, in words.

Nobody can see what a model knows, only how well it foretells a text. The adapter in force learned the text, so its loss
there is low; the base model never saw it. Unlearned is what the new model foretells as badly as the base model: where
the whole interval of the difference between the two lies above minus a tenth of what had been learned.
"""

from __future__ import annotations

from finetune.record import Record, Unlearned
from finetune.report import words

HARDLY = 0.05  # nats a token below the base model's loss: the adapter in force had learned next to nothing of it
LEFT = 0.1  # of what had been learned, that may be left


def said(record: Record) -> str:
    """A sentence or two; "" where nothing was taken back."""
    found = record.unlearned
    if found is None:
        return ""
    what = f"What {_people(found.people)} took back"
    learned = found.base - found.before
    if not learned > HARDLY:
        return (
            f"{what} was hardly known to begin with: its loss was {_number(found.before)} with {record.before} and is "
            f"{_number(found.base)} with the base model. With the new one it is {_number(found.after)}."
        )
    numbers = (
        f"its loss went from {_number(found.before)} {'back up ' if _is_back(found) else ''}to "
        f"{_number(found.after)}; the base model's is {_number(found.base)}."
    )
    few = f"though {words.counted(found.conversations, 'conversation')} {_are(found.conversations)} too few to be sure"
    if found.low is not None and found.low > -LEFT * learned:
        return f"{what} is not known any more: {numbers}"
    if found.high is not None and found.high < -LEFT * learned:
        return f"{what} is still known in part: {numbers} {_why(record, found)}"
    return f"{what} seems {'not known any more' if _is_back(found) else 'still known in part'}, {few}: {numbers}"


def losses(record: Record) -> list[tuple[str, str]]:
    found = record.unlearned
    if found is None:
        return []
    difference = words.number(found.difference, signed=True)
    if found.low is not None:
        difference += f" ({words.between(found.low, found.high)})"
    return [
        (f"{record.before}, which learned it", _number(found.before)),
        ("the new one", _number(found.after)),
        ("the base model", _number(found.base)),
        ("the new one less the base model", difference),
        ("conversations", words.count(found.conversations)),
    ]


def _is_back(found: Unlearned) -> bool:
    return found.after >= found.base - LEFT * (found.base - found.before)


def _why(record: Record, found: Unlearned) -> str:
    if record.training is not None and record.training.continued_from:
        return (
            f'The new one goes on from {record.training.continued_from}, which learned it; finetune.start = "base" '
            "begins without it."
        )
    if found.taught_by_others:
        many = found.taught_by_others
        return f"Others taught the same: {words.counted(many, 'example')} of it {_are(many)} theirs, too."
    return "The new one did not learn from it, so others taught something like it."


def _people(many: int) -> str:
    return "1 person" if many == 1 else f"{many:,} people" if many else "people"


def _are(many: int) -> str:
    return "is" if many == 1 else "are"


def _number(loss: float) -> str:
    return words.number(loss)
