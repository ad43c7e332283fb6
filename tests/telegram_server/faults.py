"""What goes wrong: answers that a test orders in advance, and the documented limits on how much a bot may send."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tests.telegram_server.refusal import Refused, bad_request, too_many_requests

if TYPE_CHECKING:
    from tests.telegram_server.server import TelegramServer

Kind = Literal["hold", "drop", "drop after", "fail", "flood", "entities"]

# Sources: core.telegram.org/bots/faq, "My bot is hitting limits": one message a second in a chat, where short bursts
# pass, 20 messages a minute in a group, about 30 messages a second overall.
CHAT_BURST = 3
GROUP_PER_MINUTE = 20
OVERALL_PER_SECOND = 30

FORMATTING = ("entities", "caption_entities", "parse_mode")
REASONS = {500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout"}


def posts(method: str) -> bool:
    """Whether the method sends or changes a message, in lower case."""
    return method.startswith(("send", "edit", "copy", "forward")) and method != "sendchataction"


@dataclass
class Fault:
    """One thing that goes wrong with the next calls that match. `hits` counts those that it has met."""

    kind: Kind
    method: str  # lower case; empty: any but getUpdates
    chat_id: Any
    left: int
    detail: int = 0  # the status, or the seconds to wait
    hits: int = 0
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)  # a held call goes on when this is set

    def meets(self, method: str, params: dict[str, Any]) -> bool:
        if self.chat_id is not None and params.get("chat_id") != self.chat_id:
            return False
        if self.kind == "entities" and not any(
            params.get(key) for key in ("entities", "caption_entities", "parse_mode")
        ):
            return False
        if self.method:
            return method == self.method
        return posts(method) if self.kind == "flood" else method != "getupdates"


class Faults:
    """The faults that are still to come, in the order in which they were asked for."""

    def __init__(self, server: TelegramServer) -> None:
        self.limits = Limits()
        self._server = server
        self._coming: list[Fault] = []
        self._random = random.Random(0)

    def add(self, kind: Kind, method: str | None, chat_id: Any, times: int, detail: int = 0) -> Fault:
        fault = Fault(kind, (method or "").lower(), chat_id, times, detail)
        self._coming.append(fault)
        return fault

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        self._coming.clear()

    def take(self, method: str, params: dict[str, Any], *kinds: Kind) -> Fault | None:
        for fault in self._coming:
            if fault.kind in kinds and fault.meets(method, params):
                fault.hits += 1
                fault.left -= 1
                if not fault.left:
                    self._coming.remove(fault)
                return fault
        return None

    def refusal(self, method: str, params: dict[str, Any]) -> Refused | None:
        """What the server answers instead of doing what it is asked."""
        fault = self.take(method, params, "fail", "flood", "entities")
        if fault is not None:
            if fault.kind == "fail":
                return Refused(fault.detail, REASONS.get(fault.detail, "Error"))
            if fault.kind == "flood":
                return too_many_requests(fault.detail)
            return bad_request("can't parse entities: refused on demand")
        share = self._server.flood_share
        if share and method.startswith(("sendmessage", "edit")) and self._random.random() < share:
            return too_many_requests(self._server.flood_retry_after)
        if self._server.enforce_limits and posts(method) and method != "sendmessagedraft":
            seconds = self.limits.wait(params.get("chat_id"))
            if seconds > 0:
                return too_many_requests(math.ceil(seconds))
        return None


class Limits:
    """How much was sent lately."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._chats: dict[Any, tuple[float, float]] = {}  # how many more may be sent, and when that was so
        self._minutes: dict[Any, deque[float]] = {}  # when the last messages of a group were sent
        self._overall: deque[float] = deque()

    def wait(self, chat_id: Any) -> float:
        """The seconds until one more is allowed; 0: it is allowed and counted."""
        now = self._clock()
        left, at = self._chats.get(chat_id, (float(CHAT_BURST), now))
        left = min(float(CHAT_BURST), left + now - at)
        waits = [1 - left, _window(self._overall, now, 1, OVERALL_PER_SECOND)]
        is_group = isinstance(chat_id, int) and chat_id < 0
        minute = self._minutes.setdefault(chat_id, deque()) if is_group else None
        if minute is not None:
            waits.append(_window(minute, now, 60, GROUP_PER_MINUTE))
        seconds = max(waits)
        if seconds > 0:
            self._chats[chat_id] = (left, now)
            return seconds
        self._chats[chat_id] = (left - 1, now)
        self._overall.append(now)
        if minute is not None:
            minute.append(now)
        return 0


def _window(times: deque[float], now: float, seconds: float, allowed: int) -> float:
    while times and times[0] <= now - seconds:
        times.popleft()
    return 0 if len(times) < allowed else times[0] + seconds - now
