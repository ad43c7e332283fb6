"""One reply as it appears in a chat: growing, then final.

In private chats the growing text is a draft (sendMessageDraft), which a message takes the place of when it is done.
Elsewhere, and where a server knows no drafts, it is a message that is edited. A long reply fills several messages; all
but the last are sent as they fill up.

What is shown while it grows is cosmetic: it is paced by time, always made from the newest text, and given up when
Telegram asks for a pause. No such update is under way any more when the final one is sent, so that none overtakes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from telegram import InlineKeyboardMarkup
from telegram.error import BadRequest, InvalidToken, NetworkError, RetryAfter, TelegramError

from bot.telegram.outgoing import Gone, Outgoing
from bot.telegram.rendering import Part, followed_by, plain, render

log = logging.getLogger("familiar.telegram")

DRAFT_RENEWED_S = 20.0  # a draft lives for 30
SLOWEST_PACE = 8  # times the usual interval, while Telegram keeps asking for pauses


@dataclass(frozen=True)
class Spot:
    """Where in Telegram something is said."""

    chat_id: int
    thread_id: int | None = None
    reply_to: int | None = None


@dataclass
class Drafts:
    """Whether this server knows drafts; what one reply finds out holds for all that follow."""

    known: bool = True


@dataclass
class Shown:
    message_id: int
    part: Part | None = None  # None while not known
    keyboard: InlineKeyboardMarkup | None = None


@dataclass
class View:
    """`draft_id` asks for a draft; None for a message that is edited. `shown` are messages that this reply takes the
    place of: those of another reply, or of itself before a restart. `posted` is told the ids of the messages whenever
    there are more of them. `stop_button` stands under a message that grows."""

    out: Outgoing
    spot: Spot
    interval_s: float
    stop_button: InlineKeyboardMarkup
    drafts: Drafts
    draft_id: int | None = None
    draft_interval_s: float = 1.0
    shown: Sequence[int] = ()
    posted: Callable[[list[int]], Awaitable[None]] | None = None
    messages: list[Shown] = field(init=False)
    _status: str = ""
    _text: str = ""
    _dirty: asyncio.Event = field(default_factory=asyncio.Event)
    _over: asyncio.Event = field(default_factory=asyncio.Event)
    _showing: asyncio.Task[None] | None = None
    _draft: Part | None = None

    def __post_init__(self) -> None:
        self.messages = [Shown(message_id) for message_id in self.shown]

    def status(self, text: str) -> None:
        """What is being waited for, shown until the reply begins. "" is a mere sign of life."""
        self._status = text
        self._begin()

    def grow(self, markdown: str) -> None:
        """The reply as far as it has come."""
        self._text = markdown
        self._begin()

    async def finish(
        self, markdown: str, keyboard: InlineKeyboardMarkup | None, under: Part | None = None
    ) -> list[int]:
        """Show the whole reply for good, `under` below its text, and return the ids of its messages, the first first.

        Raises Gone, Undelivered, TelegramError.
        """
        await self.stop()
        parts = render(markdown)
        if under is not None:
            parts = followed_by(parts, under)
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            await self._put(index, part, keyboard if last else None, final=True, noted=not last)
        for surplus in self.messages[len(parts) :]:
            await self.out.remove(self.spot.chat_id, surplus.message_id)
        del self.messages[len(parts) :]
        return [message.message_id for message in self.messages]

    async def withdraw(self) -> None:
        """Take back what is shown; a draft goes by itself."""
        await self.stop()
        for message in self.messages:
            await self.out.remove(self.spot.chat_id, message.message_id)
        self.messages = []

    async def stop(self) -> None:
        """Show nothing more of what is growing; what is on its way has arrived when this returns."""
        self._over.set()
        self._dirty.set()
        if self._showing is not None:
            self.out.withdraw_cosmetic(self.spot.chat_id)
            await asyncio.gather(self._showing, return_exceptions=True)

    def _begin(self) -> None:
        self._dirty.set()
        if self._showing is None:
            self._showing = asyncio.create_task(self._show_growing())

    async def _show_growing(self) -> None:
        pace = 1.0
        while not self._over.is_set():
            pause_s = 0.0
            try:
                await self._show_once()
                pace = max(1.0, pace / 2)
            except RetryAfter as error:
                pause_s = seconds_of(error)
                pace = min(SLOWEST_PACE, pace * 2)
            except (Gone, TelegramError) as error:  # the final text is what must arrive, and it will tell
                log.info("an update of a growing reply was not shown: %s", error)
                pace = min(SLOWEST_PACE, pace * 2)
            interval_s = self.draft_interval_s if self.drafting else self.interval_s
            await self._pause(max(pause_s, interval_s * pace))
            if not self._dirty.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._dirty.wait(), DRAFT_RENEWED_S if self.drafting else None)

    async def _pause(self, seconds: float) -> None:
        """Cut short by the end of the reply."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), seconds)

    @property
    def drafting(self) -> bool:
        return self.draft_id is not None and self.drafts.known

    async def _show_once(self) -> None:
        self._dirty.clear()
        parts = render(self._text, unfinished=True) or plain(self._status)
        for index, part in enumerate(parts[:-1]):
            await self._put(index, part, None)
        if self._over.is_set():
            return
        last = len(parts) - 1
        if self.drafting and len(self.messages) <= max(last, 0):
            await self._put_draft(parts[last] if parts else Part("", ()))
        elif parts:
            await self._put(last, parts[last], self.stop_button)

    async def _put(
        self,
        index: int,
        part: Part,
        keyboard: InlineKeyboardMarkup | None,
        *,
        final: bool = False,
        noted: bool = True,
    ) -> None:
        """Let message number `index` of this reply show this; `noted`: there is more to come, if nothing intervenes."""
        if index < len(self.messages):
            message = self.messages[index]
            if _same(message.part, part) and message.keyboard == keyboard:
                return
            there = await self.out.edit(
                self.spot.chat_id,
                message.message_id,
                part,
                keyboard=keyboard,
                priority="final" if final else "cosmetic",
                patient=final,
            )
            if there:
                message.part, message.keyboard = part, keyboard
                return
            # Deleted by the person; what follows is said anew, so that the order holds.
            following, self.messages[index:] = self.messages[index + 1 :], []
            for message in following:
                await self.out.remove(self.spot.chat_id, message.message_id)
        message_id = await self.out.say(
            self.spot.chat_id,
            part,
            thread_id=self.spot.thread_id,
            reply_to=self.spot.reply_to if index == 0 else None,
            keyboard=keyboard,
            priority="final" if final else "normal",
            patient=final,
        )
        self.messages.append(Shown(message_id, part, keyboard))
        if self.posted is not None and noted:
            await self.posted([message.message_id for message in self.messages])

    async def _put_draft(self, part: Part) -> None:
        assert self.draft_id is not None
        try:
            await self.out.bot.send_message_draft(
                self.spot.chat_id,
                self.draft_id,
                part.text,
                message_thread_id=self.spot.thread_id,
                entities=part.entities or None,
                api_kwargs={"can_stop": True, "keep_on_stop": True},
                rate_limit_args="cosmetic",
            )
        except (NetworkError, InvalidToken) as error:
            if isinstance(error, NetworkError) and not isinstance(error, BadRequest):
                raise
            # A server that does not know the method answers 404, which the library takes for a wrong token.
            if isinstance(error, BadRequest) and "entit" in str(error).lower() and part.entities:
                await self._put_draft(Part(part.text, ()))
                return
            if not part.text:  # a server older than the empty draft, which stands for "Thinking…"
                return
            log.info("no drafts here, replies are edited instead: %s", error)
            self.drafts.known = False
            await self._show_once()


def _same(shown: Part | None, part: Part) -> bool:
    """The library's entities are equal also when their language or address differs."""
    if shown is None or shown.text != part.text:
        return False
    return [each.to_dict() for each in shown.entities] == [each.to_dict() for each in part.entities]


def seconds_of(error: RetryAfter) -> float:
    wait = error.retry_after
    return wait.total_seconds() if isinstance(wait, timedelta) else float(wait)
