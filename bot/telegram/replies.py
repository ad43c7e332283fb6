"""The replies that are being made now, so that they can be stopped from outside: by a button, a command, or the
client's own stop of a draft."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Running:
    chat_id: int
    thread_id: int | None
    user_id: int
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    unwanted: asyncio.Event = field(default_factory=asyncio.Event)  # nobody is there any more to whom it is written
    draft_id: int = field(default_factory=lambda: secrets.randbelow(2**31 - 1) + 1)  # also names it to its Stop button


class Replies:
    def __init__(self) -> None:
        self._running: set[Running] = set()

    def __len__(self) -> int:
        return len(self._running)

    @contextmanager
    def one(self, chat_id: int, thread_id: int | None, user_id: int) -> Iterator[Running]:
        running = Running(chat_id, thread_id, user_id)
        self._running.add(running)
        try:
            yield running
        finally:
            self._running.discard(running)

    def stop_draft(self, draft_id: int, *, user_id: int | None = None) -> bool:
        """Stop the reply of this draft; False when it has ended, or is somebody else's."""
        return self._stop(
            [each for each in self._running if each.draft_id == draft_id and user_id in (None, each.user_id)]
        )

    def stop_in(self, chat_id: int, thread_id: int | None, user_id: int) -> bool:
        """Stop what is being written to this person here; False when nothing is."""
        here = (chat_id, thread_id, user_id)
        return self._stop([each for each in self._running if (each.chat_id, each.thread_id, each.user_id) == here])

    def stop_all(self, user_id: int) -> bool:
        """Stop everything that is being written to this person."""
        return self._stop([each for each in self._running if each.user_id == user_id])

    def take_back_all(self, user_id: int) -> None:
        """Stop everything that is being written to this person, and let nothing of it stand."""
        for each in self._running:
            if each.user_id == user_id:
                each.unwanted.set()
        self.stop_all(user_id)

    def is_running(self, draft_id: int) -> bool:
        return any(each.draft_id == draft_id for each in self._running)

    def _stop(self, found: list[Running]) -> bool:
        for running in found:
            running.stop.set()
        return bool(found)
