"""What Telegram delivers, written down before it is acknowledged.

The Updater of python-telegram-bot puts each update into a queue and confirms it to Telegram (or answers the webhook's
call) once `put` has returned. This queue writes the update to the store's inbox first, so what was confirmed survives
a crash, and what could not be written is delivered again. The same update twice is one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from telegram import Bot, Update

from store import inbox
from store.errors import StoreError
from store.session import Store
from store.tables import Inbox, now

log = logging.getLogger("familiar.telegram")

CHANNEL = "telegram"
REMEMBERED = timedelta(hours=48)  # Telegram redelivers for 24 hours; by then a handled key may go
LONGEST_PAUSE_S = 10.0


@dataclass
class Arrival:
    """An update that is not done yet."""

    row: int  # in the store's inbox
    update: Update
    received_at: float  # time.time()
    message_id: int | None = None  # the person's message that it became before a restart
    reply_id: int | None = None  # the reply that was logged before a restart
    progress: dict[str, Any] = field(default_factory=dict)  # what had been done before a restart
    keep: bool = False  # its handling failed in a way that a restart may cure: it stays in the inbox
    dropped: bool = False  # who sent it was forgotten since, so it is not to be handled any more


class InboxQueue(asyncio.Queue[object]):
    """`wanted` says whether an update concerns the bot; one that does not is never written down.

    `patience_s` is how long `put` waits for a store that does not take the update before it raises StoreError. None
    waits for good, which holds up polling, and so the confirmation, until the store is well again.
    """

    def __init__(self, store: Store, bot_id: int, wanted: Callable[[Update], bool], patience_s: float | None) -> None:
        super().__init__()
        self._store = store
        self._bot_id = bot_id
        self._wanted = wanted
        self._patience_s = patience_s
        self._arrivals: dict[int, Arrival] = {}
        self._taking: set[asyncio.Task[None]] = set()

    async def put(self, item: object) -> None:
        if not isinstance(item, Update):
            await super().put(item)
        elif self._is_wanted(item):
            # Shielded: an update that is written down but not queued would be taken for handled when it comes again.
            taking = asyncio.create_task(self._take(item))
            self._taking.add(taking)
            taking.add_done_callback(self._taking.discard)
            await asyncio.shield(taking)

    def _is_wanted(self, update: Update) -> bool:
        """An exception here would end polling, and the same update would end it again after every restart."""
        try:
            return self._wanted(update)
        except Exception:
            log.exception("whether update %s is for the bot cannot be told, so it is taken", update.update_id)
            return True

    async def _take(self, update: Update) -> None:
        row = await self._write(update)
        if row is not None:
            self._arrivals[update.update_id] = Arrival(row, update, time.time())
            await super().put(update)

    async def restore(self, bot: Bot) -> int:
        """Queue what was received before the last stop and is not done, in its old order; how much that was."""
        rows = [row for row in await asyncio.to_thread(inbox.waiting, self._store, CHANNEL) if self._is_ours(row)]
        for row in rows:
            update = Update.de_json(row.payload, bot)
            assert row.id is not None, "a stored row has an id"
            received_at = row.received_at.timestamp()
            self._arrivals[update.update_id] = Arrival(
                row.id, update, received_at, row.message_id, row.reply_id, dict(row.progress)
            )
            await super().put(update)
        return len(rows)

    def arrival(self, update: Update) -> Arrival:
        return self._arrivals[update.update_id]

    @property
    def waiting(self) -> int:
        """How many updates are not done."""
        return len(self._arrivals)

    async def note(self, arrival: Arrival, **progress: Any) -> None:
        """Remember over a restart how far the handling has come."""
        arrival.progress |= progress
        await asyncio.to_thread(inbox.note, self._store, arrival.row, **progress)

    async def done(self, arrivals: Iterable[Arrival]) -> None:
        """These are handled. When the store does not take even that, they are handled again after a restart."""
        finished = [each for each in arrivals if self._arrivals.pop(each.update.update_id, None) is not None]
        rows = [arrival.row for arrival in finished if not arrival.keep]
        if not rows:
            return
        for pause_s in (0.2, 1.0, 5.0, None):
            try:
                await asyncio.to_thread(inbox.done, self._store, rows)
            except StoreError as error:
                log.warning("updates %s are handled, and that cannot be written down: %s", rows, error)
                if pause_s is not None:
                    await asyncio.sleep(pause_s)
            else:
                return

    def drop(self, user_id: int, *, before: Arrival) -> None:
        """Handle nothing more of what this person sent before that, in whatever chat it waits."""
        for arrival in self._arrivals.values():
            user = arrival.update.effective_user
            if user is not None and user.id == user_id and arrival.row < before.row:
                arrival.dropped = True

    async def close(self) -> None:
        """Give up on updates that the store has not taken so far; Telegram will deliver them again."""
        for taking in self._taking:
            taking.cancel()
        await asyncio.gather(*self._taking, return_exceptions=True)

    async def prune(self) -> None:
        await asyncio.to_thread(inbox.prune, self._store, CHANNEL, now() - REMEMBERED)

    async def _write(self, update: Update) -> int | None:
        """The new row, or None when the update was received before. Raises StoreError after `patience_s`."""
        user = update.effective_user
        payload = update.to_dict()
        began, pause_s = time.monotonic(), 0.2
        while True:
            try:
                return await asyncio.to_thread(
                    inbox.receive,
                    self._store,
                    CHANNEL,
                    self._key(update.update_id),
                    payload,
                    external_id=str(user.id) if user else "",
                )
            except StoreError as error:
                if self._patience_s is not None and time.monotonic() - began > self._patience_s:
                    raise
                log.error("an update cannot be written down, so it is not acknowledged yet: %s", error)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    def _key(self, update_id: int) -> str:
        """Another bot counts its updates anew."""
        return f"{self._bot_id}:{update_id}"

    def _is_ours(self, row: Inbox) -> bool:
        return row.key.startswith(f"{self._bot_id}:")
