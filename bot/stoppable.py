"""A stream that can be stopped from outside, at once, even while it waits for its next item."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

Item = TypeVar("Item")


async def arrivals(source: AsyncGenerator[Item], stop: asyncio.Event | None) -> AsyncGenerator[tuple[float, Item]]:
    """Each item of `source` with the time.monotonic() of its arrival, until the source ends or `stop` is set.

    Stopping reaches into whatever the source is waiting for, by a time limit that comes due at that moment. When this
    generator is left, in whichever way, the source has been closed. There is no task between source and reader, since
    a change of task for every token is what several replies at once would pay for.
    """
    async with aclosing(source):
        if stop is None:
            async for item in source:
                yield time.monotonic(), item
            return
        wait = _Wait()
        watching = asyncio.create_task(_end_on(stop, wait))
        try:
            while not stop.is_set():
                try:
                    async with asyncio.timeout(None) as wait.limit:
                        item = await anext(source)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    if stop.is_set():
                        return
                    raise
                finally:
                    wait.limit = None
                yield time.monotonic(), item
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


class _Wait:
    """The wait for the next item, while there is one."""

    limit: asyncio.Timeout | None = None


async def _end_on(stop: asyncio.Event, wait: _Wait) -> None:
    await stop.wait()
    if wait.limit is not None:
        wait.limit.reschedule(asyncio.get_running_loop().time())


async def unless_stopped(work: Callable[[], Awaitable[Item]], stop: asyncio.Event) -> Item | None:
    """What `work` comes to; None when `stop` is set first, and then it is cancelled."""

    async def alone() -> AsyncGenerator[Item]:
        yield await work()

    async with aclosing(arrivals(alone(), stop)) as results:
        async for _, result in results:
            return result
    return None
