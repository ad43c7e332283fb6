"""What is typed while a reply comes: kept for the next prompt, and not echoed into the reply."""

from __future__ import annotations

import os
import termios
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TextIO

from prompt_toolkit.input import Input
from prompt_toolkit.input.typeahead import get_typeahead, store_typeahead
from prompt_toolkit.key_binding import KeyPress
from prompt_toolkit.keys import Keys

from bot.terminal.endings import interrupts_to


class Typeahead:
    """Ctrl-C is passed on at once; every other key waits."""

    def __init__(self, keyboard: Input) -> None:
        self._keyboard = keyboard
        self._presses: list[KeyPress] = []

    @contextmanager
    def listening(self, interrupted: Callable[[], None]) -> Iterator[None]:
        """Take the keyboard until the block is left."""

        def take(presses: list[KeyPress]) -> None:
            for press in presses:
                if press.key is Keys.ControlC:
                    interrupted()
                else:
                    self._presses.append(press)

        def read() -> None:
            take(self._keyboard.read_keys())

        with interrupts_to(interrupted), self._keyboard.attach(read):
            take(get_typeahead(self._keyboard))
            yield

    def unechoed(self) -> AbstractContextManager[None]:
        """From now on nothing typed is echoed by the system, or acted upon by it: between two prompts neither."""
        return self._keyboard.raw_mode()

    def give_back(self) -> None:
        """Let the next prompt act on the keys as if they were pressed there, Enter included."""
        store_typeahead(self._keyboard, self._presses)
        self._presses = []

    def text(self) -> str:
        """The text that the keys make, for a person to look at before it is sent. Ctrl-D and the like mean nothing."""
        text = ""
        for press in self._presses:
            text = _with(press, text)
        self._presses = []
        return text.strip("\n")


def _with(press: KeyPress, text: str) -> str:
    match press.key:
        case Keys.BracketedPaste:
            return text + press.data.replace("\r\n", "\n").replace("\r", "\n")
        case Keys.ControlM | Keys.ControlJ:
            return text + "\n"
        case Keys.ControlH:
            return text[:-1]
        case Keys.ControlU:
            return ""
        case str(key) if len(key) == 1 and key.isprintable():
            return text + key
    return text


@contextmanager
def without_echo(screen: TextIO) -> Iterator[None]:
    """What is typed meanwhile does not show on the terminal that `screen` is, if it is one; the shell gets it later."""
    if not screen.isatty() or os.tcgetpgrp(screen.fileno()) != os.getpgrp():  # in the background, we may not
        yield
        return
    before = termios.tcgetattr(screen)
    silent = [*before]
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(screen, termios.TCSANOW, silent)
    try:
        yield
    finally:
        with suppress(termios.error):
            termios.tcsetattr(screen, termios.TCSANOW, before)
