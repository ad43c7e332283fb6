"""Notices when Telegram has stopped answering the bot's polls, and has polling started again.

python-telegram-bot makes a failed poll again by itself. Two things it does not notice: a poll that neither ends nor
fails, as on a connection that dribbles, and a polling task that has ended. A single answer of 401 or 404, be it a
proxy's, ends it for good; the bot looks alive and hears nothing.

    watchdog = Watchdog(stalled_after_s)
    builder.get_updates_request(WatchedRequest(watchdog.seen))
    …
    async def restart() -> None:
        application.updater = await fresh_updater(application.updater)
        await application.updater.start_polling(…)

    asyncio.create_task(watchdog.run(restart))
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from telegram.error import NetworkError, TelegramError
from telegram.ext import Updater
from telegram.request import HTTPXRequest

log = logging.getLogger("familiar.telegram")

FIRST_PAUSE_S = 1.0  # after a restart that failed
LONGEST_PAUSE_S = 60.0
MOST_PATIENCE = 8  # times the usual one, after restarts that did not help


class Watchdog:
    """`stalled_after_s` must be longer than a poll that nothing comes of."""

    def __init__(self, stalled_after_s: float) -> None:
        self._stalled_after_s = stalled_after_s
        self._seen_at = 0.0

    def seen(self) -> None:
        """A poll was answered, whatever the answer is."""
        self._seen_at = asyncio.get_running_loop().time()

    async def run(self, restart: Callable[[], Awaitable[None]]) -> None:
        """Restart polling whenever it stalls, until cancelled. Restarts that do not help come ever more seldom."""
        patience = 1
        self.seen()
        while True:
            seen_at = self._seen_at
            await _until(seen_at + patience * self._stalled_after_s)
            if self._seen_at > seen_at:
                patience = 1
                continue
            log.warning("no poll was answered for %s s: polling is restarted", patience * self._stalled_after_s)
            await _insist(restart)
            patience = min(2 * patience, MOST_PATIENCE)
            if self._seen_at == seen_at:  # not answered while it was restarted either: count from here
                self.seen()


class WatchedRequest(HTTPXRequest):
    """How an Updater asks for updates, telling `seen` of each answer. `options` are HTTPXRequest's.

    `read_timeout` is added to the time that the poll itself asks for. None adds nothing, so that a poll which nothing
    comes of would time out.
    """

    def __init__(self, seen: Callable[[], None], **options: Any) -> None:
        super().__init__(**options)
        self._seen = seen

    async def do_request(self, *args: Any, **kwargs: Any) -> tuple[int, bytes]:
        answer = await super().do_request(*args, **kwargs)
        self._seen()
        return answer


async def fresh_updater(stuck: Updater, *, within_s: float = 15.0) -> Updater:
    """Another Updater in the place of this one, initialized and not started. The stuck one polls no more.

    An Updater cannot be started again once its polling task has died, and stopping it may wait for an answer that does
    not come; after `within_s` that wait is cut. The fresh one may be given updates again that the other had received.
    """
    if stuck.running:
        await stop_updater(stuck, within_s=within_s)
    fresh = Updater(stuck.bot, stuck.update_queue)
    await fresh.initialize()
    return fresh


async def stop_updater(updater: Updater, *, within_s: float) -> None:
    """Stop a running Updater in any case. What was received and not confirmed by then is delivered again later."""
    stopping = asyncio.create_task(updater.stop())
    try:
        await asyncio.wait({stopping}, timeout=within_s)
    finally:
        # Two times at most: the first may end the wait for the polling task, the second the poll that follows it.
        while not stopping.done():
            stopping.cancel()
            await asyncio.wait({stopping}, timeout=1)
    if not stopping.cancelled() and (error := stopping.exception()) is not None:
        log.warning("polling had ended: %s", error, exc_info=None if isinstance(error, TelegramError) else error)


async def _insist(restart: Callable[[], Awaitable[None]]) -> None:
    """Restart; if that fails, again and again."""
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            await restart()
            return
        except Exception as error:
            expected = isinstance(error, NetworkError)
            log.warning("polling did not start, once more in %s s: %s", pause_s, error, exc_info=not expected)
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


async def _until(time: float) -> None:
    await asyncio.sleep(time - asyncio.get_running_loop().time())
