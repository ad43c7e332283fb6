"""What stands in a text where personal data stood: <EMAIL_1>, <NAME_2>.

The same value has the same placeholder in all texts of a conversation, so that a model learns to speak of "the same
address" without learning the address. A text that holds placeholders already keeps them, and new ones get other
numbers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from finetune.redact.findings import KINDS, Kind

PLACEHOLDER = re.compile(rf"<({'|'.join(KINDS)})_([1-9][0-9]{{0,5}})>")
_NATIONAL = 10  # digits of a phone number that are the same with and without the country's code


class Placeholders:
    """Those of one conversation."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._of: dict[tuple[Kind, str], str] = {}
        self._numbers: Counter[str] = Counter()
        for text in texts:
            for kind, number in PLACEHOLDER.findall(text):
                self._numbers[kind] = max(self._numbers[kind], int(number))

    def of(self, kind: Kind, value: str) -> str:
        key = (kind, _same(kind, value))
        if key not in self._of:
            self._numbers[kind] += 1
            self._of[key] = f"<{kind}_{self._numbers[kind]}>"
        return self._of[key]


def hidden(text: str) -> str:
    """The text with its placeholders overwritten by characters in which nothing is found; as long as before."""
    return PLACEHOLDER.sub(lambda match: "\0" * len(match[0]), text) if "<" in text else text


def _same(kind: Kind, value: str) -> str:
    """What two ways to write one value have in common."""
    if kind == "PHONE":
        return re.sub(r"[^0-9]", "", value)[-_NATIONAL:]
    if kind in ("CARD", "IBAN", "IDENTITY", "MAC"):
        return re.sub(r"[\s.:-]", "", value).upper()
    return value if kind == "SECRET" else value.casefold()
