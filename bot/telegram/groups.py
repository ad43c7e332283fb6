"""Groups: what is heard there, and what their admins may set.

The bot is a guest. It takes up only what is for it (bot.telegram.addressed); the rest is never written down, and kept
in memory for a while only where the operator wants questions to be understood from what was said before them
(bot.telegram.overheard). Everybody in a group has their own conversation there, and in each of its topics another one.

The admins of a group switch the bot off and on and pick its persona for new conversations, also when they may not talk
with it themselves, and anonymously: it is their group.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog
from telegram import ChatMember, ChatMemberRestricted, ChatMemberUpdated, Message, Update
from telegram.constants import ChatMemberStatus, ChatType
from telegram.error import BadRequest

from bot.asking import ask
from bot.assistant import Origin
from bot.errors import ChatError
from bot.telegram import addressed
from bot.telegram.inbox import CHANNEL
from bot.telegram.lanes import CLIENT_SPLITS_FROM
from bot.telegram.outgoing import delivered
from bot.telegram.overheard import Lane, Overheard, Said
from bot.telegram.quoting import origin_of
from bot.telegram.rendering import plain
from bot.telegram.view import Spot
from bot.telegram.visit import Visit, say
from bot.texts import Texts
from store import places, posts
from store.catalogue import owners
from store.errors import StoreError
from store.session import Store
from store.tables import Place

if TYPE_CHECKING:
    from bot.telegram.channel import TelegramChannel

log = structlog.get_logger("familiar.telegram")

STOPPED = "stopped_message_generation"  # Bot API 10.3; the library does not know it and leaves it in api_kwargs
GROUPS = (ChatType.GROUP, ChatType.SUPERGROUP)
ADMINS = (ChatMemberStatus.OWNER, ChatMemberStatus.ADMINISTRATOR)
MEMBERS = (*ADMINS, ChatMemberStatus.MEMBER)
SETTINGS = frozenset({"group", "persona"})  # the commands that an admin may give anonymously
SWITCH = {"on": True, "off": False, "开": True, "开启": True, "关": False, "关闭": False}
PLACE_FRESH_S = 5.0
MOST_PLACES = 1000
_SET = "set"  # noted of a group's new number: what is set there went along


class Groups:
    def __init__(self, channel: TelegramChannel, clock: Callable[[], float] = time.monotonic) -> None:
        self._channel = channel
        self._clock = clock
        self._telegram = channel.settings.telegram
        self._overheard = Overheard(self._telegram.group_context)
        self._places: OrderedDict[int, tuple[Place, float]] = OrderedDict()  # with when it was read; the newest last
        self._moved: set[int] = set()  # groups that got a new number while this process ran, by the new one
        self._unfinished: dict[tuple[Lane, int], float] = {}  # whose long text may have another piece until when
        self._undecided: dict[int, list[tuple[Message, bool]]] = {}  # what was overheard, and whether it is an edit,
        self._deciding: dict[int, asyncio.Task[None]] = {}  # while it is found out whether the bot is on in that group

    # What is heard

    def hears(self, update: Update) -> bool:
        """Is this for the bot? What is not is never written down."""
        if update.my_chat_member is not None:
            return self._is_invited(update.my_chat_member)
        if update.message_reaction is not None:
            return update.message_reaction.user is not None and not update.message_reaction.user.is_bot
        if update.callback_query is not None:
            return update.callback_query.message is not None
        message = update.message or update.edited_message
        if message is None:
            return STOPPED in update.api_kwargs
        if message.migrate_to_chat_id is not None:
            self._moved.add(message.migrate_to_chat_id)
            return True
        if not message.text and not message.effective_attachment:  # it only tells that something happened
            return False
        if message.chat.type == ChatType.PRIVATE:
            return addressed.by_a_person(message)
        return addressed.in_a_group(message) and self._hears_in_group(message, edited=update.edited_message is not None)

    async def listens(self, update: Update) -> bool:
        """Is this to be taken up as things stand here? Where it is switched off, only what may switch it on again is.

        Reactions come for everybody's messages; those on the bot's own count. Raises ChatError.
        """
        chat, message = update.effective_chat, update.message
        if chat is None or chat.type not in GROUPS:
            return True
        place = await self.place(update)
        if not place.enabled:
            return message is not None and _command_in(message) == "group"
        if update.message_reaction is not None:
            there = str(chat.id), str(update.message_reaction.message_id)
            return await ask(posts.message_at, self._channel.store, CHANNEL, *there) is not None
        return True

    def text_of(self, message: Message) -> str:
        """What the message says, without the bot's mention at its beginning or end."""
        return addressed.text_of(self._channel.bot, message)

    async def origin(self, visit: Visit, context: str = "") -> Origin:
        """What the model is shown beside the visit's message: see bot.telegram.quoting. Raises ChatError."""
        before: list[Said] = []
        if visit.message is not None and not visit.private:
            if (deciding := self._deciding.get(visit.spot.chat_id)) is not None:
                await asyncio.wait([deciding])
            before = self._overheard.before(_lane_of(visit.message), visit.message.message_id)
        room = self._channel.settings.engine.max_model_len // 2
        return await origin_of(self._channel.store, visit, self._channel.bot.id, before, room, context)

    def unhear(self, user_id: int) -> None:
        """Drop what is kept in memory of somebody who wants to be forgotten."""
        self._overheard.forget(user_id)
        for heard in self._undecided.values():
            heard[:] = [each for each in heard if _sender_of(each[0]) != user_id]

    def _hears_in_group(self, message: Message, *, edited: bool) -> bool:
        if addressed.by_an_anonymous_admin(message):
            return _command_in(message) in SETTINGS and addressed.is_for(self._channel.bot, message)
        if not addressed.by_a_person(message):
            return False
        if addressed.is_for(self._channel.bot, message) or self._is_next_piece(message):
            if not edited:
                self._expect_more(message)
            return True
        if message.text and self._overheard.is_on:
            self._overhear(message, edited)
        return False

    def _is_next_piece(self, message: Message) -> bool:
        """Of a long text that the client has split, only one piece mentions the bot or answers it."""
        until = self._unfinished.pop((_lane_of(message), _sender_of(message)), None)
        return until is not None and bool(message.text) and self._clock() <= until

    def _expect_more(self, message: Message) -> None:
        text = message.text or ""
        if len(text) >= CLIENT_SPLITS_FROM and not text.startswith("/"):
            now = self._clock()
            self._unfinished = {key: until for key, until in self._unfinished.items() if until >= now}
            self._unfinished[_lane_of(message), _sender_of(message)] = now + self._telegram.join_wait_long_s

    def _overhear(self, message: Message, edited: bool) -> None:
        """Keep it for a while, if the bot is switched on there."""
        chat_id = message.chat.id
        if chat_id in self._undecided:
            self._undecided[chat_id].append((message, edited))
        elif chat_id in self._places:
            self._keep(message, edited, self._places[chat_id][0])
        else:
            self._undecided[chat_id] = [(message, edited)]
            self._deciding[chat_id] = asyncio.create_task(self._decide(chat_id, message.chat.title or ""))

    async def _decide(self, chat_id: int, title: str) -> None:
        try:
            place = await self._place(chat_id, title)
        except ChatError as error:
            log.info("what was said in a group is not kept, as the store does not answer", problem=error.key)
        else:
            for message, edited in self._undecided[chat_id]:
                self._keep(message, edited, place)
        finally:
            del self._undecided[chat_id], self._deciding[chat_id]

    def _keep(self, message: Message, edited: bool, place: Place) -> None:
        if place.enabled and message.from_user is not None and message.text:
            user, at = message.from_user, message.date.timestamp()
            said = Said(message.message_id, user.id, user.first_name, message.text, at)
            self._overheard.hear(_lane_of(message), said, edited=edited)

    def _is_invited(self, change: ChatMemberUpdated) -> bool:
        if change.chat.type not in GROUPS:
            return False
        if not _is_member(change.new_chat_member):
            self._overheard.leave(change.chat.id)
            self._undecided.get(change.chat.id, []).clear()
            return False
        return not _is_member(change.old_chat_member) and change.chat.id not in self._moved

    # What is set

    async def place(self, update: Update) -> Place:
        """What is set in the update's group; as it was some seconds ago at most. Raises ChatError."""
        chat = update.effective_chat
        assert chat is not None, "only what stands in a chat is asked about"
        return await self._place(chat.id, chat.title or "")

    async def group(self, visit: Visit) -> None:
        """/group: show what is set here. /group on, /group off: for admins, of the group or of the bot."""
        if visit.private:
            raise ChatError("only_in_groups", name="group")
        if not visit.argument:
            await self._show(visit.update, visit.spot, visit.texts)
            return
        if not visit.admin and not await self.is_by_admin(visit.update):
            raise ChatError("group_admins_only")
        await self._switch(visit.spot, visit.texts, visit.argument)

    async def use_persona(self, visit: Visit, name: str) -> bool:
        """Let new conversations in this group have this persona, when an admin of the group asks for it.

        False when it is none: then the persona is only for their own conversation. Raises ChatError.
        """
        if visit.private or not await self.is_by_admin(visit.update):
            return False
        await self._set_persona(visit.spot.chat_id, name)
        return True

    async def is_by_admin(self, update: Update) -> bool:
        """Did an admin of the group do this? Raises Gone, Undelivered, TelegramError."""
        message, chat, user = update.message, update.effective_chat, update.effective_user
        if message is not None and message.sender_chat is not None:
            return addressed.by_an_anonymous_admin(message)
        if chat is None or user is None:
            return False
        try:
            member = await delivered(lambda: self._channel.bot.get_chat_member(chat.id, user.id))
        except BadRequest as error:  # e.g. the group hides its members from the bot
            log.info("whether somebody is an admin of a group cannot be told", reason=str(error))
            return False
        return member.status in ADMINS

    async def settled(self, update: Update, spot: Spot, texts: Texts) -> bool:
        """Do what an admin of a group may do without being let in to talk; False when it is nothing of the kind.

        Raises ChatError.
        """
        message = update.message
        if message is None or not addressed.in_a_group(message):
            return False
        command, argument = _command_in(message), _argument_in(message)
        if command not in SETTINGS or (command == "persona" and not argument) or not await self.is_by_admin(update):
            return False
        if command == "persona":
            await self._set_persona(spot.chat_id, argument)
            await self._say(spot, texts.t("group.persona", persona=self._title_of(argument)))
        elif argument:
            await self._switch(spot, texts, argument)
        else:
            await self._show(update, spot, texts)
        return True

    async def membership(self, visit: Visit) -> None:
        """The bot was taken into a group: say how one talks with it there."""
        change, texts, bot = visit.update.my_chat_member, visit.texts, self._channel.bot
        if change is None:
            return
        reads_all = bot.can_read_all_group_messages or change.new_chat_member.status in ADMINS
        count = self._telegram.group_context
        lines = [
            texts.t("group.hello" if reads_all else "group.hello_in_privacy_mode", bot=bot.first_name, at=bot.username),
            texts.t("group.reads_before", count=count) if reads_all and count else texts.t("group.reads_nothing_else"),
            texts.t("group.for_admins"),
        ]
        await visit.say("\n\n".join(lines))

    async def moved(self, update: Update, _: object = None) -> None:
        """A group that becomes a supergroup gets another number, and what is set there and its documents go along.

        Conversations begin anew: those of before can still be opened with /list. What did not go along for now does so
        after the next start.
        """
        message = update.message
        if message is None or message.migrate_to_chat_id is None:
            return
        old_id, new_id = message.chat.id, message.migrate_to_chat_id
        arrival = self._channel.inbox.arrival(update)
        try:
            if _SET not in arrival.progress:  # not twice: it may have been set anew since
                await asyncio.to_thread(_move, self._channel.store, str(old_id), str(new_id))
                await self._channel.inbox.note(arrival, **{_SET: True})
            if self._channel.library is not None:
                old, new = owners.group(CHANNEL, str(old_id)), owners.group(CHANNEL, str(new_id))
                await self._channel.library.move(old, new)
        except (StoreError, ChatError) as error:
            log.error("what is a group's did not all go along to its new number", reason=str(error), to=new_id)
            arrival.keep = True
        self._places.pop(new_id, None)
        self._overheard.leave(old_id)

    async def _place(self, chat_id: int, title: str = "") -> Place:
        known = self._places.get(chat_id)
        if known is not None and title in ("", known[0].title) and self._clock() - known[1] < PLACE_FRESH_S:
            return known[0]
        read = await ask(places.place, self._channel.store, CHANNEL, str(chat_id), title)
        newer = self._places.get(chat_id)
        if newer is not None and newer is not known:  # something was set while this was read
            return newer[0]
        return self._known(chat_id, read)

    def _known(self, chat_id: int, place: Place) -> Place:
        self._places[chat_id] = place, self._clock()
        self._places.move_to_end(chat_id)
        if len(self._places) > MOST_PLACES:
            self._places.popitem(last=False)
        return place

    async def _configure(self, chat_id: int, *, enabled: bool | None = None, persona: str | None = None) -> Place:
        configured = await ask(
            places.configure, self._channel.store, CHANNEL, str(chat_id), enabled=enabled, persona=persona
        )
        return self._known(chat_id, configured)

    async def _switch(self, spot: Spot, texts: Texts, given: str) -> None:
        enabled = SWITCH.get(given.strip().lower())
        if enabled is None:
            raise ChatError("usage", name="group", hint=texts.t("hint.group"))
        await self._configure(spot.chat_id, enabled=enabled)
        if not enabled:
            self._overheard.leave(spot.chat_id)
        await self._say(spot, texts.t("group.switched_on" if enabled else "group.switched_off"))

    async def _set_persona(self, chat_id: int, name: str) -> None:
        if self._channel.settings.persona_named(name) is None:
            known = ", ".join(persona.name for persona in self._channel.settings.persona)
            raise ChatError("no_such_persona", name=name, known=known)
        await self._configure(chat_id, persona=name)

    async def _show(self, update: Update, spot: Spot, texts: Texts) -> None:
        place = await self.place(update)
        lines = [
            texts.t("group.is_on" if place.enabled else "group.is_off"),
            texts.t("group.persona_is", persona=self._title_of(place.persona)),
            texts.t("group.for_admins"),
        ]
        await self._say(spot, "\n\n".join(lines))

    def _title_of(self, persona: str) -> str:
        settings = self._channel.settings
        found = settings.persona_named(persona) or settings.persona_named(settings.assistant.persona)
        return (found.title or found.name) if found else persona

    async def _say(self, spot: Spot, text: str) -> None:
        await say(self._channel.out, spot, plain(text))


def _is_member(member: ChatMember) -> bool:
    return member.status in MEMBERS or (isinstance(member, ChatMemberRestricted) and member.is_member)


def _lane_of(message: Message) -> Lane:
    return message.chat.id, message.message_thread_id if message.is_topic_message else None


def _sender_of(message: Message) -> int:
    return message.from_user.id if message.from_user else 0


def _command_in(message: Message) -> str:
    given = addressed.command_in(message)
    return given[0] if given else ""


def _argument_in(message: Message) -> str:
    parts = (message.text or "").split(maxsplit=1)
    return parts[1].strip() if len(parts) > 1 else ""


def _move(store: Store, old_id: str, new_id: str) -> None:
    """Blocks."""
    old = places.place(store, CHANNEL, old_id)
    places.place(store, CHANNEL, new_id, old.title)
    places.configure(store, CHANNEL, new_id, enabled=old.enabled, persona=old.persona)
