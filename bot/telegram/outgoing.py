"""What is sent to Telegram, and what is done when it does not get through.

    say / edit / remove    one message each; the text goes out plain when its entities are refused
    Gone                   the person has blocked the bot, or left the chat: nothing can be said there any more
    Undelivered            Telegram could not be reached for a long time

A send whose answer was lost may have arrived. It is sent again all the same: twice is better than never.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from telegram import InlineKeyboardMarkup, LinkPreviewOptions, Message, ReplyParameters
from telegram.error import BadRequest, ChatMigrated, Forbidden, NetworkError, RetryAfter, TelegramError
from telegram.ext import ExtBot

from bot.telegram.limiter import ChatRateLimiter, Priority
from bot.telegram.rendering import Part

log = logging.getLogger("familiar.telegram")

PAUSES_S = (0.5, 1, 2, 5, 10, 20, 30, 30, 30, 30, 30, 30)  # between tries: about four minutes in all
REMEMBERED_PRESSES = 200
NO_PREVIEW = LinkPreviewOptions(is_disabled=True)

TelegramBot = ExtBot[Priority]
Result = TypeVar("Result")


class Gone(Exception):
    """Nothing can be said in this chat any more."""


class Undelivered(Exception):
    """Telegram could not be reached; the same may be tried again later."""


class Outgoing:
    def __init__(self, bot: TelegramBot) -> None:
        self.bot = bot
        self._preview: LinkPreviewOptions | None = NO_PREVIEW  # None: a server that refuses what it does not know
        self._answered: deque[str] = deque(maxlen=REMEMBERED_PRESSES)

    async def say(
        self,
        chat_id: int,
        part: Part,
        *,
        thread_id: int | None = None,
        reply_to: int | None = None,
        keyboard: InlineKeyboardMarkup | None = None,
        priority: Priority = "normal",
        patient: bool = True,
    ) -> int:
        """Send a message and return its id. Raises Gone, Undelivered, TelegramError."""

        async def send(part: Part) -> Message:
            return await self.bot.send_message(
                chat_id,
                part.text,
                entities=part.entities or None,
                message_thread_id=thread_id,
                reply_parameters=ReplyParameters(reply_to, allow_sending_without_reply=True) if reply_to else None,
                reply_markup=keyboard,
                link_preview_options=self._preview,
                rate_limit_args=priority,
            )

        return (await self._plainly_if_refused(part, send, patient)).message_id

    async def edit(
        self,
        chat_id: int,
        message_id: int,
        part: Part,
        *,
        keyboard: InlineKeyboardMarkup | None = None,
        priority: Priority = "normal",
        patient: bool = True,
    ) -> bool:
        """Change a message; False when it is no longer there. Raises Gone, Undelivered, TelegramError."""

        async def change(part: Part) -> object:
            return await self.bot.edit_message_text(
                part.text,
                chat_id,
                message_id,
                entities=part.entities or None,
                reply_markup=keyboard,
                link_preview_options=self._preview,
                rate_limit_args=priority,
            )

        try:
            await self._plainly_if_refused(part, change, patient)
        except BadRequest as error:
            return _is_not_modified(error) or not _is_missing(error, raising=error)
        return True

    async def mark(self, chat_id: int, message_id: int, keyboard: InlineKeyboardMarkup | None) -> None:
        """Change the buttons under a message, if it is still there."""
        try:
            await delivered(lambda: self.bot.edit_message_reply_markup(chat_id, message_id, reply_markup=keyboard))
        except BadRequest as error:
            if not _is_not_modified(error):
                _is_missing(error, raising=error)

    async def remove(self, chat_id: int, message_id: int) -> None:
        """Delete a message, if it is still there and young enough; where it is not, it stays."""
        try:
            await delivered(lambda: self.bot.delete_message(chat_id, message_id))
        except BadRequest as error:
            log.info("message %s stays: %s", message_id, error)

    def withdraw_cosmetic(self, chat_id: int) -> None:
        """Give up what is still to be sent there and only shows how a reply grows."""
        if isinstance(self.bot.rate_limiter, ChatRateLimiter):
            self.bot.rate_limiter.withdraw_cosmetic(chat_id)

    async def answer(self, query_id: str, text: str = "", *, alert: bool = False) -> bool:
        """Answer a pressed button. False when that was not seen: a press takes one answer, and not for long."""
        if query_id in self._answered:
            return False
        self._answered.append(query_id)
        try:
            await self.bot.answer_callback_query(query_id, text[:200] or None, show_alert=alert)
        except TelegramError as error:
            log.info("a button's answer did not arrive: %s", error)
            return False
        return True

    async def _plainly_if_refused(self, part: Part, send: Callable[[Part], Awaitable[Result]], patient: bool) -> Result:
        pauses_s = PAUSES_S if patient else ()
        try:
            return await delivered(lambda: send(part), pauses_s)
        except BadRequest as error:
            if self._preview is not None and "link_preview_options" in str(error):
                self._preview = None
                return await self._plainly_if_refused(part, send, patient)
            if not part.entities or "entit" not in str(error).lower():
                raise
            log.warning("Telegram refused the entities of a message, which goes out plain: %s", error)
            return await delivered(lambda: send(Part(part.text, ())), pauses_s)


async def delivered(call: Callable[[], Awaitable[Result]], pauses_s: Sequence[float] = PAUSES_S) -> Result:
    """The result of a call to Telegram, which is made again while the network fails, after each of these pauses.

    Raises Gone, Undelivered; without pauses, and for what Telegram refuses, TelegramError.
    """
    for pause_s in (*pauses_s, None):
        try:
            return await call()
        except (Forbidden, ChatMigrated) as error:
            raise Gone(str(error)) from error
        except BadRequest as error:
            if "chat not found" in str(error).lower():
                raise Gone(str(error)) from error
            raise
        except RetryAfter as error:  # the limiter has tried again by then, except for what is cosmetic
            if not pauses_s:
                raise
            raise Undelivered(str(error)) from error
        except NetworkError as error:
            if not pauses_s:
                raise
            if pause_s is None:
                raise Undelivered(str(error)) from error
            log.warning("Telegram cannot be reached, once more in %s s: %s", pause_s, error)
            await asyncio.sleep(pause_s)
    raise AssertionError("the last pause is None")


def _is_not_modified(error: BadRequest) -> bool:
    return "message is not modified" in str(error).lower()


def _is_missing(error: BadRequest, *, raising: BadRequest) -> bool:
    """True for a message that was deleted, or is too old to be changed; anything else is raised."""
    text = str(error).lower()
    if "not found" in text or "can't be edited" in text or "message_id_invalid" in text:
        return True
    raise raising
