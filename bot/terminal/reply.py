"""A reply on its way to the screen: drawn as markdown in a terminal, passed on as it comes anywhere else."""

from __future__ import annotations

import asyncio
from typing import Protocol, TextIO

from rich.console import Console

from bot.terminal.region import Region
from bot.terminal.stream import MarkdownStream, printable

_SHORTEST_PAUSE_S = 0.1
_SHARE_OF_A_CORE = 0.05  # the model computes on the same cores


class ReplyText(Protocol):
    """Where the text of a reply goes."""

    def feed(self, text: str) -> None: ...
    def close(self) -> None: ...


class DrawnReply:
    """Markdown, brought up to date at most ten times a second, and less often where drawing it takes long."""

    def __init__(self, console: Console, region: Region) -> None:
        self._stream = MarkdownStream(console, region)
        self._timer: asyncio.TimerHandle | None = None
        self._not_before = 0.0

    def feed(self, text: str) -> None:
        self._stream.feed(text)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(self._not_before, loop.time()), self._draw)

    def close(self) -> None:
        """Draw what is left, for good."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._stream.finish()

    def _draw(self) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        self._stream.draw()
        ended = clock()
        self._not_before = ended + max(_SHORTEST_PAUSE_S, (ended - began) / _SHARE_OF_A_CORE)
        self._timer = None


class PlainReply:
    """The text itself. `terminal`: a terminal that knows no escape sequences, and must not be sent any."""

    def __init__(self, out: TextIO, *, terminal: bool = False) -> None:
        self._out = out
        self._terminal = terminal
        self._last = ""

    def feed(self, text: str) -> None:
        self._write(printable(text) if self._terminal else text)

    def close(self) -> None:
        """End the last line, if it is not ended."""
        if self._last and self._last != "\n":
            self._write("\n")
        self._last = ""

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
        self._last = text[-1:] or self._last


class NoReply:
    """For who wants the whole of it at the end."""

    def feed(self, text: str) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Nothing was shown."""
