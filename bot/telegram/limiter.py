"""Which call to Telegram goes next, and when.

Telegram takes about one message a second in a chat, 20 a minute in a group and 30 a second from one bot. Who sends
more is answered 429 with a time to wait. So the calls of a chat stand in a line of their own, ordered by priority and
then by arrival, and the heads of the lines whose chat may take one share the bot's budget: by priority, then chat by
chat.

    final       what a person waits for: sent before all else
    normal      everything that names no priority
    cosmetic    updates while a reply streams. They leave room for the final call, and they raise RetryAfter at once
                when the chat is flooded: by the time it is not, there is something newer to show

A 429 silences its own chat alone; final and normal calls are made again afterwards. No call is made again after a
network error, since a send whose answer was lost may have arrived.

A chat that nobody waits for is forgotten as soon as its limits are whole again.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import insort
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine
from datetime import timedelta
from itertools import count
from math import ceil
from typing import Any, Literal

from telegram.error import RetryAfter
from telegram.ext import BaseRateLimiter

log = logging.getLogger("familiar.telegram")

Priority = Literal["final", "normal", "cosmetic"]
ChatKey = int | str
Answer = bool | dict[str, Any] | list[dict[str, Any]]
Waiting = tuple[int, int, asyncio.Future[None]]  # rank, number of arrival, its turn

RANKS: dict[Priority, int] = {"final": 0, "normal": 1, "cosmetic": 2}
COSMETIC = RANKS["cosmetic"]

POSTING = ("send", "editMessage", "copyMessage", "forwardMessage")  # what Telegram's limits are about
CHAT_ACTION = "sendChatAction"  # is no message, and is worth nothing later

COOL_DOWN_MARGIN_S = 0.1  # Telegram gives whole seconds, and may have rounded them
CLOCK_STEP_S = 1e-6  # a timer may come this much early


class ChatRateLimiter(BaseRateLimiter[Priority]):
    """`rate_limit_args` of each bot method is its priority. Belongs to one event loop.

    `chat_rate` and `overall_limit` are a second, `group_limit` is in any minute. `final_retries` and `normal_retries`
    bound how often a call that meets 429 is made again; then its RetryAfter is raised. `on_flood` is told the chat of
    every 429, "" if the call named none.

    A call that neither posts nor changes a message goes at once and counts nowhere. If it meets a 429 it is made again
    as the others are, from the line of its chat; if it names no chat, or is a chat action, RetryAfter is raised.
    """

    def __init__(
        self,
        *,
        chat_rate: float = 1.0,
        chat_burst: int = 3,
        group_limit: int = 20,
        overall_limit: int = 30,
        final_retries: int = 10,
        normal_retries: int = 5,
        on_flood: Callable[[ChatKey], None] | None = None,
    ) -> None:
        self._chat_rate = chat_rate
        self._chat_burst = chat_burst
        self._group_limit = group_limit
        self._retries = (final_retries, normal_retries, 0)
        self._on_flood = on_flood
        self._overall = _Window(overall_limit, 1.0)
        self._room_for_others = overall_limit // 5  # of the overall budget, that cosmetic calls leave
        self._chats: dict[ChatKey, _Chat] = {}
        # By rank: the chats that could take their head now, the next one first.
        self._ready: tuple[OrderedDict[ChatKey, _Chat], ...] = tuple(OrderedDict() for _ in RANKS)
        self._arrivals = count()
        self._timer: asyncio.TimerHandle | None = None
        self._open = True

    async def initialize(self) -> None:
        self._open = True

    async def shutdown(self) -> None:
        """Calls that wait, and calls that would have to from now on, end with CancelledError."""
        self._open = False
        self._set_timer(None)
        for chat in self._chats.values():
            chat.set_timer(None)
            for _, _, turn in chat.waiting:
                turn.cancel()
            chat.waiting.clear()
        self._chats.clear()
        for chats in self._ready:
            chats.clear()

    @property
    def waiting(self) -> int:
        """Calls that wait for their turn."""
        return sum(len(chat.waiting) for chat in self._chats.values())

    @property
    def chats(self) -> int:
        """Chats that something is remembered about."""
        return len(self._chats)

    def withdraw_cosmetic(self, chat_id: int) -> None:
        """Give up the cosmetic calls that still wait in this chat: what is final will be sent instead."""
        chat = self._chats.get(chat_id)
        if chat is not None:
            self._refuse_cosmetic(chat, 1.0)
            self._move(chat)

    async def process_request(
        self,
        callback: Callable[..., Coroutine[Any, Any, Answer]],
        args: Any,
        kwargs: dict[str, Any],
        endpoint: str,
        data: dict[str, Any],
        rate_limit_args: Priority | None,
    ) -> Answer:
        """Make the call when its turn has come. Raises what it raises; RetryAfter as the class says."""
        rank = RANKS["cosmetic" if endpoint == CHAT_ACTION else rate_limit_args or "normal"]
        key = _chat_key(data)
        arrival = next(self._arrivals)
        waits = endpoint.startswith(POSTING) and endpoint != CHAT_ACTION
        has_line = waits or key != ""
        for tries in count():
            if waits:
                await self._turn(key, rank, arrival)
            try:
                return await callback(*args, **kwargs)
            except RetryAfter as error:
                self._flooded(key, _seconds(error), has_line)
                if not has_line or tries == self._retries[rank]:
                    raise
                waits = True
        raise AssertionError("count() does not end")

    async def _turn(self, key: ChatKey, rank: int, arrival: int) -> None:
        """Wait until this call may go, which is counted then. Raises RetryAfter; CancelledError after shutdown."""
        if not self._open:
            raise asyncio.CancelledError
        chat = self._chat(key)
        now = _now()
        if rank == COSMETIC and chat.silent_until > now:
            raise _retry_after(chat.silent_until - now)
        turn = asyncio.get_running_loop().create_future()
        waiting = rank, arrival, turn
        insort(chat.waiting, waiting)
        self._move(chat)
        try:
            await turn
        except asyncio.CancelledError:
            if waiting in chat.waiting:
                chat.waiting.remove(waiting)
                self._move(chat)
            elif not turn.cancelled() and turn.exception() is None:  # its turn came in the moment of the cancellation
                chat.give_back(rank)
                self._overall.give_back()
                self._move(chat)
            raise

    def _chat(self, key: ChatKey) -> _Chat:
        if key not in self._chats:
            in_group = (isinstance(key, int) and key < 0) or (isinstance(key, str) and key.startswith("@"))
            group_limit = self._group_limit if in_group else None
            self._chats[key] = _Chat(key, self._chat_rate, self._chat_burst, group_limit)
        return self._chats[key]

    def _flooded(self, key: ChatKey, wait_s: float, has_line: bool) -> None:
        if self._on_flood is not None:
            self._on_flood(key)
        if not has_line or not self._open:
            return
        log.info("chat %s is flooded: nothing is sent there for %s s", key, wait_s)
        chat = self._chat(key)
        chat.silence(_now() + wait_s + COOL_DOWN_MARGIN_S)
        self._refuse_cosmetic(chat, wait_s)
        self._move(chat)

    def _refuse_cosmetic(self, chat: _Chat, wait_s: float) -> None:
        while chat.waiting and chat.waiting[-1][0] == COSMETIC:
            _, _, turn = chat.waiting.pop()
            if not turn.done():
                turn.set_exception(_retry_after(wait_s))

    # Who is next. A chat is ready, or it has a timer for when it will be, or for when it may be forgotten.

    def _move(self, chat: _Chat) -> None:
        """Put a chat where it belongs now, and let go whoever may."""
        self._place(chat)
        self._let_go()

    def _place(self, chat: _Chat) -> None:
        if not self._open:
            return
        chat.set_timer(None)
        head = chat.waiting[0][0] if chat.waiting else None
        due = chat.whole_at() if head is None else chat.due(head)
        is_due = due <= _now() + CLOCK_STEP_S
        for rank, chats in enumerate(self._ready):
            if rank == head and is_due:
                chats.setdefault(chat.key, chat)  # one that was ready keeps its place
            else:
                chats.pop(chat.key, None)
        if not is_due:
            chat.set_timer(asyncio.get_running_loop().call_at(due, self._move, chat))
        elif head is None:
            self._chats.pop(chat.key, None)

    def _let_go(self) -> None:
        """As many as the overall budget takes now; the rest as soon as it takes more."""
        self._set_timer(None)
        for rank, chats in enumerate(self._ready):
            while chats:
                due = self._overall.due(leaving=self._room_for_others if rank == COSMETIC else 0)
                if due > _now() + CLOCK_STEP_S:
                    self._set_timer(asyncio.get_running_loop().call_at(due, self._let_go))
                    return
                _, chat = chats.popitem(last=False)
                _, _, turn = chat.waiting.pop(0)
                if not turn.done():  # or else cancelled, and not yet gone from the line
                    chat.take(rank)
                    self._overall.take()
                    turn.set_result(None)
                self._place(chat)

    def _set_timer(self, timer: asyncio.TimerHandle | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = timer


class _Chat:
    """The line of one chat and what the chat may take. Times are the event loop's."""

    def __init__(self, key: ChatKey, rate: float, burst: int, group_limit: int | None) -> None:
        self.key = key
        self.waiting: list[Waiting] = []  # sorted: the next one first
        self.silent_until = 0.0
        self._pace = _Pace(rate, burst)
        self._group: _Window | None = None
        if group_limit is not None:
            # Streaming alone would fill a group's minute: so it gets four fifths of it, spread out.
            self._group = _Window(group_limit, 60.0)
            fifth = max(1, group_limit // 5)
            self._cosmetic_pace = _Pace(rate=max(1, group_limit - 2 * fifth) / 60, burst=fifth)
        self._timer: asyncio.TimerHandle | None = None

    def due(self, rank: int) -> float:
        """When it may take a call of this rank; in the past if it could have earlier."""
        cosmetic = rank == COSMETIC
        due = max(self.silent_until, self._pace.due(leaving=1 if cosmetic else 0))
        if self._group is not None:
            due = max(due, self._group.due())
            if cosmetic:
                due = max(due, self._cosmetic_pace.due())
        return due

    def take(self, rank: int) -> None:
        self._pace.take()
        if self._group is not None:
            self._group.take()
            if rank == COSMETIC:
                self._cosmetic_pace.take()

    def give_back(self, rank: int) -> None:
        self._pace.give_back()
        if self._group is not None:
            self._group.give_back()
            if rank == COSMETIC:
                self._cosmetic_pace.give_back()

    def silence(self, until: float) -> None:
        """Nothing until then, and one message at a time after it: a burst would bring the next 429."""
        self.silent_until = max(self.silent_until, until)
        self._pace.drain(self.silent_until)

    def whole_at(self) -> float:
        """When nothing of what it took counts any more."""
        whole = max(self.silent_until, self._pace.whole_at)
        return whole if self._group is None else max(whole, self._group.whole_at(), self._cosmetic_pace.whole_at)

    def set_timer(self, timer: asyncio.TimerHandle | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = timer


class _Pace:
    """`rate` a second on average, `burst` at once: a token bucket, kept as the time at which it will be full."""

    def __init__(self, rate: float, burst: int) -> None:
        self._each_s = 1 / rate
        self._burst = burst
        self.whole_at = 0.0

    def due(self, leaving: int = 0) -> float:
        needed = min(1 + leaving, self._burst)
        return self.whole_at - (self._burst - needed) * self._each_s

    def take(self) -> None:
        self.whole_at = max(self.whole_at, _now()) + self._each_s

    def give_back(self) -> None:
        self.whole_at -= self._each_s

    def drain(self, until: float) -> None:
        """At most one token at that time."""
        self.whole_at = max(self.whole_at, until + (self._burst - 1) * self._each_s)


class _Window:
    """At most `limit` in any `period_s`."""

    def __init__(self, limit: int, period_s: float) -> None:
        self._limit = limit
        self._period_s = period_s
        self._taken: deque[float] = deque(maxlen=limit)

    def due(self, leaving: int = 0) -> float:
        places = max(1, self._limit - leaving)
        return self._taken[-places] + self._period_s if len(self._taken) >= places else 0.0

    def take(self) -> None:
        self._taken.append(_now())

    def give_back(self) -> None:
        self._taken.pop()

    def whole_at(self) -> float:
        return self._taken[-1] + self._period_s if self._taken else 0.0


def _now() -> float:
    return asyncio.get_running_loop().time()


def _chat_key(data: dict[str, Any]) -> ChatKey:
    """The chat, or the inline message, that a call is about; "" if it is about neither."""
    named = data.get("chat_id") or data.get("inline_message_id") or ""
    try:
        return int(named)
    except (TypeError, ValueError):
        return str(named)


def _seconds(error: RetryAfter) -> float:
    wait = error.retry_after
    return wait.total_seconds() if isinstance(wait, timedelta) else float(wait)


def _retry_after(wait_s: float) -> RetryAfter:
    return RetryAfter(timedelta(seconds=max(1, ceil(wait_s))))
