"""A message to everybody else who may talk here, from an admin who has seen it as they will see it.

What is sent is the message that the buttons stand under, formatting included. It goes to one chat after the other and
gives way to replies. A chat that Telegram wants left alone for a while is written to at the end.

Each broadcast has a row of its own in the store's inbox, by the message with the buttons. So it is sent once, however
often the button is pressed; and after a restart it goes on behind the last one who got it.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from telegram import Message, MessageEntity
from telegram.error import RetryAfter, TelegramError

from bot.asking import ask
from bot.errors import ChatError
from bot.telegram import keyboards
from bot.telegram.inbox import CHANNEL
from bot.telegram.limiter import Priority
from bot.telegram.outgoing import Gone, Undelivered
from bot.telegram.rendering import Part
from bot.telegram.status import Status
from bot.telegram.visit import Visit, say
from store import access, inbox, people
from store.tables import Inbox

if TYPE_CHECKING:
    from bot.telegram.channel import TelegramChannel

STATUS_EVERY_S = 3.0


@dataclass
class _Line:
    """Who is to be written to, in order, and how far that is."""

    people: list[int]
    later: list[int] = field(default_factory=list)  # those whose chat was to be left alone, behind all the others
    at: int = 0
    reached: int = 0

    @property
    def next(self) -> int | None:
        line, at = (self.later, self.at - len(self.people)) if self.again else (self.people, self.at)
        return line[at] if at < len(line) else None

    @property
    def again(self) -> bool:
        """Is the next one tried for the second time?"""
        return self.at >= len(self.people)

    @property
    def settled(self) -> int:
        """How many got it, or cannot get it."""
        return self.at - len(self.later)

    @property
    def ending(self) -> str:
        """The key of what is said of it at the end."""
        if self.next is not None:
            return "admin.broadcast_stopped"
        return "admin.broadcast_sent_all" if self.reached == len(self.people) else "admin.broadcast_sent"

    def take(self, arrived: bool | None) -> None:
        """What came of writing to the next one; None: not now."""
        if arrived is None and not self.again:
            self.later.append(self.people[self.at])
        self.at += 1
        self.reached += bool(arrived)


class Broadcasts:
    def __init__(self, channel: TelegramChannel) -> None:
        self._channel = channel
        self._running: dict[str, asyncio.Event] = {}  # by key, to stop them

    async def offer(self, visit: Visit) -> None:
        """Show what would be sent and to how many; nothing is sent before a button is pressed."""
        if not visit.private:
            raise ChatError("only_in_private")
        if not visit.argument:
            raise ChatError("usage", name="broadcast", hint=visit.texts.t("hint.broadcast"))
        count = len(await self._others(visit))
        if not count:
            raise ChatError("nobody_to_write_to")
        texts = visit.texts
        buttons = [
            (texts.t("admin.button_send", count=count), "broadcast:send"),
            (texts.t("admin.button_cancel"), "broadcast:no"),
        ]
        await visit.tell("admin.broadcast_preview", count=count)
        await say(visit.out, visit.spot, [_as_written(visit)], keyboards.choices(buttons))

    async def button(self, visit: Visit) -> None:
        what, _, named = visit.argument.partition(":")
        if what == "stop" and named.isdecimal():
            await self._stop(visit, int(named))
        elif visit.message is None or not visit.message.text:  # so old that Telegram does not tell what it is
            raise ChatError("broadcast_gone")
        elif what == "send":
            await self._send(visit, visit.message)
        elif what == "no":
            await self._drop(visit, visit.message)

    async def _send(self, visit: Visit, message: Message) -> None:
        key = self._key(visit, message.message_id)
        if key in self._running:
            await self._settled(visit, message)
            return
        stop = self._running[key] = asyncio.Event()
        try:
            row = await self._row(visit, key)
            if row is None:
                await self._settled(visit, message)
                return
            await visit.answer()
            await visit.out.mark(visit.spot.chat_id, message.message_id, None)
            await self._write_to_all(visit, row, message, stop)
        finally:
            del self._running[key]

    async def _drop(self, visit: Visit, message: Message) -> None:
        """Send nothing, and let no later press do it."""
        row = await ask(inbox.receive, self._channel.store, CHANNEL, self._key(visit, message.message_id), {})
        if row is None:
            await self._settled(visit, message)
            return
        await ask(inbox.done, self._channel.store, [row])
        await visit.answer()
        await visit.out.mark(visit.spot.chat_id, message.message_id, None)
        await visit.tell("admin.broadcast_dropped")

    async def _stop(self, visit: Visit, message_id: int) -> None:
        stop = self._running.get(self._key(visit, message_id))
        if stop is not None:
            stop.set()
        await visit.answer()

    async def _settled(self, visit: Visit, message: Message) -> None:
        """It was decided about before."""
        await visit.answer(visit.texts.t("admin.broadcast_settled"), alert=True)
        await visit.out.mark(visit.spot.chat_id, message.message_id, None)

    async def _write_to_all(self, visit: Visit, row: Inbox, message: Message, stop: asyncio.Event) -> None:
        texts, part = visit.texts, Part(message.text or "", tuple(message.entities))
        line = _Line(**{"people": row.payload["people"]} | row.progress)
        count = len(line.people)
        button = keyboards.choices([(texts.t("telegram.button_stop"), f"broadcast:stop:{message.message_id}")])
        status = Status(visit, self._channel.inbox, STATUS_EVERY_S, button)
        try:
            await status.begin(texts.t("admin.broadcast_under_way", at=line.settled, count=count))
            while (person := line.next) is not None and not stop.is_set():
                if self._channel.lanes.closing:
                    visit.arrivals[0].keep = True  # it goes on after the next start
                    return
                line.take(await self._write_to(person, part, "normal" if line.again else "cosmetic"))
                await self._note(row, line)
                status.show(texts.t("admin.broadcast_under_way", at=line.settled, count=count))
            with contextlib.suppress(Gone, TelegramError):
                await status.end(texts.t(line.ending, reached=line.reached, count=count))
            await ask(inbox.done, self._channel.store, [_id(row)])
        finally:
            status.close()

    async def _write_to(self, person: int, part: Part, priority: Priority) -> bool | None:
        """Whether it arrived; None when Telegram wants this chat left alone for now. Waits for the network."""
        while True:
            try:
                await self._channel.out.say(person, part, priority=priority)
            except (Gone, TelegramError) as error:
                self._channel.log.info("a broadcast did not reach somebody", person=person, reason=str(error))
                return False
            except Undelivered as error:
                if isinstance(error.__cause__, RetryAfter):
                    return None
            else:
                return True

    async def _note(self, row: Inbox, line: _Line) -> None:
        """Remember how far it is. When that cannot be, the others get it all the same."""
        try:
            await ask(inbox.note, self._channel.store, _id(row), later=line.later, at=line.at, reached=line.reached)
        except ChatError as error:
            self._channel.log.warning("how far a broadcast is cannot be written down", reason=str(error))

    async def _row(self, visit: Visit, key: str) -> Inbox | None:
        """The broadcast's row, made now or before a restart; None when it is over, or going on."""
        store = self._channel.store
        payload = {"people": await self._others(visit)}
        await ask(inbox.receive, store, CHANNEL, key, payload, external_id=str(visit.user.id))
        waiting = await ask(inbox.waiting, store, CHANNEL)
        return next((row for row in waiting if row.key == key), None)

    async def _others(self, visit: Visit) -> list[int]:
        """Everybody who may talk and has, or was approved, but the admin who sends it and has just seen it."""
        store = self._channel.store
        known = [identity for person in await ask(people.everybody, store) for identity in person.identities]
        known += [(row.channel, row.external_id) for row in await ask(access.listing, store) if row.state == "allowed"]
        ours = list(dict.fromkeys(external_id for channel, external_id in known if channel == CHANNEL))
        standings = await self._channel.access.standings(CHANNEL, ours)
        allowed = [each for each in ours if standings[each].state == "allowed"]
        numbers = [int(each) for each in allowed if each.isdecimal()]  # one below 0 is a group's
        return [number for number in numbers if number != visit.user.id]

    def _key(self, visit: Visit, message_id: int) -> str:
        return f"broadcast:{self._channel.bot.id}:{visit.spot.chat_id}:{message_id}"


def _as_written(visit: Visit) -> Part:
    """What follows the command, with the formatting that it was given."""
    message, text = visit.message, visit.argument
    if message is None or not message.text:
        return Part(text, ())
    before = message.text[: len(message.text.rstrip()) - len(text)]
    units = len(before.encode("utf-16-le")) // 2
    return Part(text, tuple(MessageEntity.shift_entities(-units, [e for e in message.entities if e.offset >= units])))


def _id(row: Inbox) -> int:
    assert row.id is not None, "a stored row has an id"
    return row.id
