"""What waits to be told to the bot, and the two ways to tell it: long polling and a webhook.

An update stays until it is confirmed: by a getUpdates with a higher offset, or by a 2xx of the webhook. Which kinds are
kept at all is decided when they come about, by the `allowed_updates` that were named last, as documented.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import deque
from contextlib import suppress
from itertools import islice
from typing import Any

import aiohttp

from tests.telegram_server.refusal import bad_request, conflict

NOT_BY_DEFAULT = frozenset({"chat_member", "message_reaction", "message_reaction_count", "stopped_message_generation"})
FIRST_UPDATE_ID = 700_000_001
MAX_POLL_S = 50
WEBHOOK_TIMEOUT_S = 60
WEBHOOK_BACKOFF_S = (0.02, 0.05, 0.1, 0.2, 0.5)
SECRET_HEADER = "X-Telegram-Bot-Api-Secret-Token"


class Updates:
    """The queue of one bot."""

    def __init__(self) -> None:
        self.waiting: deque[dict[str, Any]] = deque()  # oldest first
        self.acknowledged = 0  # the highest confirmed update id
        self.allowed: list[str] = []  # empty: the default
        self.webhook: dict[str, Any] | None = None
        self._next_id = FIRST_UPDATE_ID
        self._poll = 0  # the number of the newest getUpdates; an older one that still waits is told of the conflict
        self._interrupted_by = ""
        self._arrived = asyncio.Event()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._delivery: asyncio.Task[None] | None = None

    @property
    def stalled(self) -> bool:
        return not self._flowing.is_set()

    @stalled.setter
    def stalled(self, stalled: bool) -> None:
        if stalled:
            self._flowing.clear()
        else:
            self._flowing.set()

    def wants(self, kind: str) -> bool:
        return kind in self.allowed if self.allowed else kind not in NOT_BY_DEFAULT

    def push(self, kind: str, what: dict[str, Any]) -> int | None:
        """Queue an update and return its id; None when the bot does not want this kind."""
        return self.push_raw({kind: what}) if self.wants(kind) else None

    def push_raw(self, update: dict[str, Any]) -> int:
        update_id = self._next_id
        self._next_id += 1
        self.waiting.append({"update_id": update_id, **update})
        self._arrived.set()
        return update_id

    def forget(self) -> None:
        self.waiting.clear()

    async def poll(self, offset: int = 0, limit: int = 100, timeout: int = 0, allowed: Any = None) -> list[Any]:
        """Answer getUpdates."""
        if self.webhook is not None:
            raise conflict(
                "can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
            )
        self._poll += 1
        mine = self._poll
        self._interrupted_by = "other getUpdates request; make sure that only one bot instance is running"
        self._arrived.set()  # an older poll that still waits looks up
        self._allow(allowed)
        self._confirm(offset)
        await self._arrival(mine, time.monotonic() + min(max(timeout, 0), MAX_POLL_S))
        await self._flowing.wait()
        if mine != self._poll:
            raise conflict(f"terminated by {self._interrupted_by}")
        return list(islice(self.waiting, min(max(limit, 1), 100)))

    async def _arrival(self, mine: int, until: float) -> None:
        while not self.waiting and mine == self._poll and (left := until - time.monotonic()) > 0:
            self._arrived.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), left)

    def _allow(self, allowed: Any) -> None:
        if isinstance(allowed, list):
            self.allowed = [str(kind) for kind in allowed]

    def _confirm(self, offset: int) -> None:
        if offset < 0:
            while len(self.waiting) > -offset:
                self._drop_oldest()
            return
        while self.waiting and self.waiting[0]["update_id"] < offset:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        self.acknowledged = self.waiting.popleft()["update_id"]

    def set_webhook(self, params: dict[str, Any]) -> None:
        """Deliver to this address from now on."""
        url = str(params.get("url") or "")
        if not re.match(r"https://|http://(localhost|127\.0\.0\.1)[:/]", url):
            raise bad_request("bad webhook: An HTTPS URL must be provided for webhook")
        secret = str(params.get("secret_token") or "")
        if not re.fullmatch(r"[A-Za-z0-9_-]{0,256}", secret):
            raise bad_request("secret token contains unallowed characters")
        self._allow(params.get("allowed_updates"))
        self.webhook = {"url": url, "secret_token": secret, "max_connections": params.get("max_connections") or 40}
        self._poll += 1
        self._interrupted_by = "setWebhook request"
        self._arrived.set()
        self.stop()
        self.start()

    def delete_webhook(self) -> None:
        self.webhook = None
        self.stop()

    def webhook_info(self) -> dict[str, Any]:
        hook = self.webhook or {"url": ""}
        info = {key: value for key, value in hook.items() if key != "secret_token"}
        info |= {"has_custom_certificate": False, "pending_update_count": len(self.waiting)}
        return info | ({"allowed_updates": self.allowed} if self.allowed else {})

    def start(self) -> None:
        """Begin to deliver, if there is a webhook."""
        if self.webhook is not None:
            self._delivery = asyncio.create_task(self._deliver(self.webhook))

    def stop(self) -> None:
        if self._delivery is not None:
            self._delivery.cancel()
            self._delivery = None

    async def _deliver(self, hook: dict[str, Any]) -> None:
        """Post one update after the other, each until it is taken."""
        failures = 0
        timeout = aiohttp.ClientTimeout(total=WEBHOOK_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(ssl=False)) as session:
            while True:
                while not self.waiting:
                    self._arrived.clear()
                    await self._arrived.wait()
                update = self.waiting[0]
                problem = await self._post(session, hook, update)
                if problem is None:
                    failures = 0
                    if self.waiting and self.waiting[0] is update:
                        self._drop_oldest()
                    continue
                hook |= {"last_error_date": int(time.time()), "last_error_message": problem}
                await asyncio.sleep(WEBHOOK_BACKOFF_S[min(failures, len(WEBHOOK_BACKOFF_S) - 1)])
                failures += 1

    async def _post(self, session: aiohttp.ClientSession, hook: dict[str, Any], update: dict[str, Any]) -> str | None:
        """Returns what went wrong, in words, or None."""
        headers = {"Content-Type": "application/json"}
        if hook["secret_token"]:
            headers[SECRET_HEADER] = hook["secret_token"]
        body = json.dumps(update).encode()
        try:
            async with session.post(hook["url"], data=body, headers=headers, allow_redirects=False) as answer:
                if 200 <= answer.status < 300:
                    return None
                return f"Wrong response from the webhook: {answer.status} {answer.reason}"
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"Connection failed: {type(error).__name__}"
