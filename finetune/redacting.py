"""Personal data leaves everything that is learnt from, a conversation at a time.

All texts of a conversation go through the redactor together, each once, so that the same value has the same placeholder
in prompts, replies and corrections. The names of the people whose words it holds are known from their profiles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeAlias

from finetune.examples import Example, Judged, Preference
from finetune.job import Progress, Told

Learnt: TypeAlias = Example | Preference | Judged

_TOLD_EVERY = 20  # conversations


class Redaction(Protocol):
    """What puts placeholders into texts: finetune.redact.Redactor."""

    def conversation(self, texts: Sequence[str], names: Sequence[str] = ()) -> tuple[list[str], Counter[str]]: ...


def redacted(
    items: Sequence[Learnt], names: Mapping[int, str], redactor: Redaction, told: Told = lambda _: None
) -> tuple[list[Learnt], Counter[str]]:
    """The items with placeholders, in their order, and how many of each kind were put in. `names`: by person."""
    texts: dict[str, dict[str, None]] = {}
    persons: dict[str, set[int]] = {}
    for item in items:
        texts.setdefault(item.source.conversation, {}).update(dict.fromkeys(_texts(item)))
        persons.setdefault(item.source.conversation, set()).update(item.source.person_ids)
    counts: Counter[str] = Counter()
    become: dict[str, dict[str, str]] = {}
    for number, (conversation, originals) in enumerate(texts.items()):
        if number % _TOLD_EVERY == 0:
            told(Progress("preparing", number, len(texts), "redacting"))
        theirs = [names[each] for each in sorted(persons[conversation]) if each in names]
        placed, found = redactor.conversation(list(originals), theirs)
        become[conversation] = dict(zip(originals, placed, strict=True))
        counts += found
    return [_replaced(item, become[item.source.conversation]) for item in items], counts


def people_of(items: Collection[Learnt]) -> set[int]:
    return {person_id for item in items for person_id in item.source.person_ids}


def _texts(item: Learnt) -> list[str]:
    if isinstance(item, Example):
        return [each["content"] for each in item.messages]
    prompt = [each["content"] for each in item.prompt]
    return [*prompt, item.chosen, item.rejected] if isinstance(item, Preference) else [*prompt, item.reply]


def _replaced(item: Learnt, become: Mapping[str, str]) -> Learnt:
    if isinstance(item, Example):
        return replace(item, messages=tuple({**each, "content": become[each["content"]]} for each in item.messages))
    prompt = tuple({**each, "content": become[each["content"]]} for each in item.prompt)
    if isinstance(item, Preference):
        return replace(item, prompt=prompt, chosen=become[item.chosen], rejected=become[item.rejected])
    return replace(item, prompt=prompt, reply=become[item.reply])
