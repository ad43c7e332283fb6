"""A stream that can be stopped from outside, at once, even while it waits for its next item."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

Item = TypeVar("Item")


async def arrivals(source: AsyncGenerator[Item], stop: asyncio.Event | None) -> AsyncGenerator[tuple[float, Item]]:
    """Each item of `source` with the time.monotonic() of its arrival, until the source ends or `stop` is set.

    The source is read in a task of its own: a reader that is slow to show an item does not delay the next one, and
    stopping reaches into whatever the source is waiting for. Items that were not handed out by then are dropped. When
    this generator is left, in whichever way, the source has been closed.
    """
    stop = stop or asyncio.Event()
    items: asyncio.Queue[tuple[float, Item] | None] = asyncio.Queue()  # None: there is no more

    async def read() -> None:
        try:
            async with aclosing(source):
                async for item in source:
                    items.put_nowait((time.monotonic(), item))
        finally:
            items.put_nowait(None)

    async def watch() -> None:
        await stop.wait()
        items.put_nowait(None)

    reading = asyncio.create_task(read())
    watching = asyncio.create_task(watch())
    try:
        while (arrived := await items.get()) is not None and not stop.is_set():
            yield arrived
        if not stop.is_set():
            await reading  # raises what the source raised
    finally:
        reading.cancel()
        watching.cancel()
        await asyncio.gather(reading, watching, return_exceptions=True)
