"""The order in which updates are handled: those of one chat one after the other, those of different chats at once.

Some overtake: a stop must reach the reply that holds up its chat. Some go beside: a rating need not wait for the next
reply, only for the rating before it.
The pieces of a long text, which a client splits, become one: the first waits for the rest before its handling begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from telegram import Message, Update
from telegram.ext import BaseUpdateProcessor

from bot.telegram.inbox import Arrival, InboxQueue

log = logging.getLogger("familiar.telegram")

ANY_NUMBER = 1_000_000  # of updates at once: what waits in one chat must not keep the others from beginning
CLIENT_SPLITS_FROM = 4000  # characters; clients split at 4096, a little earlier where there is a space
CLOCK_STEP_S = 1.0  # messages carry their time in whole seconds
LONGEST_JOINED = 1_000_000  # characters
FULL_UNITS = 4095  # UTF-16 code units; a piece this long was cut wherever it was full, a shorter one at white space

Lane = tuple[int, int, bool]  # chat, thread, whether beside


@dataclass
class _Group:
    """One update, or the pieces of one text."""

    arrivals: list[Arrival]
    open: bool = True  # further pieces may join
    grew: asyncio.Event = field(default_factory=asyncio.Event)
    finished: asyncio.Event = field(default_factory=asyncio.Event)


def gap_after(piece: str) -> str:
    """What stood between this piece of a text and the next. Telegram takes white space off the ends of a message."""
    return "" if len(piece.encode("utf-16-le", "surrogatepass")) // 2 >= FULL_UNITS else "\n"


class Lanes(BaseUpdateProcessor):
    """`wait_s` and `long_wait_s`: how long a text waits for its next piece, and after a piece of full length."""

    def __init__(
        self,
        inbox: InboxQueue,
        overtakes: Callable[[Update], bool],
        goes_beside: Callable[[Update], bool],
        *,
        wait_s: float,
        long_wait_s: float,
    ) -> None:
        super().__init__(ANY_NUMBER)
        self._inbox = inbox
        self._overtakes = overtakes
        self._goes_beside = goes_beside
        self._wait_s = wait_s
        self._long_wait_s = long_wait_s
        self._tails: dict[Lane, _Group] = {}
        self._groups: dict[int, _Group] = {}  # by the id of the update that is handled
        self._running: set[asyncio.Task[Any]] = set()
        self._closing = False

    async def initialize(self) -> None:
        pass

    async def shutdown(self) -> None:
        pass

    def pieces(self, update: Update) -> list[Arrival]:
        """The update that is being handled, and those that joined it."""
        group = self._groups.get(update.update_id)
        return group.arrivals if group else [self._inbox.arrival(update)]

    @property
    def closing(self) -> bool:
        """Whether what can be left for after the next start should be."""
        return self._closing

    async def close(self, grace_s: float) -> None:
        """Begin nothing more, give what is running so long to end, then cancel it. The rest stays in the inbox."""
        self._closing = True
        if self._running:
            await asyncio.wait(self._running, timeout=grace_s)
        for task in self._running:
            task.cancel()

    async def do_process_update(self, update: object, coroutine: Awaitable[Any]) -> None:
        assert isinstance(update, Update), "the inbox lets nothing else through"
        arrival = self._inbox.arrival(update)
        if self._overtakes(update):
            await self._handle(_Group([arrival], open=False), coroutine)
            return
        lane = _lane_of(update, beside=self._goes_beside(update))
        before = self._tails.get(lane)
        if before is not None and before.open and self._belongs(before, arrival):
            before.arrivals.append(arrival)
            before.grew.set()
            _discard(coroutine)
            await before.finished.wait()
            return
        group = self._tails[lane] = _Group([arrival], open=_may_go_on(update))
        try:
            if before is not None:
                await before.finished.wait()
            await self._complete(group)
            await self._handle(group, coroutine)
        finally:
            group.finished.set()
            if self._tails.get(lane) is group:
                del self._tails[lane]

    async def _handle(self, group: _Group, coroutine: Awaitable[Any]) -> None:
        if self._closing:
            _discard(coroutine)
            return
        if group.arrivals[0].dropped:
            _discard(coroutine)
            await self._inbox.done(group.arrivals)
            return
        task = asyncio.current_task()
        assert task is not None
        update_id = group.arrivals[0].update.update_id
        self._running.add(task)
        self._groups[update_id] = group
        try:
            await coroutine
        except asyncio.CancelledError:
            if not self._closing:
                raise
            log.info("the handling of update %s was cut short; it goes on after the next start", update_id)
        else:
            await self._inbox.done(group.arrivals)
        finally:
            self._running.discard(task)
            del self._groups[update_id]

    async def _complete(self, group: _Group) -> None:
        """Wait until no further piece can come."""
        await asyncio.sleep(0)  # after a restart, pieces that came long ago are right behind
        while group.open:
            last = group.arrivals[-1]
            group.grew.clear()
            remaining = last.received_at + self._wait_after(last) - time.time()
            if remaining <= 0 or self._closing:
                group.open = False
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(group.grew.wait(), remaining)

    def _belongs(self, group: _Group, arrival: Arrival) -> bool:
        first, last = group.arrivals[0], group.arrivals[-1]
        if arrival.message_id != last.message_id or not _continues(last.update, arrival.update):
            return False
        if _sender(first.update) != _sender(arrival.update):
            return False
        if arrival.message_id is not None:  # they were one before the restart
            return True
        if _written_apart_s(last.update, arrival.update) > self._wait_after(last) + CLOCK_STEP_S:
            return False  # they only came together, as after a time in which nobody received
        length = len(_text_of(arrival.update)) + sum(len(_text_of(each.update)) for each in group.arrivals)
        return arrival.received_at - last.received_at <= self._wait_after(last) and length <= LONGEST_JOINED

    def _wait_after(self, piece: Arrival) -> float:
        return self._long_wait_s if len(_text_of(piece.update)) >= CLIENT_SPLITS_FROM else self._wait_s


def _text_of(update: Update) -> str:
    """The text of a new message; "" for everything else."""
    return (update.message.text or "") if update.message else ""


def _is_command(text: str) -> bool:
    return text.startswith("/")


def _may_go_on(update: Update) -> bool:
    """May further pieces of this text come? Those of a command only when it fills its message, as a correction may.

    Photos that are sent together are pieces, too.
    """
    text = _text_of(update)
    if _album_of(update):
        return True
    return len(text) >= CLIENT_SPLITS_FROM if _is_command(text) else bool(text)


def _continues(last: Update, update: Update) -> bool:
    text, album = _text_of(update), _album_of(update)
    return album == _album_of(last) and (bool(album) or (bool(text) and not _is_command(text)))


def _album_of(update: Update) -> str:
    """What photos that were sent together have in common; "" for everything else."""
    message = update.message
    return (message.media_group_id or "") if message is not None and message.photo else ""


def _written_apart_s(last: Update, update: Update) -> float:
    if last.message is None or update.message is None:
        return 0.0
    return (update.message.date - last.message.date).total_seconds()


def _sender(update: Update) -> int | None:
    return update.effective_user.id if update.effective_user else None


def _lane_of(update: Update, *, beside: bool) -> Lane:
    message = update.effective_message
    thread = message.message_thread_id if isinstance(message, Message) and message.is_topic_message else None
    return (update.effective_chat.id if update.effective_chat else 0, thread or 0, beside)


def _discard(coroutine: Awaitable[Any]) -> None:
    """Close a coroutine that will not run, so that Python does not warn of it."""
    if asyncio.iscoroutine(coroutine):
        coroutine.close()
