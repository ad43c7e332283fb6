"""Where a paragraph may be cut: after sentences, in English and Chinese.

Rules, not a model: they are fast (megabytes a second), always give the same, and a cut at a doubtful place costs a
chunk little. Each place is given with its strain, how bad it is to cut there (see knowledge.splitting.units).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

SENTENCE, LINE, QUOTED = 0.6, 0.7, 3.0

_ABBREVIATED = """
    dr mr mrs ms prof st sr jr rev hon gen col capt lt sgt gov sen rep pres dept univ inc ltd co corp bros
    vs etc eg ie cf al ca approx est fig figs eq eqs sec ch vol no nos pp ed eds art para tab ref refs resp
    jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat sun ave blvd rd mt ft
"""
_ABBREVIATIONS = frozenset(_ABBREVIATED.split())  # a full stop after these does not end a sentence

# One pass finds ends of sentences, quotation marks and line breaks. A run of marks is only looked at from its
# beginning, so that megabytes of dots stay linear.
_PLACES = re.compile(
    r"(?P<latin>(?<![.!?])[.!?]++[\"'”’»)\]]*+(?=\s))"
    r"|(?P<wide>(?<![。！？；…｡؟۔।॥])[。！？；…｡؟۔।॥]++[」』”’）】》〉)\"']*+)"
    r"|(?P<open>[「『“《（])"
    r"|(?P<close>[」』”》）])"
    r"|(?P<line>\n)"
)
_LAST_WORD = re.compile(r"(\S+)$")
_QUOTE_AT_MOST = 400  # characters; a mark that is not closed by then was not opened


def sentences(text: str) -> Iterator[tuple[str, float]]:
    """(text of the sentence with the space after it, strain of cutting before it) from beginning to end.

    A line break is a place to cut too (verse, chat, plain text), and an end of a sentence inside a quotation is one,
    but not as good as the end of the quotation.
    """
    begin, strain = 0, 0.0
    for end, next_strain in _ends(text):
        while end < len(text) and text[end - 1] != "\n" and text[end].isspace():
            end += 1  # up to the next line's indentation
        if end <= begin:
            continue
        if end >= len(text):
            break
        if text[begin:end].isspace():
            continue
        yield text[begin:end], strain
        begin, strain = end, next_strain
    if begin < len(text):
        yield text[begin:], strain


def _ends(text: str) -> Iterator[tuple[int, float]]:
    depth, opened = 0, 0
    for place in _PLACES.finditer(text):
        if place["open"]:
            depth, opened = depth + 1, place.start()
            continue
        if depth and place.start() - opened > _QUOTE_AT_MOST:
            depth = 0
        if place["close"]:
            depth = max(0, depth - 1)
        elif place["line"]:
            depth = 0
            yield place.end(), LINE
        elif place["wide"] or not _goes_on(text, place):
            depth = max(0, depth - sum(place[0].count(mark) for mark in "」』”》）"))
            yield place.end(), QUOTED if depth else SENTENCE


def _goes_on(text: str, stop: re.Match[str]) -> bool:
    """Whether the sentence goes on after these marks: "e.g. this", "Dr. Who", "J. Smith", "1. First"."""
    if stop[0][0] != ".":
        return False
    following = text[stop.end() : stop.end() + 40].lstrip()
    if following[:1].islower():
        return True
    if stop[0] != ".":
        return False
    word = _LAST_WORD.search(text, max(0, stop.start() - 24), stop.start())
    if word is None:
        return True
    bare = word[1].lstrip("(\"'“‘[")
    if bare.isdecimal():
        before = text[max(0, word.start() - 1) : word.start()]
        return before in ("", "\n")  # the number of an item
    if len(bare) == 1 and bare.isalpha():
        return bare != "I" and bare.isascii()
    if "." in bare:
        return bare.lower() in ("e.g", "i.e", "a.k.a", "ph.d", "cf", "et.al")
    return bare.lower() in _ABBREVIATIONS
