"""Which parts of a text have which look, and what of that Telegram keeps.

A Span is a MessageEntity that counts in characters; only the message that is sent counts in UTF-16 units. Telegram
refuses some entities and changes others: it drops what code or a quote must not contain, and cuts the styles where
something else begins. Doing the same here, before a text is cut into messages, makes the number of entities that is
kept under the limit the number that Telegram counts.

The rules are those of https://core.telegram.org/bots/api#messageentity and of the open source server behind it
(`fix_entities` in tdlib's MessageEntity.cpp).
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

CODE = frozenset({"pre", "code"})
STYLES = ("bold", "italic", "underline", "strikethrough")
BLANK = " \n"  # what Telegram cuts off at the ends of a message

_KEPT_FIRST = {"blockquote": 0, "text_link": 1, "pre": 2, "code": 3} | dict.fromkeys(STYLES, 4)

_HTTP = re.compile(
    r"https?://(?:[\w.!$&'()*+,;=~:%-]*@)?(?P<host>[\w.!$&'()*+,;=~-]+)(?::(?P<port>\d{1,5}))?(?:[/?#]|$)", re.I
)
_TG = re.compile(r"tg://(?!user\b|emoji\b)[a-z0-9_-]+(?:[/?#]|$)", re.I)


@dataclass(frozen=True, slots=True)
class Span:
    """`type` is Bot API's; `start` and `end` are indices into a str, `end` the first that does not belong to it."""

    type: str
    start: int
    end: int
    url: str | None = None
    language: str | None = None


def accepted(text: str, spans: Iterable[Span]) -> list[Span]:
    """The spans as Telegram would keep them, each before those inside of it."""
    spans = list(spans)
    solid = _apart(_trimmed(text, [span for span in spans if span.type in CODE or span.type == "text_link"]))
    blocks = {span.start for span in solid if span.type == "pre"}
    quotes = _apart(_trimmed(text, [span for span in spans if span.type == "blockquote"], blocks))
    styles = list(_trimmed(text, [span for span in spans if span.type in STYLES]))
    return _sorted([*quotes, *solid, *_trimmed(text, _cut_styles(styles, quotes, solid))])


def accepts_link(url: str) -> bool:
    """May a text_link lead there? A message with one that may not is refused as a whole.

    Telegram knows http, https and tg, and no hosts without a dot; "mailto:" it takes for the name of a user on a web
    server. Links to people and emoji are refused when the bot does not know the person or the emoji.
    """
    if _TG.match(url):
        return True
    web = _HTTP.match(url)
    return bool(web and "." in web["host"].strip(".") and 0 < int(web["port"] or 80) < 65536)


def _sorted(spans: Iterable[Span]) -> list[Span]:
    return sorted(spans, key=lambda span: (span.start, -span.end, _KEPT_FIRST[span.type]))


def _trimmed(text: str, spans: Iterable[Span], blocks: Container[int] = ()) -> Iterator[Span]:
    """Without blanks at their ends, but for the indent of code, also where one of `blocks` begins with it."""
    for span in spans:
        start, end = span.start, span.end
        while end > start and text[end - 1] in BLANK:
            end -= 1
        while start < end and text[start] in BLANK:
            start += 1
        line = max(span.start, text.rfind("\n", span.start, start) + 1)
        if start < end:
            yield replace(span, start=line if span.type == "pre" or line in blocks else start, end=end)


def _apart(spans: Iterable[Span]) -> list[Span]:
    """Those of the spans that begin where none before them is still open."""
    kept: list[Span] = []
    for span in _sorted(spans):
        if not kept or span.start >= kept[-1].end:
            kept.append(span)
    return kept


def _cut_styles(styles: Sequence[Span], quotes: Sequence[Span], solid: Sequence[Span]) -> list[Span]:
    """The styles, none on code, none over the edge of a quote or a link, and cut where another style begins."""
    runs = {style: _united(span for span in styles if span.type == style) for style in STYLES}
    edges = {edge for span in (*quotes, *solid) for edge in (span.start, span.end)}
    cuts = sorted(edges | {span.start for each in runs.values() for span in each})
    code = [span for span in solid if span.type in CODE]
    code_starts = [span.start for span in code]

    def in_code(index: int) -> bool:
        before = bisect_right(code_starts, index) - 1
        return before >= 0 and index < code[before].end

    pieces: list[Span] = []
    for run in (run for each in runs.values() for run in each):
        inner = cuts[bisect_right(cuts, run.start) : bisect_left(cuts, run.end)]
        for start, end in zip([run.start, *inner], [*inner, run.end], strict=True):
            if not in_code(start):
                pieces.append(replace(run, start=start, end=end))
    return pieces


def _united(spans: Iterable[Span]) -> list[Span]:
    """Spans of one type, with those that overlap or touch made one."""
    united: list[Span] = []
    for span in _sorted(spans):
        if united and span.start <= united[-1].end:
            united[-1] = replace(united[-1], end=max(united[-1].end, span.end))
        else:
            united.append(span)
    return united
