"""Rows of a terminal, made of Rich's segments, and the console that makes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TextIO

from rich.console import Console
from rich.segment import Segment, Segments
from rich.text import Text
from rich.theme import Theme

from bot.terminal.wrap import wrapped

_THEME = Theme(
    {
        "markdown.h1": "bold underline",
        "markdown.h2": "bold",
        "markdown.h3": "bold",
        "markdown.h4": "bold",
        "markdown.h5": "bold",
        "markdown.h6": "bold",
        "markdown.code": "cyan",
        "markdown.block_quote": "none",
        "markdown.link": "none",
        "markdown.link_url": "blue underline",
        "markdown.table.border": "dim",
        "markdown.table.header": "bold",
        "markdown.item.number": "bold",
        "table.header": "bold",
    }
)


class _QuietConsole(Console):
    def on_broken_pipe(self) -> None:
        """Rich's own ends the whole program."""
        raise BrokenPipeError


def terminal_console(file: TextIO, *, terminal: bool) -> Console:
    """A console whose text means only itself: no markup, no emoji names, no guessed highlighting."""
    return _QuietConsole(file=file, force_terminal=terminal, theme=_THEME, markup=False, emoji=False, highlight=False)


@dataclass(frozen=True)
class Line:
    """One row of the terminal."""

    ansi: str
    plain: str
    runs_on: bool = False  # it fills the row, and the next line is the rest of it: no break between them, for copying


def text_lines(text: Text, console: Console, width: int) -> list[Line]:
    """A text that is not markdown, in lines of at most `width` cells."""
    return as_lines([segments_of(line, console) for line in wrapped(text, width)], console)


def segments_of(text: Text, console: Console) -> list[Segment]:
    """A text of one line, not wrapped."""
    return list(text.render(console))


def as_lines(rows: list[list[Segment]], console: Console) -> list[Line]:
    """Rows of segments without control codes or line ends."""
    row_by_row = [segment for row in rows for segment in (*row, Segment.line())]
    with console.capture() as captured:
        console.print(Segments(row_by_row), soft_wrap=True, end="")
    plain = ["".join(segment.text for segment in row) for row in rows]
    return [Line(ansi, text) for ansi, text in zip(captured.get().split("\n")[:-1], plain, strict=True)]
