"""The Telegram channel: everything that its handlers share, and the way of an update to its handler.

Whoever may not talk here is told so before anything is kept of them. What a person can cause or cure is said in their
language; what they cannot is logged under a number that is shown to them.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import structlog
from telegram import CallbackQuery, Message, Update, User
from telegram.error import TelegramError
from telegram.ext import CallbackContext

from bot.access import Access, Standing
from bot.asking import ask
from bot.assistant import Assistant
from bot.chat import Chat
from bot.errors import ChatError, kind_of
from bot.events import Failed
from bot.library import Library
from bot.telegram.admin import Admin
from bot.telegram.conversation import ConversationCommands
from bot.telegram.feedback import Feedback
from bot.telegram.files import Files
from bot.telegram.groups import Groups
from bot.telegram.inbox import CHANNEL, Arrival, InboxQueue
from bot.telegram.lanes import Lanes, gap_after
from bot.telegram.outgoing import Gone, Outgoing, TelegramBot, Undelivered
from bot.telegram.rendering import plain
from bot.telegram.replies import Replies
from bot.telegram.rights import Rights
from bot.telegram.sources import Sources
from bot.telegram.turns import Turns
from bot.telegram.view import Drafts, Spot
from bot.telegram.visit import Visit, say
from bot.telemetry import Metrics, turn_id
from bot.texts import Texts, texts_for
from settings import Settings
from store import people
from store.errors import StoreError
from store.session import Store

Action = Callable[[Visit], Awaitable[None]]
Handler = Callable[[Update, CallbackContext[Any, Any, Any, Any]], Coroutine[Any, Any, None]]


class TelegramChannel:
    inbox: InboxQueue  # these three are there once the application is built, see bot.telegram.application
    lanes: Lanes
    out: Outgoing

    def __init__(
        self,
        assistant: Assistant,
        settings: Settings,
        access: Access,
        metrics: Metrics,
        library: Library | None = None,
    ) -> None:
        """`library`: where documents go; without it none are taken, and replies show no sources of earlier ones."""
        self.assistant = assistant
        self.settings = settings
        self.access = access
        self.metrics = metrics
        self.log = structlog.get_logger("familiar.telegram")
        self.replies = Replies()
        self.drafts = Drafts()
        self.library = library
        self.sources = Sources(self)
        self.turns = Turns(self)
        self.conversation = ConversationCommands(self)
        self.feedback = Feedback(self)
        self.rights = Rights(self)
        self.groups = Groups(self)
        self.files = Files(self)
        self.admin = Admin(self)

    @property
    def store(self) -> Store:
        return self.assistant.store

    @property
    def bot(self) -> TelegramBot:
        return self.out.bot

    @property
    def name(self) -> str:
        """How the bot is called where people see it."""
        return self.bot.first_name

    def handler(self, action: Action, *, for_admins: bool = False, quiet: bool = False) -> Handler:
        """What python-telegram-bot calls for an update. A `quiet` one tells a person nothing when they may not talk."""

        async def handle(update: Update, context: CallbackContext[Any, Any, Any, Any]) -> None:
            spot = _spot_of(update)
            with structlog.contextvars.bound_contextvars(turn=turn_id(), chat=spot.chat_id, update=update.update_id):
                await self._guarded(update, spot, action, for_admins, quiet)

        return handle

    async def visit(self, update: Update, spot: Spot, user: User, standing: Standing) -> Visit:
        private = _is_private(update)
        place = await self.groups.place(update) if not private else None
        chat = await Chat.open(
            self.assistant,
            channel=CHANNEL,
            external_id=str(user.id),
            name=user.first_name,
            language=user.language_code or "",
            latest=True,
            place=_place_key(spot, private),
            persona=place.persona if place else "",
        )
        arrivals = tuple(self.lanes.pieces(update))
        argument = _argument_of(update, arrivals)
        return Visit(update, arrivals, user, chat, spot, private, standing.admin, self.out, argument)

    async def _guarded(self, update: Update, spot: Spot, action: Action, for_admins: bool, quiet: bool) -> None:
        user = update.effective_user
        if user is None:
            return
        self.metrics.update(CHANNEL, _kind_of(update))
        fixed = self.settings.assistant.language
        texts = texts_for(user.language_code or "en" if fixed == "auto" else fixed)
        try:
            if not await self.groups.listens(update):
                if update.callback_query is not None:
                    await self.out.answer(update.callback_query.id)
                return
            if update.message_reaction is not None and not await self._knows(user):
                return  # who has a reply to rate is known, and a mere look at others' makes nobody known
            if user.is_bot:  # as whom Telegram shows the admins of a group who stay anonymous
                await self.groups.settled(update, spot, texts)
                return
            standing = await self.access.standing(CHANNEL, str(user.id), user.full_name)
            if standing.state != "allowed":
                if not await self.groups.settled(update, spot, texts) and not quiet:
                    await self._turn_away(update, spot, standing, texts)
                return
            visit = await self.visit(update, spot, user, standing)
            texts = visit.texts
            if for_admins and not visit.admin:
                raise ChatError("admins_only")
            if not visit.private and not _stands_there(update.callback_query):
                raise ChatError("button_gone")
            await action(visit)
        except ChatError as error:
            await self._tell(update, spot, texts.problem(error))
        except StoreError as error:
            problem = ChatError(kind_of(error) or "store_failed", detail=str(error))
            await self._tell(update, spot, texts.problem(problem))
        except Gone as error:
            self.log.info("nothing can be said in this chat any more", reason=str(error))
        except Undelivered as error:
            self.log.error("Telegram cannot be reached; this is handled after the next start", reason=str(error))
            self._keep(update)
        except Exception as error:
            incident = secrets.token_hex(4)
            self.metrics.error(type(error).__name__)
            self.log.exception("unexpected", incident=incident)
            await self._tell(update, spot, texts.problem(Failed("unexpected", "", incident)))

    async def _knows(self, user: User) -> bool:
        return await ask(people.with_identity, self.store, CHANNEL, str(user.id)) is not None

    async def _turn_away(self, update: Update, spot: Spot, standing: Standing, texts: Texts) -> None:
        """Say why nothing happens, and what to do."""
        if not _is_private(update):
            text = texts.t("access.write_in_private", bot=self.name)
        elif standing.state == "pending":
            if update.effective_user is not None:
                self.admin.heard_from(update.effective_user)
            text = texts.t("access.pairing", code=standing.code)
        else:
            text = texts.t("access.blocked" if standing.state == "blocked" else "access.not_allowed")
        await self._tell(update, spot, text)

    async def _tell(self, update: Update, spot: Spot, text: str) -> None:
        """Say a problem where it is seen: over the button that was pressed, else in the chat."""
        try:
            query = update.callback_query
            if query is not None and len(text) <= 200 and await self.out.answer(query.id, text, alert=True):
                return
            if query is not None:
                await self.out.answer(query.id)
            await say(self.out, spot, plain(text))
        except Undelivered:
            self._keep(update)
        except (Gone, TelegramError) as error:
            self.log.warning("a person could not be told of a problem", reason=str(error))

    def _keep(self, update: Update) -> None:
        for arrival in self.lanes.pieces(update):
            arrival.keep = True


def _spot_of(update: Update) -> Spot:
    message, chat = update.effective_message, update.effective_chat
    thread_id = message.message_thread_id if isinstance(message, Message) and message.is_topic_message else None
    written = update.message or update.edited_message
    quote = written is not None and (not _is_private(update) or update.edited_message is not None)
    return Spot(chat.id if chat else 0, thread_id, written.message_id if written and quote else None)


def _is_private(update: Update) -> bool:
    return update.effective_chat is not None and update.effective_chat.type == "private"


def _place_key(spot: Spot, private: bool) -> str:
    """Where a conversation takes place: each group and each thread has its own, and so has each person in it."""
    chat = "" if private else str(spot.chat_id)
    return f"{chat}/{spot.thread_id}" if spot.thread_id else chat


def _argument_of(update: Update, arrivals: Sequence[Arrival]) -> str:
    """What follows the command, with its line breaks; of a button, what follows its first word."""
    if update.callback_query is not None:
        return (update.callback_query.data or "").partition(":")[2]
    message = update.message
    if message is None or not (message.text or message.caption or "").startswith("/"):
        return ""
    pieces = [arrival.update.message for arrival in arrivals if arrival.update.message]
    texts = [piece.text or piece.caption or "" for piece in pieces]
    parts = "".join(text + gap_after(text) for text in texts).split(maxsplit=1)
    return parts[1].strip() if len(parts) > 1 else ""


def _stands_there(query: CallbackQuery | None) -> bool:
    """Whether a press is of a button that its message has. A client can claim to have pressed whatever it likes.

    True for what is no press.
    """
    if query is None:
        return True
    markup = query.message.reply_markup if isinstance(query.message, Message) else None
    return markup is not None and any(
        button.callback_data == query.data for row in markup.inline_keyboard for button in row
    )


def _kind_of(update: Update) -> str:
    for kind in ("message", "edited_message", "callback_query", "message_reaction"):
        if getattr(update, kind) is not None:
            return kind
    return "other"
