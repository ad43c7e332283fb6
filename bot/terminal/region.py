"""The few rows at the bottom of the screen that are drawn again and again while a reply comes.

Rich's Live erases and rewrites its whole region at each refresh; this one rewrites only the rows that changed, in one
write, so that nothing flickers and a slow connection is not flooded. Rows above the region belong to the scrollback and
are never touched again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TextIO

from rich.cells import cell_len

from bot.terminal.lines import Line

_BEGIN, _END = "\x1b[?2026h", "\x1b[?2026l"  # synchronised output; terminals without it pass over these
_HIDE_CURSOR, _SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"  # a row that is wider than we think must not become two
_ERASE_ROW, _ERASE_BELOW = "\x1b[2K", "\x1b[J"


class Size(NamedTuple):
    columns: int
    rows: int


class Region:
    """Between two updates the cursor stands at the end of the last row; with no rows, at the start of an empty one."""

    def __init__(self, out: TextIO, size: Callable[[], Size]) -> None:
        self._out = out
        self.size = size
        self._rows: list[str] = []
        self._cells: list[int] = []
        self._columns = 0

    def update(self, rows: Sequence[Line], settled: Sequence[Line] = ()) -> None:
        """Print `settled` for good, above the region, and show `rows` in it, or the last ones that fit."""
        columns, height = self.size()
        rows = rows[-max(height - 1, 1) :]
        ansi = [row.ansi for row in rows]
        if settled or columns != self._columns or len(ansi) < len(self._rows):
            text = self._to_top(columns, height) + _ERASE_BELOW + _printed(settled) + _unwrapped("\r\n".join(ansi))
        elif ansi == self._rows:
            return
        else:
            text = _unwrapped(self._changed(ansi))
        self._write(_BEGIN + (_HIDE_CURSOR if ansi else _SHOW_CURSOR) + text + _END)
        self._rows, self._cells, self._columns = ansi, [cell_len(row.plain) for row in rows], columns

    def close(self, settled: Sequence[Line] = ()) -> None:
        """Print `settled` in the region's place. The cursor shows again and stands on an empty row."""
        if settled or self._rows:
            self.update((), settled)

    def _changed(self, ansi: list[str]) -> str:
        changed = (index for index, row in enumerate(self._rows) if row != ansi[index])
        first = next(changed, len(self._rows))
        to_first = "\r" + _up(len(self._rows) - 1 - first) if first < len(self._rows) else "\r\n"
        return (to_first if self._rows else "") + "\r\n".join(_ERASE_ROW + row for row in ansi[first:])

    def _to_top(self, columns: int, height: int) -> str:
        """Back to the first row. A terminal that has become narrower has broken the long rows in two, or more."""
        width = min(columns, self._columns) or columns
        shown = sum(max(1, -(-cells // width)) for cells in self._cells)
        return "\r" + _up(min(shown, height) - 1)

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def _printed(lines: Sequence[Line]) -> str:
    ends = ["" if line.runs_on else "\r\n" for line in lines[:-1]] + ["\r\n"]
    return "".join(line.ansi + end for line, end in zip(lines, ends, strict=False))


def _unwrapped(text: str) -> str:
    return f"{_NO_WRAP}{text}{_WRAP}" if text else ""


def _up(rows: int) -> str:
    return f"\x1b[{rows}A" if rows > 0 else ""
