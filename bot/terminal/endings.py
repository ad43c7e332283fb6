"""The ways in which a program at a terminal ends early: Ctrl-C, a signal, a closed window, a reader that went away."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

# Exit codes, as shells give them.
STOPPED = 128 + signal.SIGINT
CLOSED_PIPE = 128 + signal.SIGPIPE


async def until_ended(work: Coroutine[Any, Any, int]) -> int:
    """The exit code of `work`, or that of what ended it.

    SIGTERM and SIGHUP cancel it, so that the terminal is restored and what was shown is logged. When nobody reads the
    output any more, it ends without a word.
    """
    task = asyncio.ensure_future(work)
    received: list[int] = []

    def end(number: int) -> None:
        received.append(number)
        task.cancel()

    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, end, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not received:
            raise
    except BrokenPipeError:
        # Python would complain at its end about what it could not write.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except OSError as error:
        if error.errno != errno.EIO or not received:  # the window of the terminal was closed
            raise
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
    return 128 + received[0]


@contextmanager
def interrupts_to(interrupted: Callable[[], None]) -> Iterator[None]:
    """SIGINT calls `interrupted` instead of whatever it did before, until the block is left."""
    before = signal.getsignal(signal.SIGINT)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
