"""What the admins are told without having asked: how learning went, written down by whatever process it went on in.

Each admin gets each notice once, in their own language. One who cannot be reached now gets it later, for a week; one
whom nothing can reach does not hold it up.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from telegram.error import TelegramError

from bot.asking import ask
from bot.errors import ChatError
from bot.telegram.inbox import CHANNEL
from bot.telegram.outgoing import Gone, Undelivered
from bot.telegram.rendering import plain
from bot.texts import Texts, texts_for
from store import access, notices, people
from store.tables import Notice, now

if TYPE_CHECKING:
    from bot.telegram.channel import TelegramChannel

NEWS_FOR = timedelta(days=7)


class Notices:
    def __init__(self, channel: TelegramChannel) -> None:
        self._channel = channel
        self._sending = False

    async def send(self) -> None:
        """Whatever waits, to everybody who lacks it. What fails is tried again the next time."""
        if self._sending:
            return
        self._sending = True
        try:
            await self._send()
        except ChatError as error:
            self._channel.log.warning("the admins cannot be told now", reason=str(error))
        finally:
            self._sending = False

    async def _send(self) -> None:
        store = self._channel.store
        waiting = await ask(notices.waiting, store, since=now() - NEWS_FOR)
        admins = await self._admins() if waiting else []
        for notice in waiting if admins else ():
            lacking = [admin for admin in admins if f"{CHANNEL}:{admin}" not in notice.told]
            reached = [await self._tell(notice, admin) for admin in lacking]
            if all(reached):
                await ask(notices.sent, store, _id(notice))

    async def _tell(self, notice: Notice, admin: int) -> bool:
        """False when it is to be tried again."""
        texts = await self._texts(admin)
        text = texts.by_key.get(notice.key)
        if text is None:
            self._channel.log.error("a notice has no text", key=notice.key)
            return True
        try:
            for part in plain(text.format(**notice.args)):
                await self._channel.out.say(admin, part, patient=False)
        except Gone as error:
            self._channel.log.warning("an admin cannot be told anything", admin=admin, reason=str(error))
        except (Undelivered, TelegramError) as error:
            self._channel.log.warning("an admin could not be told yet", admin=admin, reason=str(error))
            return False
        await ask(notices.told, self._channel.store, _id(notice), f"{CHANNEL}:{admin}")
        return True

    async def _admins(self) -> list[int]:
        """Those of config.toml, and those who were made admins here."""
        named = [each.partition(":") for each in self._channel.settings.access.admins]
        numbers = [number for channel, _, number in named if channel == CHANNEL]
        rows = await ask(access.listing, self._channel.store)
        numbers += [
            row.external_id for row in rows if (row.channel, row.state, row.role) == (CHANNEL, "allowed", "admin")
        ]
        return list(dict.fromkeys(int(number) for number in numbers if number.isdecimal()))

    async def _texts(self, admin: int) -> Texts:
        fixed = self._channel.settings.assistant.language
        if fixed != "auto":
            return texts_for(fixed)
        person = await ask(people.with_identity, self._channel.store, CHANNEL, str(admin))
        return texts_for(person.language if person else "")


def _id(notice: Notice) -> int:
    assert notice.id is not None, "a stored row has an id"
    return notice.id
