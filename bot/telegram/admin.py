"""What the people who run the bot can do from their phone: see who talks here, decide who may, and how it all is.

Who is on these lists is nobody else's business, so they are shown in private chats only. Letting somebody in or
shutting them out works in a group, too, where one can answer a message of theirs.
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections import OrderedDict
from typing import TYPE_CHECKING

from telegram import InlineKeyboardMarkup, Message, User
from telegram.error import TelegramError

from bot import pairing
from bot.access import Standing
from bot.asking import ask
from bot.errors import ChatError, kind_of
from bot.events import Waiting
from bot.telegram import keyboards, menu
from bot.telegram.broadcast import Broadcasts
from bot.telegram.inbox import CHANNEL
from bot.telegram.outgoing import Gone, Undelivered
from bot.telegram.promotion import Promotion
from bot.telegram.rendering import plain
from bot.telegram.visit import Visit
from bot.texts import Texts, texts_for
from engine.errors import EngineError
from engine.process import LocalEngine
from store import lineage, people
from store.people import Known
from store.tables import Access

if TYPE_CHECKING:
    from bot.telegram.channel import TelegramChannel

SHOWN = 30  # people in a list, and requests
LONGEST_NAME = 40  # characters
REMEMBERED = 500  # strangers whose language is known


class Admin:
    def __init__(self, channel: TelegramChannel) -> None:
        self._channel = channel
        self._languages: OrderedDict[int, str] = OrderedDict()  # of strangers, who have no row that would hold it
        broadcasts = Broadcasts(channel)
        self.broadcast, self.broadcast_button = broadcasts.offer, broadcasts.button
        self.adapter = Promotion(channel).adapter

    def heard_from(self, stranger: User) -> None:
        """Remember the language in which somebody can be told that they are let in."""
        self._languages[stranger.id] = stranger.language_code or ""
        self._languages.move_to_end(stranger.id)
        while len(self._languages) > REMEMBERED:
            self._languages.popitem(last=False)

    async def users(self, visit: Visit) -> None:
        """Who waits, with a button for each; who talks here; and about whom else something was decided."""
        _only_in_private(visit)
        texts, store = visit.texts, self._channel.store
        rows = [row for row in await ask(pairing.listing, store) if row.channel == CHANNEL]
        known = {
            external_id: person
            for person in await ask(people.everybody, store)
            for channel, external_id in person.identities
            if channel == CHANNEL
        }
        names = {row.external_id: row.name for row in rows} | {each: person.name for each, person in known.items()}
        standings = await self._channel.access.standings(CHANNEL, list(names))
        waiting = [row for row in rows if standings[row.external_id].state == "pending"]
        decided = [row.external_id for row in rows if row.state != "pending" and row.external_id not in known]
        listed = [*known, *decided]
        lines = [texts.t("admin.users", count=len(known))]
        lines += [_about(texts, each, names[each], standings[each], known.get(each)) for each in listed[:SHOWN]]
        if waiting:
            lines += ["", texts.t("admin.users_waiting", count=len(waiting))]
            lines += [f"{_short(row.name) or row.external_id} · {row.code}" for row in waiting[:SHOWN]]
        if left_out := len(listed[SHOWN:]) + len(waiting[SHOWN:]):
            lines += ["", texts.t("admin.users_more", count=left_out)]
        buttons = [
            (texts.t("admin.button_approve", name=_short(row.name) or row.external_id), f"approve:{row.code}")
            for row in waiting[:SHOWN]
        ]
        await visit.say("\n".join(lines), keyboards.choices(buttons) if buttons else None)

    async def approve(self, visit: Visit) -> None:
        """By code or number; with the word "admin" behind it, as an admin. Also the buttons of the list."""
        given, _, last = visit.argument.rpartition(" ")
        admin = bool(given) and last.lower() == "admin"
        whom = _whom(visit, given.strip() if admin else visit.argument, "approve")
        row = await ask(pairing.approve, self._channel.store, whom, admin=admin)
        told = await self._tell_approved(visit, row, admin)
        text = visit.texts.t("admin.approved" if told else "admin.approved_untold", who=_named(row))
        if visit.update.callback_query is None:
            await visit.say(text)
            return
        await visit.answer(text)
        if visit.message is not None:
            left = _without(visit.message.reply_markup, visit.update.callback_query.data or "")
            await visit.out.mark(visit.spot.chat_id, visit.message.message_id, left)

    async def block(self, visit: Visit) -> None:
        whom = _whom(visit, visit.argument, "block")
        if whom == f"{CHANNEL}:{visit.user.id}":
            raise ChatError("cannot_block_yourself")
        row = await ask(pairing.block, self._channel.store, whom, admins=self._channel.settings.access.admins)
        if row.channel == CHANNEL:
            self._channel.replies.stop_all(int(row.external_id))
        await visit.tell("admin.blocked", who=_named(row), id=row.external_id)

    async def unblock(self, visit: Visit) -> None:
        row = await ask(pairing.unblock, self._channel.store, _whom(visit, visit.argument, "unblock"))
        await visit.tell("admin.unblocked", who=_named(row))

    async def stats(self, visit: Visit) -> None:
        """Of everybody together, and how the bot and the engine are."""
        channel, texts = self._channel, visit.texts
        totals = await ask(people.totals, channel.store)
        lines = [
            texts.t("admin.stats"),
            texts.t("admin.stats_people", count=totals.people, consented=totals.consented),
            texts.t("stats.conversations", count=totals.conversations),
            texts.t("stats.messages", count=totals.messages),
            texts.t("stats.replies", count=totals.replies),
            texts.t("stats.rated", up=totals.rated_up, down=totals.rated_down),
            texts.t("stats.corrected", count=totals.corrected),
            texts.t("stats.tokens", prompt=totals.prompt_tokens, completion=totals.completion_tokens),
            texts.t(
                "admin.stats_now",
                replies=len(channel.replies),
                waiting=max(0, channel.inbox.waiting - len(visit.arrivals)),
            ),
            await self._engine(texts),
        ]
        for each in await ask(lineage.to_leave_out, channel.store):
            lines.append(texts.t("admin.stats_leave_out", adapter=each.adapter, count=each.conversations))
        await visit.say("\n".join(lines))

    async def _engine(self, texts: Texts) -> str:
        """How the engine is, without waking it."""
        client = self._channel.assistant.client
        if isinstance(client.connection, LocalEngine):
            state = await asyncio.to_thread(client.connection.state)
            if state.phase == "stopped":
                return texts.t("admin.engine_asleep")
            if state.phase != "ready" or state.address is None:
                return texts.waiting(Waiting(state.phase, 0, state.detail))
            return texts.t("admin.engine_ready", model=state.address.model)
        try:
            return texts.t("admin.engine_ready", model=(await client.address()).model)
        except EngineError as error:
            return texts.problem(ChatError(kind_of(error) or "unexpected", detail=str(error)))

    async def _tell_approved(self, visit: Visit, row: Access, admin: bool) -> bool:
        """In their language, as far as it is known; False when that could not be."""
        if row.channel != CHANNEL:
            return False
        chat_id, fixed = int(row.external_id), self._channel.settings.assistant.language
        person = await ask(people.with_identity, self._channel.store, CHANNEL, row.external_id)
        theirs = (person.language if person else "") or self._languages.get(chat_id, "")
        texts = visit.texts if fixed != "auto" or not theirs else texts_for(theirs)
        text = texts.t("access.approved_admin" if admin else "access.approved")
        try:
            for part in plain(text):
                await visit.out.say(chat_id, part, patient=False)
        except (Gone, Undelivered, TelegramError) as error:
            self._channel.log.info("somebody was let in and could not be told", reason=str(error))
            return False
        if admin:
            await menu.for_person(self._channel.bot, chat_id, texts.language, admin=True)
        return True


def _whom(visit: Visit, given: str, command: str) -> str:
    """The code or identity that a command names, or whose message it answers. Raises ChatError."""
    given = given.strip()
    if given:
        return f"{CHANNEL}:{given}" if unicodedata.normalize("NFKC", given).isdecimal() else given
    answered = visit.message.reply_to_message if visit.message else None
    author = answered.from_user if isinstance(answered, Message) else None
    if author is None or author.is_bot:
        raise ChatError("usage", name=command, hint=visit.texts.t(f"hint.{command}"))
    return f"{CHANNEL}:{author.id}"


def _about(texts: Texts, external_id: str, name: str, standing: Standing, person: Known | None) -> str:
    state = texts.t(f"admin.is_{'admin' if standing.admin else standing.state}")
    who = f"{_short(name)} · {external_id}" if name else external_id
    if person is None or person.last_at is None:
        return texts.t("admin.user_silent", who=who, state=state)
    date = f"{person.last_at.astimezone():%Y-%m-%d}"
    return texts.t("admin.user", who=who, state=state, count=person.messages, date=date)


def _named(row: Access) -> str:
    return f"{_short(row.name)} ({row.external_id})" if row.name else row.external_id


def _short(name: str) -> str:
    line = " ".join(name.split())
    return line if len(line) <= LONGEST_NAME else f"{line[: LONGEST_NAME - 1]}…"


def _without(keyboard: InlineKeyboardMarkup | None, said: str) -> InlineKeyboardMarkup | None:
    """The buttons but the one that says this; None when there is none left."""
    rows = [
        [button for button in row if button.callback_data != said]
        for row in (keyboard.inline_keyboard if keyboard else ())
    ]
    left = [row for row in rows if row]
    return InlineKeyboardMarkup(left) if left else None


def _only_in_private(visit: Visit) -> None:
    if not visit.private:
        raise ChatError("only_in_private")
