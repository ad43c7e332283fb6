"""A terminal for programs under test: a pseudo-terminal whose other end is a screen that can be read.

    async with Terminal([sys.executable, "-m", "…"], columns=80, rows=24) as terminal:
        await terminal.shows("›")
        terminal.types("hello\\r")

Nothing sleeps: `shows` looks again whenever the program has written something.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import struct
import termios
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import pyte

from tests.fakes.vllm import eventually

REPOSITORY = Path(__file__).resolve().parents[3]
LONGEST_S = 30.0  # bounds what must happen; never decides a test that passes


class Screen(pyte.HistoryScreen):
    """With a scrollback that can be read as text, and answers to the questions that a program asks its terminal."""

    def __init__(self, columns: int, rows: int, answer: Callable[[str], None] = lambda _: None) -> None:
        super().__init__(columns, rows, history=100_000, ratio=0.5)
        self._answer = answer

    def write_process_input(self, data: str) -> None:
        self._answer(data)

    def visible(self) -> str:
        return "\n".join(line.rstrip() for line in self.display).rstrip()

    def everything(self) -> str:
        """The scrollback and what is visible."""
        above = ("".join(row[column].data for column in range(self.columns)) for row in self.history.top)
        return "\n".join([*(line.rstrip() for line in above), *(line.rstrip() for line in self.display)]).rstrip()


class Terminal:
    def __init__(
        self,
        command: Sequence[str],
        *,
        columns: int = 80,
        rows: int = 24,
        environment: Mapping[str, str] | None = None,
        longest_s: float = LONGEST_S,
    ) -> None:
        self.screen = Screen(columns, rows, self.types)
        self._command = command
        self._environment = environment or {}
        self._longest_s = longest_s
        self._stream = pyte.ByteStream(self.screen)
        self._written = asyncio.Event()
        self.raw = b""

    async def __aenter__(self) -> Self:
        self._descriptor, theirs = pty.openpty()
        self._set_size()
        os.set_blocking(self._descriptor, False)
        plain = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS", "LINES"}}
        fixed = {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "PYTHONPATH": str(REPOSITORY)}
        self.process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=plain | fixed | self._environment,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(theirs, termios.TIOCSCTTY, 0) and None,
        )
        os.close(theirs)
        asyncio.get_running_loop().add_reader(self._descriptor, self._read)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.hang_up()
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    def types(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    def pastes(self, text: str) -> None:
        self.types(f"\x1b[200~{text}\x1b[201~")

    def resizes(self, columns: int, rows: int) -> None:
        self.screen.resize(rows, columns)
        self._set_size()

    def hang_up(self) -> None:
        """Close the window."""
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    async def shows(self, *texts: str) -> None:
        """Wait until all of these are visible."""
        await self.until(lambda: all(text in self.screen.visible() for text in texts))

    async def asks(self) -> None:
        """Wait until the cursor stands in the line of input, and keys are no longer echoed by the system."""
        await self.until(lambda: self.screen.display[self.screen.cursor.y].startswith("›"))
        await eventually(lambda: not self.echoes())

    def echoes(self) -> bool:
        """Does the system show what is typed?"""
        return bool(termios.tcgetattr(self._descriptor)[3] & termios.ECHO)

    async def until(self, condition: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(self._longest_s):
                while not condition():
                    self._written.clear()
                    await self._written.wait()
        except TimeoutError:
            raise AssertionError(f"never shown; the screen is\n{self.screen.everything()}") from None

    async def exit_code(self) -> int:
        async with asyncio.timeout(self._longest_s):
            return await self.process.wait()

    def _set_size(self) -> None:
        size = struct.pack("HHHH", self.screen.lines, self.screen.columns, 0, 0)
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, size)

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:  # the program has ended
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._descriptor)
        self.raw += data
        self._stream.feed(data)
        self._written.set()
