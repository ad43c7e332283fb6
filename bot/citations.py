"""The numbers in brackets that say from which passage a statement comes.

While a reply streams, a number of a passage that was not given is taken out before anybody sees it; numbers in code
are left alone. When a reply ends without any number, it is looked up which of the passages hold what it says, and
those are put under it: small models answer from passages more often than they say so. Attribution after the fact is
by the words that reply and passage share, as in the lexical baselines of Gao et al., "RARR" (ACL 2023).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from knowledge.lexical import query_terms, terms

_SEPARATORS = ",，、;；"
_NUMBERS = rf"\s*\^?\d{{1,3}}(?:\s*[{_SEPARATORS}]\s*\^?\d{{1,3}})*\s*"
_MARK = re.compile(rf"(?P<gap>[ \t]*)(?:\[(?P<square>{_NUMBERS})\]|【(?P<thick>{_NUMBERS})】)")
_PERHAPS = re.compile(
    rf"[ \t]*(?:[\[【][\s\d^{_SEPARATORS}]{{0,40}})?$"
)  # the end of a piece that may be a mark's begin
_CODE = re.compile(r"```|~~~|`|\n")
_SENTENCE = re.compile(r"[^.!?。！？\n]+[.!?。！？]*")

SUPPORTED_SHARE = 0.7  # of a sentence's terms that a passage must hold to be its source
MOST_ATTRIBUTED = 3


class Citations:
    """The marks of one reply, which was given the passages 1 to `given`. Feed it the text as it comes."""

    def __init__(self, given: int) -> None:
        self._given = given
        self._held = ""
        self._fence = ""  # of the block of code that the text is in
        self._span = False  # in code within a line
        self.cited: list[int] = []  # in the order in which they first appear

    def feed(self, text: str) -> str:
        """What can be shown now; what may be the begin of a mark is held back."""
        if not self._given:
            return text
        self._held += text
        ready = self._held.rstrip("`~")  # how many of these there are is known when something else follows
        return self._until(ready, len(ready) if ready != self._held else None)

    def end(self) -> str:
        """What was held back."""
        return self._until(self._held, len(self._held))

    def _until(self, text: str, end: int | None) -> str:
        """`text`, the begin of what is held, with its marks checked; up to what may be a mark's begin without `end`."""
        shown, at = "", 0
        for code in _CODE.finditer(text):
            shown += self._piece(text[at : code.start()]) + code[0]
            at = code.end()
            self._pass(code[0])
        rest = text[at:]
        cut = len(rest) if end is not None or self._in_code else _held_from(rest)
        shown += self._piece(rest[:cut])
        self._held = self._held[at + cut :]
        return shown

    @property
    def _in_code(self) -> bool:
        return bool(self._fence) or self._span

    def _pass(self, mark: str) -> None:
        if mark == "\n":
            self._span = False
        elif mark == "`":
            self._span = not self._span and not self._fence
        elif not self._fence:
            self._fence = mark
        elif self._fence == mark:
            self._fence = ""

    def _piece(self, text: str) -> str:
        return text if self._in_code else _MARK.sub(self._checked, text)

    def _checked(self, mark: re.Match[str]) -> str:
        inside = mark["square"] or mark["thick"]
        numbers = [int(each) for each in re.findall(r"\d+", inside)]
        given = [number for number in dict.fromkeys(numbers) if 1 <= number <= self._given]
        self.cited += [number for number in given if number not in self.cited]
        return mark["gap"] + "".join(f"[{number}]" for number in given) if given else ""


def attributed(reply: str, question: str, passages: Sequence[str]) -> list[int]:
    """The numbers, from 1, of the passages that hold what `reply` says beyond the question's own words."""
    held = [set(terms(passage)) for passage in passages]
    asked = set(terms(question))
    found: list[int] = []
    for sentence in _SENTENCE.findall(reply):
        said = set(query_terms(sentence))
        if not said - asked:
            continue
        shares = [len(said & words) / len(said) if (said - asked) & words else 0.0 for words in held]
        best = max(shares, default=0.0)
        if best >= SUPPORTED_SHARE and (number := shares.index(best) + 1) not in found:
            found.append(number)
    return found[:MOST_ATTRIBUTED]


def _held_from(text: str) -> int:
    found = _PERHAPS.search(text)
    return found.start() if found else len(text)
