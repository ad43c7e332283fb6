"""What is shown while the engine starts or thinks: one row that is rewritten, or plain lines without a terminal."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Protocol, TextIO

from rich.cells import set_cell_size
from rich.console import Console
from rich.text import Text

from bot.events import Waiting
from bot.terminal.lines import text_lines
from bot.terminal.region import Region
from bot.terminal.stream import printable
from bot.texts import Texts

_FIRST_AFTER_S = 0.3  # a reply that begins sooner is not announced
_EVERY_S = 0.5


class WaitingLine(Protocol):
    def show(self, waiting: Waiting) -> None: ...
    def clear(self) -> None: ...


class LiveWaiting:
    """One row, whose seconds count on between two events. `clear` leaves nothing of it."""

    def __init__(self, console: Console, region: Region, texts: Texts) -> None:
        self._console = console
        self._region = region
        self._texts = texts
        self._waiting: Waiting | None = None
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def show(self, waiting: Waiting) -> None:
        loop = asyncio.get_running_loop()
        self._waiting, self._since = waiting, loop.time()
        if self._timer is None:
            self._timer = loop.call_later(_FIRST_AFTER_S, self._draw)

    def clear(self) -> None:
        if self._waiting is None or self._timer is None:
            return
        self._timer.cancel()
        self._timer = self._waiting = None
        self._region.close()

    def _draw(self) -> None:
        if self._waiting is None:
            return
        loop = asyncio.get_running_loop()
        now = replace(self._waiting, seconds=self._waiting.seconds + loop.time() - self._since)
        first_line = printable(self._texts.waiting(now)).partition("\n")[0]
        width = self._region.size().columns
        row = set_cell_size(first_line, width).rstrip()
        self._region.update(text_lines(Text(row, style="dim"), self._console, width))
        self._timer = loop.call_later(_EVERY_S, self._draw)


class PlainWaiting:
    """One line for each phase of the engine; nothing while it only thinks."""

    def __init__(self, out: TextIO, texts: Texts) -> None:
        self._out = out
        self._texts = texts
        self._phase = "ready"

    def show(self, waiting: Waiting) -> None:
        if waiting.phase != self._phase and waiting.phase != "ready":
            self._out.write(f"{self._texts.waiting(waiting)}\n")
            self._out.flush()
        self._phase = waiting.phase

    def clear(self) -> None:
        self._phase = "ready"
