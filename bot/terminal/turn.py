"""One turn on its way to the screen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from bot.events import Event, Failed, Finished, Retrieved, Token, Waiting
from bot.terminal.reply import ReplyText
from bot.terminal.waiting import WaitingLine

_THINKING = Waiting("ready", 0)


class Turn:
    """Shows the events of a turn made with this `stop`. What was shown stays, however the turn ends."""

    def __init__(self, waiting: WaitingLine, reply: ReplyText) -> None:
        self.stop = asyncio.Event()
        self.failed_search = False  # the documents could not be searched for it
        self._waiting = waiting
        self._reply = reply
        self._showing: asyncio.Task[Finished | Failed | None] | None = None
        self._abandoned = False

    def interrupt(self) -> None:
        """Stop the reply and keep it; the second time, do not even wait until it has stopped."""
        if self._showing is not None and self.stop.is_set():
            self._abandoned = True
            self._showing.cancel()
        self.stop.set()

    async def show(self, events: AsyncGenerator[Event]) -> Finished | Failed | None:
        """The event that ended the turn; None when it was abandoned. Raises what the first step of `events` raises."""
        self._showing = asyncio.create_task(self._show(events))
        try:
            return await self._showing
        except asyncio.CancelledError:
            if self._abandoned:
                return None
            raise

    async def _show(self, events: AsyncGenerator[Event]) -> Finished | Failed | None:
        self._waiting.show(_THINKING)
        try:
            async with aclosing(events):
                async for event in events:
                    match event:
                        case Waiting():
                            self._waiting.show(event)
                        case Retrieved(failed=failed):
                            self.failed_search = failed
                        case Token(text):
                            self._waiting.clear()
                            self._reply.feed(text)
                        case Finished() | Failed():
                            return event
        finally:
            self._waiting.clear()
            self._reply.close()
        return None
