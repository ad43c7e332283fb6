"""What was said last in groups and was not for the bot: kept in memory only, for a short while, and only where the
operator has asked for it (`telegram.group_context`).

It is given to the model with the next message that is for the bot, and is gone with the process.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

KEPT_S = 3600.0
MOST_LANES = 300  # chats and threads; of more, the one that was silent for longest is dropped
LONGEST_TEXT = 1000  # characters

Lane = tuple[int, int | None]  # chat, thread


@dataclass(frozen=True)
class Said:
    message_id: int
    user_id: int
    name: str
    text: str
    at: float  # time.time()


class Overheard:
    """`most` messages a lane; 0 keeps nothing."""

    def __init__(self, most: int, now: Callable[[], float] = time.time) -> None:
        self._most = most
        self._now = now
        self._lanes: OrderedDict[Lane, dict[int, Said]] = OrderedDict()  # by message; where one was said last is last

    def __len__(self) -> int:
        return sum(len(lane) for lane in self._lanes.values())

    @property
    def is_on(self) -> bool:
        return self._most > 0

    def hear(self, lane: Lane, said: Said, *, edited: bool = False) -> None:
        """An edit changes what is kept, and brings nothing back that is not."""
        heard = self._lanes.get(lane, {})
        if not self.is_on or (edited and said.message_id not in heard):
            return
        heard[said.message_id] = replace(said, text=_cut(said.text))
        self._lanes[lane] = dict(sorted(heard.items())[-self._most :])
        self._lanes.move_to_end(lane)
        if len(self._lanes) > MOST_LANES:
            self._lanes.popitem(last=False)
        self._drop_old()

    def before(self, lane: Lane, message_id: int) -> list[Said]:
        """What was said before this message, the oldest first."""
        self._drop_old()
        return [said for said in self._lanes.get(lane, {}).values() if said.message_id < message_id]

    def leave(self, chat_id: int) -> None:
        """Drop what was said in this chat."""
        for lane in [lane for lane in self._lanes if lane[0] == chat_id]:
            del self._lanes[lane]

    def forget(self, user_id: int) -> None:
        """Drop what this person said, wherever it was."""
        for lane in list(self._lanes):
            self._keep(lane, lambda said: said.user_id != user_id)

    def _drop_old(self) -> None:
        horizon = self._now() - KEPT_S
        for lane, heard in list(self._lanes.items()):
            if next(iter(heard.values())).at < horizon:
                self._keep(lane, lambda said: said.at >= horizon)

    def _keep(self, lane: Lane, wanted: Callable[[Said], bool]) -> None:
        kept = {message_id: said for message_id, said in self._lanes[lane].items() if wanted(said)}
        if kept:
            self._lanes[lane] = kept
        else:
            del self._lanes[lane]


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"
