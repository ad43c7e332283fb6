"""Where everything is shown: a terminal that can draw, one that cannot (TERM=dumb), or a pipe or file."""

from __future__ import annotations

import os
from io import TextIOWrapper
from typing import TextIO

from rich.console import RenderableType
from rich.text import Text

from bot.errors import ChatError
from bot.events import Failed
from bot.terminal.lines import terminal_console, text_lines
from bot.terminal.markdown import render
from bot.terminal.region import Region, Size
from bot.terminal.reply import DrawnReply, PlainReply, ReplyText
from bot.terminal.stream import printable
from bot.terminal.turn import Turn
from bot.terminal.waiting import LiveWaiting, PlainWaiting, WaitingLine
from bot.texts import Texts


def is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def can_draw(stream: TextIO | None) -> bool:
    """Does it understand escape sequences?"""
    return is_terminal(stream) and os.environ.get("TERM", "").lower() not in {"dumb", "unknown"}


class Screen:
    """`out` shows what was asked for; `err` what goes wrong and what is waited for, unless both are one terminal."""

    def __init__(self, out: TextIO, err: TextIO, texts: Texts) -> None:
        self.out = out
        self.texts = texts
        self._err = err
        self._draws = can_draw(out)
        for stream in (out, err):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="replace")  # a terminal that is not UTF-8 shows what it can
        self._console = terminal_console(out, terminal=self._draws)
        self._region = Region(out, lambda: _size_of(out))

    @property
    def is_terminal(self) -> bool:
        return is_terminal(self.out)

    def turn(self) -> Turn:
        """For one turn. That the engine starts is told here if it is a terminal, else beside."""
        return Turn(self.waiting(self.out if self.is_terminal else self._err), self.reply())

    def reply(self) -> ReplyText:
        if self._draws:
            return DrawnReply(self._console, self._region)
        return PlainReply(self.out, terminal=self.is_terminal)

    def waiting(self, on: TextIO) -> WaitingLine:
        if not can_draw(on):
            return PlainWaiting(on, self.texts)
        if on is self.out:
            return LiveWaiting(self._console, self._region, self.texts)
        return LiveWaiting(terminal_console(on, terminal=True), Region(on, lambda: _size_of(on)), self.texts)

    def say(self, text: str, style: str = "") -> None:
        """Words of Familiar's own, or the person's."""
        self.show(Text(printable(text), style=style))

    def aside(self, text: str) -> None:
        """About a reply; programs that read us get the replies alone."""
        if self.is_terminal:
            self.say(text, "dim")

    def problem(self, what: Failed | ChatError) -> None:
        self.warn(self.texts.problem(what))

    def warn(self, text: str) -> None:
        """What went wrong and what to do; beside the replies, not among them, where these go to a pipe or file."""
        if self.is_terminal:
            self.say(text, "red")
            return
        self._err.write(f"{text}\n")
        self._err.flush()

    def show(self, what: RenderableType) -> None:
        if isinstance(what, Text) and self._draws:
            self._region.close(text_lines(what, self._console, self._region.size().columns))
            return
        self._console.print(what, soft_wrap=isinstance(what, Text))

    def markdown(self, text: str) -> None:
        """A reply from before, as it looked when it came."""
        if self._draws:
            self._region.close(render(printable(text), self._console, self._region.size().columns))
            return
        self._console.print(Text(printable(text)), soft_wrap=True)

    def space(self) -> None:
        """An empty line, to part one thing from the next; programs that read us need none."""
        if self.is_terminal:
            self.say("")


def _size_of(stream: TextIO) -> Size:
    try:
        columns, rows = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        columns = rows = 0
    return Size(columns or 80, rows or 24)  # a terminal that nobody has given a size says 0
