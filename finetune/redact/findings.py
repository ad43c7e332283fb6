"""What is found in a text, and what becomes of findings that overlap."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["EMAIL", "PHONE", "CARD", "IBAN", "IDENTITY", "IP", "MAC", "WALLET", "ACCOUNT", "SECRET", "NAME"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# What the same thing looks like from keyboard to keyboard, one character for one, so that offsets stay what they are.
_SAME = (
    {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}  # full-width letters, digits and signs
    | dict.fromkeys([0x2010, 0x2011, 0x2012, 0x2013, 0x2212], "-")
    | dict.fromkeys([0x00A0, 0x2007, 0x2009, 0x202F, 0x3000], " ")
)
_VARIATION_SELECTORS = "\ufe0e\ufe0f"


@dataclass(frozen=True)
class Finding:
    """Characters `start` to `end` of a text are personal data of this kind."""

    start: int
    end: int
    kind: Kind
    value: str = ""  # what it stands for, where the text itself does not say: a nickname's whole name


def plain(text: str) -> str:
    """The text with one way to write digits, letters, hyphens and spaces, and as many characters as before."""
    return text if text.isascii() else text.translate(_SAME)


def of_pattern(pattern: re.Pattern[str], text: str, kind: Kind) -> Iterable[Finding]:
    """Where the pattern matches; its group `value`, if it has one."""
    group: str | int = "value" if "value" in pattern.groupindex else 0
    for match in pattern.finditer(text):
        yield Finding(match.start(group), match.end(group), kind)


def resolved(findings: Iterable[Finding], text: str) -> list[Finding]:
    """In the text's order and apart: those that overlap are one, of the longest one's kind, over all their characters.

    None ends between a letter and the accents or the colour that belong to it.
    """
    apart: list[Finding] = []
    for found in sorted(findings, key=lambda each: (each.start, -each.end)):
        found = Finding(found.start, _whole(text, found.end), found.kind, found.value)
        if not apart or found.start >= apart[-1].end:
            apart.append(found)
            continue
        before = apart.pop()
        longer = found if found.end - found.start > before.end - before.start else before
        both = Finding(before.start, max(before.end, found.end), longer.kind)
        apart.append(longer if (both.start, both.end) == (longer.start, longer.end) else both)
    return apart


def _whole(text: str, end: int) -> int:
    while end < len(text) and (unicodedata.combining(text[end]) or text[end] in _VARIATION_SELECTORS):
        end += 1
    return end
