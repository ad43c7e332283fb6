"""A long text cut into messages.

Each message is filled from where the last one ended, and cut by what stands in it alone. While a text grows at its end,
the messages before the last one therefore stay as they were sent.

The best place in the second half of a message is taken: between paragraphs, else between lines, else, within a block of
code, before a line with no indent, or before any line. A line too long for all that is cut after a sentence or a word,
and a word between two characters as a reader sees them: no emoji is torn.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from wcwidth import iter_graphemes

from bot.telegram.spans import BLANK, Span

# Characters that Telegram does not count as text: a message of them alone is refused.
_SEEN = re.compile("[^\\s\u180e\u200b-\u200f\u202a-\u202e\u2800\ufeff\ufffc\U000e0000-\U000e007f]")

_BLANK_LINES = re.compile(r"(?: *\n)*")
_SENTENCE_END = re.compile("[.!?…][\"')\\]]*(?=\\s)|[。！？；][”’」』）]*")


def shows_nothing(text: str) -> bool:
    return _SEEN.search(text) is None


def cut(text: str, spans: Sequence[Span], max_units: int, max_entities: int) -> list[tuple[str, list[Span]]]:
    """The text in pieces of at most that many UTF-16 units (2 or more) and spans, with blanks cut off at their ends.

    `spans` are sorted as `spans.accepted` gives them; those of a piece count from its beginning.
    """
    text = text.rstrip(BLANK)
    units = Units(text)
    pieces: list[tuple[str, list[Span]]] = []
    started: list[Span] = []  # before `start`, and not ended there
    upcoming, start = 0, 0
    while True:
        start = _next_start(text, start, started, spans[upcoming] if upcoming < len(spans) else None)
        if start >= len(text):
            return pieces
        limit, inside, upcoming = _fill(spans, upcoming, started, start, units.index_at(start, max_units), max_entities)
        end = limit if limit == len(text) else _best_cut(text, start, limit, inside)
        if not any(span.type == "pre" and span.start <= start for span in inside):
            start = _without_blanks(text, start, end)
        body = text[start:end].rstrip(BLANK)
        if not shows_nothing(body):
            pieces.append((body, _clipped(inside, start, start + len(body))))
        # A span that was taken into the window, but begins after the cut, is still to come.
        while upcoming and spans[upcoming - 1].start >= end:
            upcoming -= 1
        started = [span for span in inside if span.start < end < span.end]
        start = end


def units_in(text: str) -> int:
    """The length in UTF-16 code units; half of a pair that stands alone counts as one."""
    return len(text) + sum(character > "\uffff" for character in text)


class Units:
    """UTF-16 units of a text: a character beyond the Basic Multilingual Plane takes two."""

    def __init__(self, text: str) -> None:
        self._length = len(text)
        self._before = (
            None
            if text.isascii() or max(text) <= "\uffff"
            else [0, *accumulate(2 if character > "\uffff" else 1 for character in text)]
        )

    def before(self, index: int) -> int:
        return index if self._before is None else self._before[index]

    def index_at(self, start: int, units: int) -> int:
        """The last index so that at most `units` stand between `start` and it."""
        if self._before is None:
            return min(self._length, start + units)
        return bisect_right(self._before, self._before[start] + units) - 1


def _next_start(text: str, start: int, started: Sequence[Span], upcoming: Span | None) -> int:
    """Where text begins again; the indent of a line of code stays."""
    if any(span.type == "pre" for span in started):
        if text[start - 1] != "\n":
            start = _without_blanks(text, start, _line_end(text, start))
        lines = _BLANK_LINES.match(text, start)
        return lines.end() if lines else start
    return _without_blanks(text, start, upcoming.start if upcoming else len(text))


def _line_end(text: str, start: int) -> int:
    end = text.find("\n", start)
    return len(text) if end < 0 else end


def _without_blanks(text: str, start: int, end: int) -> int:
    while start < end and text[start] in BLANK:
        start += 1
    return start


def _fill(
    spans: Sequence[Span], upcoming: int, started: Sequence[Span], start: int, limit: int, max_entities: int
) -> tuple[int, list[Span], int]:
    """How far the message can go, the spans that are in it, and the index of the first that is not."""
    inside = list(started[:max_entities])
    while upcoming < len(spans) and spans[upcoming].start < limit:
        span = spans[upcoming]
        if len(inside) < max_entities:
            inside.append(span)
        elif span.start > start and max_entities > 0:
            limit = span.start
            break
        upcoming += 1
    return limit, inside, upcoming


def _clipped(spans: Sequence[Span], start: int, end: int) -> list[Span]:
    return [
        replace(span, start=max(span.start, start) - start, end=min(span.end, end) - start)
        for span in spans
        if span.start < end and span.end > start
    ]


def _best_cut(text: str, start: int, limit: int, spans: Sequence[Span]) -> int:
    """The index at which the next message begins, at most `limit` and after `start`."""
    floor = start + (limit - start) // 2
    blocks = [(span.start, span.end) for span in spans if span.type == "pre"]
    return (
        _break_outside(text, "\n\n", floor, limit, blocks)
        or _break_outside(text, "\n", floor, limit, blocks)
        or _line_of_code(text, floor, limit)
        or _sentence(text, floor, limit)
        or _word(text, floor, limit)
        or _character(text, start, limit)
    )


def _break_outside(text: str, mark: str, floor: int, limit: int, blocks: Sequence[tuple[int, int]]) -> int | None:
    """The last `mark` that is in no block of code."""
    end = limit + len(mark)
    for block_start, block_end in reversed(blocks):
        found = text.rfind(mark, max(floor, block_end), end)
        if found > floor:
            return found
        end = min(end, block_start)
    found = text.rfind(mark, floor, end)
    return found if found > floor else None


def _line_of_code(text: str, floor: int, limit: int) -> int | None:
    """The last line break before a line that is not indented, else the last one."""
    last = found = text.rfind("\n", floor, limit + 1)
    while found > floor:
        if text[found + 1 : found + 2].strip(BLANK):
            return found
        found = text.rfind("\n", floor, found)
    return last if last > floor else None


def _sentence(text: str, floor: int, limit: int) -> int | None:
    ends = [match.end() for match in _SENTENCE_END.finditer(text, floor, limit) if _parts(text, match.end())]
    return ends[-1] if ends and ends[-1] > floor else None


def _word(text: str, floor: int, limit: int) -> int | None:
    found = text.rfind(" ", floor, limit + 1)
    return found if found > floor else None


def _character(text: str, start: int, limit: int) -> int:
    """The end of the last character as a reader sees it; `limit` where one alone is longer than a message."""
    at = start
    for grapheme in iter_graphemes(text[start : limit + 1]):
        if at + len(grapheme) > limit:
            break
        at += len(grapheme)
    return at if at > start else limit


def _parts(text: str, index: int) -> bool:
    """Does another character begin at `index`, and not a mark on the one before?"""
    return not text[index : index + 1] or (unicodedata.category(text[index])[0] != "M" and text[index] != "\u200d")
