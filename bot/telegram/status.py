"""One message about something that takes long: it says how far that is, and at its end what came of it.

It is edited at a pace, always to the newest words, and given up for a while when Telegram asks for a pause. After a
restart the same message is used again: which one it is stands in the arrival's progress.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from telegram import InlineKeyboardMarkup
from telegram.error import RetryAfter, TelegramError

from bot.telegram.inbox import InboxQueue
from bot.telegram.outgoing import Gone
from bot.telegram.rendering import plain
from bot.telegram.view import seconds_of
from bot.telegram.visit import Visit

log = logging.getLogger("familiar.telegram")


class Status:
    """`keyboard` stands under the message until the end."""

    def __init__(
        self, visit: Visit, inbox: InboxQueue, interval_s: float, keyboard: InlineKeyboardMarkup | None = None
    ) -> None:
        self._visit = visit
        self._inbox = inbox
        self._interval_s = interval_s
        self._keyboard = keyboard
        self._message_id = 0
        self._shown = ""
        self._newest = ""
        self._changed = asyncio.Event()
        self._over = asyncio.Event()
        self._showing: asyncio.Task[None] | None = None

    async def begin(self, text: str) -> None:
        """Raises Gone, Undelivered, TelegramError, as `end` and `withdraw` do."""
        visit, arrival = self._visit, self._visit.arrivals[0]
        self._message_id = arrival.progress.get("status", 0)
        if not self._message_id or not await self._edited(text, self._keyboard):
            self._message_id = await visit.say(text, self._keyboard)
            await self._inbox.note(arrival, status=self._message_id)
        self._shown = text
        self._showing = asyncio.create_task(self._keep_showing())

    def show(self, text: str) -> None:
        """The newest words, to be shown when it is time."""
        self._newest = text
        self._changed.set()

    async def end(self, text: str) -> None:
        """The last words; none of the earlier ones is under way any more when they are sent."""
        await self._stop()
        if not await self._edited(text, None):
            await self._visit.say(text)

    async def withdraw(self) -> None:
        """Take the message back."""
        await self._stop()
        await self._visit.out.remove(self._visit.spot.chat_id, self._message_id)

    def close(self) -> None:
        """Show nothing more, and leave the message as it is."""
        if self._showing is not None:
            self._showing.cancel()

    async def _stop(self) -> None:
        self._over.set()
        self._changed.set()
        if self._showing is not None:
            await asyncio.gather(self._showing, return_exceptions=True)

    async def _keep_showing(self) -> None:
        while not self._over.is_set():
            await self._changed.wait()
            self._changed.clear()
            pause_s = self._interval_s
            try:
                await self._show()
            except RetryAfter as error:
                pause_s = max(pause_s, seconds_of(error))
                self._changed.set()
            except (Gone, TelegramError) as error:  # the last words are what must arrive, and they will tell
                log.info("a status was not shown: %s", error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), pause_s)

    async def _show(self) -> None:
        text = self._newest
        if self._over.is_set() or text == self._shown:
            return
        await self._edited(text, self._keyboard, patient=False)
        self._shown = text

    async def _edited(self, text: str, keyboard: InlineKeyboardMarkup | None, *, patient: bool = True) -> bool:
        """False when the message is no longer there."""
        return await self._visit.out.edit(
            self._visit.spot.chat_id,
            self._message_id,
            plain(text)[0],
            keyboard=keyboard,
            priority="normal" if patient else "cosmetic",
            patient=patient,
        )
