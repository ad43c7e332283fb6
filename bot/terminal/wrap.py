"""Where a line of text may break: at spaces, and between Chinese or Japanese characters.

Rich breaks at spaces only, which leaves Chinese paragraphs ragged. The breaking is greedy, so the lines of a text that
grows at its end stay as they are, except the last one. bot.terminal.markdown relies on that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rich.cells import cell_len, chop_cells
from rich.text import Text

_OPENING = "（《「『【〔〈“"  # never the last of a line
_CLOSING = "，。！？；：、）》」』】〕〉”…—·"  # never the first of a line
_IDEOGRAPH = (
    "\u2e80-\u2fff\u3003-\u3007\u3012-\u303f\u3040-\u30ff\u3100-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff01-\uff60"
)
_UNIT = re.compile(
    rf"\s+|[{_OPENING}]*(?:[{_IDEOGRAPH}]|[^\s{_OPENING}{_CLOSING}{_IDEOGRAPH}]+)[{_CLOSING}]*|[{_OPENING}{_CLOSING}]+"
)
_BREAKABLE_AFTER = re.compile(rf"[\s{_IDEOGRAPH}{_CLOSING}]")


def wrapped(text: Text, width: int) -> list[Text]:
    """`text` in lines of at most `width` cells; a word that is longer than that is cut."""
    lines: list[Text] = []
    for line in text.split("\n", allow_blank=True):
        line.expand_tabs(4)
        for piece in line.divide(list(_breaks(line.plain, max(width, 1)))):
            piece.rstrip()
            piece.no_wrap, piece.justify = True, None
            lines.append(piece)
    return lines


def folded(text: Text, width: int) -> list[Text]:
    """`text`, a line of code, in pieces that fill `width` cells each: nothing is dropped, not even spaces."""
    text.expand_tabs(4)
    ends, end = [], 0
    for piece in chop_cells(text.plain, max(width, 2))[:-1]:
        ends.append(end := end + len(piece))
    return list(text.divide(ends))


def ends_a_unit(character: str) -> bool:
    """May a line break follow this character, whatever comes after it?"""
    return bool(_BREAKABLE_AFTER.match(character))


def _breaks(line: str, width: int) -> Iterator[int]:
    """The indices at which lines of `width` cells begin."""
    used = 0
    for unit in _UNIT.finditer(line):
        cells = cell_len(unit[0])
        if unit[0].isspace() or used + cells <= width:
            used += cells  # spaces may hang over the edge; they are stripped
            continue
        if used:
            yield unit.start()
        used, start = cells, unit.start()
        if cells <= width:
            continue
        for piece in chop_cells(unit[0], max(width, 2))[:-1]:
            start += len(piece)
            used -= cell_len(piece)
            yield start
