"""Markdown that is drawn while it comes, token by token.

What can no longer change is printed once, for good; only the rest is drawn again, in a small region at the bottom. When
the text is complete, the scrollback holds exactly the lines that rendering it at once would give.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from rich.console import Console

from bot.terminal.lines import Line
from bot.terminal.markdown import render
from bot.terminal.region import Region
from bot.terminal.settled import last_block_start, settled

_ROWS_KEPT = 4  # a region this low is left alone: short paragraphs are printed in one piece
_CONTROL = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}
_ONLY_A_MARK = re.compile(r"[ \t>]*(?:[-*+#=_~`|:> \t]+|\d{1,9}[.)]?)[ \t]*")


def printable(text: str) -> str:
    """`text` without control characters: a reply must not be able to move the cursor or rename the window."""
    return text.translate(_CONTROL)


class MarkdownStream:
    """`feed` takes text and draws nothing; `draw` brings the screen up to date; `finish` leaves all of it printed."""

    def __init__(self, console: Console, region: Region) -> None:
        self._console = console
        self._region = region
        self._pending = ""  # from the first top-level block on that is not finished
        self._checked = 0  # up to here `_pending` was searched for finished blocks
        self._printed_blocks = False
        self._printed = Printed()  # of `_pending`

    def feed(self, text: str) -> None:
        self._pending += printable(text)

    def draw(self) -> None:
        width = self._region.size().columns
        done = self._finished_blocks(width)
        lines = self._lines(_presentable(self._pending), width)
        rest = self._printed.rest(lines, width)
        if len(rest) > min(_ROWS_KEPT, self._region.size().rows // 2):
            beginning, open_lines = settled(self._pending)
            stable = self._lines(beginning, width)
            stable = self._printed.rest(stable[: len(stable) - open_lines], width)
            self._printed.add(stable, width)
            done += stable
            rest = rest[len(stable) :]
        self._region.update(rest, done)

    def finish(self) -> None:
        width = self._region.size().columns
        done = self._finished_blocks(width)
        self._region.close([*done, *self._printed.rest(self._lines(self._pending, width), width)])
        self._pending, self._checked, self._printed = "", 0, Printed()

    def _finished_blocks(self, width: int) -> list[Line]:
        """Take the blocks out of `_pending` that nothing can change any more; what of them is not yet printed."""
        complete = self._pending.rfind("\n") + 1
        if complete == self._checked:
            return []
        end = last_block_start(self._pending)
        self._checked = complete - end
        if not end:
            return []
        finished, self._pending = self._pending[:end], self._pending[end:]
        done = self._printed.rest(self._lines(finished, width), width)
        self._printed_blocks, self._printed = True, Printed()
        return done

    def _lines(self, source: str, width: int) -> list[Line]:
        lines = render(source, self._console, width)
        return [Line("", ""), *lines] if lines and self._printed_blocks else lines


class Printed:
    """How much of a block stands in the scrollback already.

    At one width that is a number of lines. When the window changes its width the same block has other lines; then it is
    found again by the number of its characters, spaces and the bars of quotes left out.
    """

    def __init__(self) -> None:
        self._lines = 0
        self._characters = 0
        self._of_next_line = 0  # characters of the line after them that are printed too; after a change of width
        self._width = 0

    def rest(self, lines: Sequence[Line], width: int) -> list[Line]:
        """The lines that are not printed yet."""
        if width != self._width:
            self._find(lines, width)
        rest = list(lines[self._lines :])
        if rest and self._of_next_line:
            rest[0] = _without_first(rest[0], self._of_next_line)
        return rest

    def add(self, lines: Sequence[Line], width: int) -> None:
        """`lines`, the first of `rest` at this width, have been printed."""
        if not lines:
            return
        self._lines += len(lines)
        self._characters += sum(_count(line.plain) for line in lines)
        self._of_next_line = 0

    def _find(self, lines: Sequence[Line], width: int) -> None:
        self._width = width
        if not self._characters:
            self._lines = min(self._lines, 1)  # at most the empty line before the block
            return
        reached = list(accumulate(_count(line.plain) for line in lines))
        self._lines = sum(1 for count in reached if count <= self._characters)
        before = reached[self._lines - 1] if self._lines else 0
        self._of_next_line = self._characters - before


def _count(plain: str) -> int:
    return sum(1 for character in plain if not character.isspace() and character != "▌")


def _without_first(line: Line, characters: int) -> Line:
    """`line` from the character on that follows that many; it loses its style, for this one row."""
    index = 0
    while characters > 0 and index < len(line.plain):
        characters -= _count(line.plain[index])
        index += 1
    rest = line.plain[index:].lstrip()
    indent = line.plain[: len(line.plain) - len(line.plain.lstrip())]
    return replace(line, ansi=indent + rest, plain=indent + rest)


def _presentable(source: str) -> str:
    """`source` less an end that is about to look different: a mark alone on its line, or a row that is no table yet."""
    complete = source[: source.rfind("\n") + 1]
    unfinished = source[len(complete) :]
    if unfinished and not _ONLY_A_MARK.fullmatch(unfinished) and not _is_row(unfinished):
        return source
    *before, last = ["", *complete.splitlines()]
    if _is_row(last) and not _is_row("".join(before[-1:])):
        return complete[: len(complete) - len(last) - 1]
    return complete


def _is_row(line: str) -> bool:
    return line.lstrip().startswith("|")
