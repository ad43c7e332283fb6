"""Who goes next when more people want a reply than the engine should work on at once.

Waiting people are served in turn (round-robin), the requests of one person in the order in which they came. So whoever
sends fifty requests at once delays the next person by one request, not by fifty.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class FairQueue:
    """`slots` places, lent one at a time. Belongs to one event loop."""

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()  # the first person is served next

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot."""
        return sum(len(line) for line in self._lines.values())

    @asynccontextmanager
    async def slot(self, person: str) -> AsyncIterator[None]:
        """Wait for this person's turn and hold a slot for the body. Cancelling either loses no slot."""
        await self._take(person)
        try:
            yield
        finally:
            self._pass_on()

    async def _take(self, person: str) -> None:
        if self._free:  # then nobody waits: a slot given back goes to a waiter first
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._lines.setdefault(person, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._leave(person, turn)
            else:  # the slot came in the same moment as the cancellation
                self._pass_on()
            raise

    def _leave(self, person: str, turn: asyncio.Future[None]) -> None:
        line = self._lines.get(person, deque())
        if turn in line:  # not, if its turn came between its cancellation and now
            line.remove(turn)
            if not line:
                del self._lines[person]

    def _pass_on(self) -> None:
        while self._lines:
            person, line = self._lines.popitem(last=False)
            while line:
                turn = line.popleft()
                if turn.done():  # cancelled, and not yet gone from the line
                    continue
                if line:
                    self._lines[person] = line  # behind everybody else
                turn.set_result(None)
                return
        self._free += 1
