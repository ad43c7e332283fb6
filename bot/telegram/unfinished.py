"""A text that is still being written, shown so that as little as possible changes back and forth.

The last few characters of a reply often mean nothing yet: one of the two asterisks of "**", half of a link, the head of
a table whose rule is still to come. They are left out until it is known what they are. Text that will turn bold when
its end arrives is shown without the marks, so that nothing moves when they are closed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bot.telegram.dialect import Event, Where, parse

_ONLY_A_MARK = re.compile(r"[ \t>]*(?:[-*+#=_~`|:>$ \t]+|\d{1,9}[.)]?)[ \t]*")
_HALF_A_LINK = re.compile(r"!?\[([^\[\]\n]*)\]\([^()\n]*(?:\([^()\n]*\)?[^()\n]*)?\Z")
_MARKS_AT_THE_END = re.compile(r"(?<!\\)(?:\*+|_+|~+|`+)\Z")
_RULE_OF_A_TABLE = re.compile(r"[ \t>]*[|:\- \t]*")
_BLANK_LINE_AT_THE_END = re.compile(r"\n[ \t>]*\n[ \t>]*\Z")


@dataclass(frozen=True)
class _Mark:
    """A run of one character that opens something and is not closed."""

    start: int  # in bytes
    character: str
    length: int


def calmed(source: str) -> str:
    """`source` without an end whose meaning is not known yet."""
    lines, _, last = source.rpartition("\n")
    if lines.strip() and _ONLY_A_MARK.fullmatch(last):
        source = lines + "\n"
    events = parse(source)
    leaf = _last_leaf(events, source)
    if leaf is None:
        return source
    before, tail = _split(source, leaf)
    if before.strip() and _may_become_a_table(tail):
        return before
    tail = _HALF_A_LINK.sub(r"\1", tail)
    marks = _MARKS_AT_THE_END.search(tail)
    if marks is None:
        return before + tail
    without = before + tail[: marks.start()]
    openers = [mark for mark in _marks(parse(without), without) if mark.character == marks[0][0]]
    return before + tail if any(mark.length <= len(marks[0]) for mark in openers) else without


def open_marks(events: Sequence[tuple[Event, Where]], source: str) -> frozenset[int]:
    """Where the marks are, in bytes, that may yet be closed: each character of them is one event."""
    return frozenset(byte for mark in _marks(events, source) for byte in range(mark.start, mark.start + mark.length))


def _last_leaf(events: Sequence[tuple[Event, Where]], source: str) -> int | None:
    """Where the paragraph, item, heading or cell begins, in bytes, that the next word belongs to; None in code."""
    if _BLANK_LINE_AT_THE_END.search(source):
        return None
    for event, where in reversed(events):
        match event:
            case {"Start": "Paragraph" | "Item" | "TableCell" | {"Heading": _}}:
                return where["start"]
            case {"Start": "HtmlBlock" | {"CodeBlock": _}} | "Rule":
                return None
    return None


def _split(source: str, byte: int) -> tuple[str, str]:
    data = source.encode()
    return data[:byte].decode(), data[byte:].decode()


def _may_become_a_table(tail: str) -> bool:
    first, _, rest = tail.partition("\n")
    return first.startswith("|") and bool(_RULE_OF_A_TABLE.fullmatch(rest))


def _marks(events: Sequence[tuple[Event, Where]], source: str) -> list[_Mark]:
    """Those of the last leaf."""
    leaf = _last_leaf(events, source)
    if leaf is None:
        return []
    data = source.encode()
    runs: list[_Mark] = []
    for event, where in events:
        match event:
            case {"Text": "*" | "_" | "~" | "`" as character} if where["start"] >= leaf:
                last = runs[-1] if runs else None
                if last and last.character == character and last.start + last.length == where["start"]:
                    runs[-1] = _Mark(last.start, character, last.length + 1)
                else:
                    runs.append(_Mark(where["start"], character, 1))
    return [run for run in runs if _opens(run, data)]


def _opens(mark: _Mark, data: bytes) -> bool:
    """Is it likely that this is meant to be closed? "5*3", "~100" and "snake_case" are not."""
    before, after = data[mark.start - 1 : mark.start], data[mark.start + mark.length :][:1]
    if before == b"\\" or not after.strip():
        return False
    if mark.character == "`":
        return True
    return not before.isalnum() and (mark.character != "~" or mark.length > 1)
