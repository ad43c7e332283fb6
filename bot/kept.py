"""What is kept about one person, and what they allow with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from bot.asking import ask
from bot.errors import ChatError
from settings import Learning
from store import people, versions
from store.people import Stats
from store.session import Store

Policy = Literal["ask", "all", "none"]
Choice = Literal["yes", "no"]


@dataclass(frozen=True)
class Privacy:
    policy: Policy  # the operator's: settings.learning.consent
    choice: Choice | None  # the person's; None while not asked
    learns: bool  # may this person's conversations train adapters, as things stand?
    sealed_days: float = 0.0  # the operator's: settings.learning.sealed_days


class Kept:
    """`person_id` tells whose it is; somebody who was forgotten and comes back is a new person. Raises ChatError."""

    def __init__(self, store: Store, learning: Learning, person_id: Callable[[], Awaitable[int]]) -> None:
        self._store = store
        self._policy: Policy = learning.consent
        self._sealed_days = learning.sealed_days
        self._person_id = person_id

    async def export(self) -> dict[str, Any]:
        """Everything that is stored about them, ready for JSON."""
        return await ask(people.export, self._store, await self._person_id())

    async def stats(self) -> Stats:
        return await ask(people.stats, self._store, await self._person_id())

    async def privacy(self) -> Privacy:
        """A person's own no always counts, their yes only where the operator lets conversations be learnt from."""
        choice = await ask(people.consent, self._store, await self._person_id())
        learns = (self._policy == "all" and choice != "no") or (self._policy == "ask" and choice == "yes")
        return Privacy(self._policy, choice, learns, self._sealed_days)

    async def consent(self, choice: Choice) -> None:
        await ask(people.give_consent, self._store, await self._person_id(), choice)

    async def is_to_be_asked(self) -> bool:
        """Is it time to ask whether conversations may be learnt from? Says yes once a person, and notes it."""
        person_id = await self._person_id()
        if self._policy != "ask" or await ask(people.was_asked, self._store, person_id):
            return False
        await ask(people.note_asked, self._store, person_id)
        return True

    async def learned_in(self, adapter: str) -> int | None:
        """The version whose reply they just got, name@version, by its number, if it learned from what they corrected.

        Tells it once a person, and notes it; None when there is nothing to tell, or the store does not answer now.
        """
        if not adapter:
            return None
        with suppress(ChatError):  # there will be other replies
            return await ask(versions.tell_once, self._store, await self._person_id(), adapter)
        return None
