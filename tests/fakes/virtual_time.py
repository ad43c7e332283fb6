"""An event loop on which waiting takes no time.

Its clock starts at 0 and jumps to the next timer whenever nothing else is left to do, so hours pass in milliseconds and
in the same way on every machine. For code that waits by the event loop's own clock and uses no network.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class _Clock(selectors.DefaultSelector):
    """The selector tells the loop how long nothing happened, so here is where the time is made."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise AssertionError("everybody waits, and for nothing: this would hang for ever")
        happened = super().select(0)
        if not happened:
            self.now += max(timeout, 0.0)
        return happened


def in_virtual_time(scenario: Coroutine[Any, Any, Result]) -> Result:
    """Run it to its end. `asyncio.get_running_loop().time()` is the seconds since it began."""
    with asyncio.Runner(loop_factory=_loop) as runner:
        return runner.run(scenario)


def _loop() -> asyncio.AbstractEventLoop:
    clock = _Clock()
    loop = asyncio.SelectorEventLoop(clock)
    loop.time = lambda: clock.now  # type: ignore[method-assign]
    return loop
