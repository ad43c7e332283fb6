"""Who may talk on a channel that anybody can reach, as whom, and how much.

The first of these that has something to say decides:

    admins in config.toml     let in as admins; only config.toml can take that back, and no quota holds them
    blocked in the store      kept out, also in the mode "open"
    allow in config.toml      let in, as what the store says: user or admin
    allowed in the store      let in, likewise
    the mode                  open: let in; allowlist: not; pairing: a code to give to the operator (bot.pairing)

The store is asked each time and nothing of it is remembered here, because the operator decides in another process
while this one runs. So a decision holds from the next message on, and strangers take up no memory; of their requests
the store keeps the newest (store.access), and who was pushed out gets another code with the next message.

The quota on messages is kept in memory: it looks back a minute, and a restart may forget a minute. The quota on tokens
is kept in the store, a row for each identity and day, which outlives a `/forget`. What a reply will take is known only
after it, so the reply that goes over the quota is still given and the next one is not.
"""

from __future__ import annotations

import math
import time
import unicodedata
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from bot.asking import ask
from bot.errors import ChatError
from bot.pairing import new_code
from settings import Access as AccessSettings
from store import access, usage
from store.errors import AlreadyThere
from store.session import Store
from store.tables import Access as Row

WINDOW_S = 60.0
LONGEST_NAME = 64  # characters
JOINERS = "\u200c\u200d"  # part of how some scripts and emoji are written
UNSEEN = {"Cc", "Cf", "Cs"}  # of Unicode's categories: control, format (such as "from right to left"), half a character


@dataclass(frozen=True)
class Standing:
    state: Literal["allowed", "pending", "blocked", "unknown"]  # unknown: not on the list, in the mode "allowlist"
    admin: bool = False
    code: str = ""  # to show to somebody who is pending


class Access:
    """One for the whole process; to be called on one event loop."""

    def __init__(
        self,
        store: Store,
        settings: AccessSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        local_time: Callable[[], datetime] = datetime.now,
    ) -> None:
        """`clock`: seconds, for the quota of a minute. `local_time`: without a zone, for the quota of a day."""
        self._store = store
        self._settings = settings
        self._local_time = local_time
        self._last_minute = _LastMinute(settings.messages_per_minute, clock)

    async def standing(self, channel: str, external_id: str, name: str = "") -> Standing:
        """Whether this identity may talk. In the mode "pairing" a stranger's request is written down under `name`.

        Raises ChatError when the store does not answer: then nobody is let in but the admins of config.toml.
        """
        if _identity(channel, external_id) in self._settings.admins:
            return Standing("allowed", admin=True)
        return await ask(self._standing, channel, external_id, name)

    async def standings(self, channel: str, external_ids: Sequence[str]) -> dict[str, Standing]:
        """Of many at once, for lists: nobody's request is written down. Raises ChatError."""
        return await ask(self._standings, channel, external_ids)

    async def charge(self, channel: str, external_id: str) -> None:
        """Count one message, before its turn. Admins are counted and never refused.

        Raises ChatError("quota_messages") and ChatError("quota_tokens"); a message that is refused is not counted.
        """
        identity = _identity(channel, external_id)
        wait_s = self._last_minute.enter(identity)  # before the store is asked: of two at once, one has the last place
        try:
            await ask(self._charge, channel, external_id, wait_s)
        except BaseException:
            if not wait_s:
                self._last_minute.leave(identity)
            raise

    async def spent(self, channel: str, external_id: str, tokens: int) -> None:
        """Count the tokens of a turn, of its prompt and its reply, after it. Raises ChatError."""
        if tokens > 0:
            today = self._local_time().date()
            await ask(usage.add, self._store, channel, external_id, today, tokens=tokens)

    # These block.

    def _standing(self, channel: str, external_id: str, name: str) -> Standing:
        known = self._judged(channel, external_id, access.standing(self._store, channel, external_id))
        if known.state != "pending" or known.code:
            return known
        return self._judged(channel, external_id, self._request(channel, external_id, _cleaned(name)))

    def _standings(self, channel: str, external_ids: Sequence[str]) -> dict[str, Standing]:
        rows = {row.external_id: row for row in access.listing(self._store) if row.channel == channel}
        return {
            each: Standing("allowed", admin=True)
            if _identity(channel, each) in self._settings.admins
            else self._judged(channel, each, rows.get(each))
            for each in external_ids
        }

    def _judged(self, channel: str, external_id: str, row: Row | None) -> Standing:
        """What the store's row and the settings make of an identity that is not an admin of config.toml."""
        state = row.state if row else ""
        if state == "blocked":
            return Standing("blocked")
        listed = _identity(channel, external_id) in self._settings.allow
        if listed or state == "allowed" or self._settings.mode == "open":
            return Standing("allowed", admin=row is not None and row.role == "admin")
        if self._settings.mode == "allowlist":
            return Standing("unknown")
        return Standing("pending", code=row.code if row else "")

    def _request(self, channel: str, external_id: str, name: str) -> Row:
        try:
            return access.request(self._store, channel, external_id, name, new_code())
        except AlreadyThere:  # somebody else waits with this very code
            return access.request(self._store, channel, external_id, name, new_code())

    def _charge(self, channel: str, external_id: str, wait_s: float) -> None:
        now = self._local_time()
        if not self._is_admin(channel, external_id):
            if wait_s:
                limit = self._settings.messages_per_minute
                raise ChatError("quota_messages", limit=limit, seconds=math.ceil(wait_s))
            limit = self._settings.tokens_per_day
            if limit and usage.used(self._store, channel, external_id, now.date()).tokens >= limit:
                raise ChatError("quota_tokens", limit=limit, hours=_hours_until_midnight(now))
        usage.add(self._store, channel, external_id, now.date(), messages=1)

    def _is_admin(self, channel: str, external_id: str) -> bool:
        if _identity(channel, external_id) in self._settings.admins:
            return True
        return self._judged(channel, external_id, access.standing(self._store, channel, external_id)).admin


class _LastMinute:
    """When each identity wrote in the last minute. Who was silent for that long is dropped: memory follows use."""

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self._limit = limit  # 0: as many as they like
        self._clock = clock
        self._times: OrderedDict[str, deque[float]] = OrderedDict()  # who wrote last stands last

    def __len__(self) -> int:
        return len(self._times)

    def enter(self, identity: str) -> float:
        """Count a message; or, without counting it, the seconds until there is room for one."""
        if not self._limit:
            return 0.0
        now = self._clock()
        self._drop_the_silent(now - WINDOW_S)
        times = self._times.setdefault(identity, deque())
        while times and times[0] <= now - WINDOW_S:
            times.popleft()
        if len(times) >= self._limit:
            return times[0] + WINDOW_S - now
        times.append(now)
        self._times.move_to_end(identity)
        return 0.0

    def leave(self, identity: str) -> None:
        """Uncount the newest message."""
        times = self._times.get(identity)
        if times:
            times.pop()
        if not times:
            self._times.pop(identity, None)

    def _drop_the_silent(self, horizon: float) -> None:
        while self._times:
            identity, times = next(iter(self._times.items()))
            if times[-1] > horizon:
                return
            del self._times[identity]


def _identity(channel: str, external_id: str) -> str:
    """As config.toml writes it."""
    return f"{channel}:{external_id}"


def _cleaned(name: str) -> str:
    """A stranger's name as it can be shown in the operator's terminal: one line that moves no cursor, not too long."""
    visible = (sign if sign in JOINERS or unicodedata.category(sign) not in UNSEEN else " " for sign in name)
    return " ".join("".join(visible).split())[:LONGEST_NAME].rstrip()


def _hours_until_midnight(now: datetime) -> int:
    """Rounded up. On the two days a year on which the clock is changed, of 23 or 25."""
    midnight = datetime.combine(now.date() + timedelta(days=1), datetime.min.time())
    return math.ceil((midnight.timestamp() - now.timestamp()) / 3600)
