"""Standard input that is not a terminal, read in a thread: Ctrl-C and the end of the program need not wait for it.

NotText    what was read is not UTF-8 text
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

_CHUNK = 65536  # bytes


class NotText(Exception):
    """The input is binary, or in another encoding than UTF-8."""


async def read_all(descriptor: int, limit: int) -> str:
    """All that can be read, or its first `limit` bytes and a little more. Raises NotText."""
    read = bytearray()
    async for chunk in _chunks(descriptor):
        read += chunk
        if len(read) > limit:
            return _text(bytes(read), errors="ignore")
    return _text(bytes(read))


async def read_lines(descriptor: int) -> AsyncIterator[str]:
    """Each line, without its end. Raises NotText."""
    rest = b""
    async for chunk in _chunks(descriptor):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield _text(line.removesuffix(b"\r"))
    if rest:
        yield _text(rest)


async def _chunks(descriptor: int) -> AsyncIterator[bytes]:
    """The next chunk is read only when this one has been used."""
    loop = asyncio.get_running_loop()
    while chunk := await _in_a_thread(loop, lambda: os.read(descriptor, _CHUNK)):
        yield chunk


async def _in_a_thread(loop: asyncio.AbstractEventLoop, read: Callable[[], bytes]) -> bytes:
    """As asyncio.to_thread, but a read that never ends does not keep the program from ending."""
    done: asyncio.Future[bytes] = loop.create_future()

    def settle(result: bytes | OSError) -> None:
        if done.cancelled():
            return
        if isinstance(result, OSError):
            done.set_exception(result)
        else:
            done.set_result(result)

    def run() -> None:
        result: bytes | OSError
        try:
            result = read()
        except OSError as error:
            result = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result)

    threading.Thread(target=run, daemon=True).start()
    return await done


def _text(data: bytes, errors: str = "strict") -> str:
    if b"\0" in data:
        raise NotText
    try:
        return data.decode("utf-8-sig", errors)
    except UnicodeDecodeError:
        raise NotText from None
