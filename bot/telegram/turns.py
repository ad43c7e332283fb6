"""A turn on Telegram: from a message, a retry or an edit to a reply that is shown, logged and can be rated.

What a crash interrupts is taken up by what the inbox remembers of it: a reply that was logged is delivered, a message
that was stored is replied to, anything else begins anew. Messages that were already sent are edited, not sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from telegram import InlineKeyboardMarkup
from telegram.constants import ChatAction
from telegram.error import TelegramError

from bot.assistant import Origin
from bot.errors import ChatError
from bot.events import Event, Failed, Finished, Token, Waiting
from bot.telegram import keyboards
from bot.telegram.inbox import CHANNEL
from bot.telegram.view import View
from bot.telegram.visit import Visit
from bot.telemetry import Ending
from store import posts

if TYPE_CHECKING:
    from bot.telegram.channel import TelegramChannel

Start = Callable[[asyncio.Event, Origin], AsyncGenerator[Event]]


class Turns:
    def __init__(self, channel: TelegramChannel) -> None:
        self._channel = channel

    async def message(self, visit: Visit) -> None:
        """Reply to a message, whose text may have come in pieces."""
        messages = [arrival.update.message for arrival in visit.arrivals if arrival.update.message]
        text = "".join(self._channel.groups.text_of(message) for message in messages)
        await self.say(visit, text)

    async def edited(self, visit: Visit) -> None:
        """Reply to the new wording of a message that was replied to; the old one and its replies are kept beside it."""
        message = visit.message
        text = message.text if message else None
        if message is None or not text:
            return
        written = await asyncio.to_thread(
            posts.message_at,
            self._channel.store,
            CHANNEL,
            str(visit.spot.chat_id),
            str(message.message_id),
            visit.chat.person.id,
        )
        text = self._channel.groups.text_of(message)
        if written is None or written.id is None or written.role != "user" or written.content == text.strip():
            return
        edited_id = written.id
        if len(await self.messages_of(visit, edited_id)) > 1:
            raise ChatError("edited_piece")
        await self.run(visit, lambda stop, origin: visit.chat.edit(text, stop, message_id=edited_id, origin=origin))

    async def say(self, visit: Visit, text: str, context: str = "") -> None:
        """Reply to `text` as if the person had written it. `context` is for the prompt alone."""
        origin = await self._channel.groups.origin(visit, context)
        await self.run(visit, lambda stop, _: visit.chat.send(text, stop, origin))

    async def run(self, visit: Visit, start: Start, *, instead_of: int | None = None) -> None:
        """Make a reply and show it; in the place of another one, where `instead_of` names it. Raises ChatError."""
        arrival = visit.arrivals[0]
        shown = arrival.progress.get("posted") or await self.messages_of(visit, instead_of)
        origin = Origin(arrivals=visit.rows)
        if arrival.reply_id is not None:
            await self.show(visit, arrival.reply_id, shown)
            return
        if arrival.message_id is not None:
            asked_before = arrival.message_id
            await self._make(
                visit, lambda stop: visit.chat.retry(stop, message_id=asked_before, origin=origin), shown, instead_of
            )
            return
        await self._channel.access.charge(CHANNEL, str(visit.user.id))
        await self._make(visit, lambda stop: start(stop, origin), shown, instead_of)

    async def show(self, visit: Visit, reply_id: int, shown: Sequence[int]) -> None:
        """Show a reply that is in the log, in the place of the messages `shown`, if any."""
        replies, at = await visit.chat.alternatives_to(reply_id)
        reply = replies[at]
        view = self._view(visit, 0, shown, drafting=False)
        text = self._with_note(visit, reply.content, reply.finish)
        ids = await view.finish(text, await self.keyboard(visit, reply_id))
        await self._delivered(visit, ids, reply_id, reply.parent_id)

    async def keyboard(self, visit: Visit, reply_id: int) -> InlineKeyboardMarkup:
        replies, _ = await visit.chat.alternatives_to(reply_id)
        siblings = [reply.id for reply in replies if reply.id is not None]
        return keyboards.under_reply(reply_id, await visit.chat.rating_of(reply_id), siblings)

    async def messages_of(self, visit: Visit, reply_id: int | None) -> list[int]:
        """The messages that show this reply here, the first first."""
        if reply_id is None:
            return []
        found = await asyncio.to_thread(posts.posts_of, self._channel.store, CHANNEL, reply_id)
        return [int(post.external_id) for post in found if post.chat == str(visit.spot.chat_id)]

    async def _make(
        self,
        visit: Visit,
        start: Callable[[asyncio.Event], AsyncGenerator[Event]],
        shown: Sequence[int],
        instead_of: int | None,
    ) -> None:
        channel, spot = self._channel, visit.spot
        began = time.monotonic()
        with channel.replies.one(spot.chat_id, spot.thread_id, visit.user.id) as running:
            view = self._view(visit, running.draft_id, shown, drafting=not shown)
            channel.metrics.turn_began(CHANNEL)
            end: Finished | Failed | None = None
            try:
                await self._sign_of_life(visit, view)
                text, end = await self._follow(visit, start(running.stop), view)
            finally:
                await view.stop()
                ending = _ending_of(end)
                ttft_s = end.ttft_s if isinstance(end, Finished) and end.ttft_s else None
                channel.metrics.turn_ended(CHANNEL, ending, ttft_s, time.monotonic() - began)
            channel.log.info("turn ended", ending=ending, characters=len(text))
        await self._end(visit, view, text, end, instead_of)
        if isinstance(end, Finished):
            await channel.access.spent(CHANNEL, str(visit.user.id), end.prompt_tokens + end.completion_tokens)
        if visit.private:
            await channel.rights.ask_once(visit)

    async def _follow(self, visit: Visit, turn: AsyncGenerator[Event], view: View) -> tuple[str, Finished | Failed]:
        text = ""
        async with aclosing(turn) as events:
            async for event in events:
                match event:
                    case Waiting():
                        view.status(visit.texts.waiting(event))
                    case Token():
                        text += event.text
                        view.grow(text)
                    case Finished() | Failed():
                        return text, event
        raise AssertionError("a turn ends with Finished or Failed")

    async def _end(self, visit: Visit, view: View, text: str, end: Finished | Failed, instead_of: int | None) -> None:
        if isinstance(end, Finished) and end.message_id:
            shown = self._with_note(visit, end.text, end.finish)
            ids = await view.finish(shown, await self.keyboard(visit, end.message_id))
            await self._delivered(visit, ids, end.message_id, end.asked_id)
            return
        problem = visit.texts.problem(end) if isinstance(end, Failed) else visit.texts.t("done.stopped_empty")
        if isinstance(end, Failed):
            self._channel.metrics.error(end.kind)
        if instead_of is not None:  # the reply that was to be replaced stands again
            await self.show(visit, instead_of, [message.message_id for message in view.messages])
            await visit.say(problem)
        elif text:
            await view.finish(text, None)
            await visit.say(problem)
        else:
            await view.finish(problem, None)
        await self._channel.inbox.done(visit.arrivals)

    async def _delivered(self, visit: Visit, ids: list[int], reply_id: int, asked_id: int | None) -> None:
        """Note that the reply was shown, at once, and by which messages."""
        await self._channel.inbox.done(visit.arrivals)
        store, chat = self._channel.store, str(visit.spot.chat_id)
        await asyncio.to_thread(posts.record, store, CHANNEL, chat, reply_id, [str(each) for each in ids])
        written = [
            str(arrival.update.effective_message.message_id)
            for arrival in visit.arrivals
            if arrival.update.effective_message and not arrival.update.callback_query
        ]
        if written and asked_id is not None and not _is_command(visit):
            await asyncio.to_thread(posts.record, store, CHANNEL, chat, asked_id, written)

    def _view(self, visit: Visit, draft_id: int, shown: Sequence[int], *, drafting: bool) -> View:
        channel, telegram, arrival = self._channel, self._channel.settings.telegram, visit.arrivals[0]

        async def posted(ids: list[int]) -> None:
            await channel.inbox.note(arrival, posted=ids)

        return View(
            visit.out,
            visit.spot,
            telegram.edit_interval_s,
            keyboards.stop(visit.texts, draft_id),
            channel.drafts,
            draft_id if drafting and visit.private and telegram.streaming == "auto" else None,
            telegram.draft_interval_s,
            shown,
            posted,
        )

    async def _sign_of_life(self, visit: Visit, view: View) -> None:
        if view.drafting:
            view.status("")
            return
        with contextlib.suppress(TelegramError):
            await visit.out.bot.send_chat_action(
                visit.spot.chat_id, ChatAction.TYPING, message_thread_id=visit.spot.thread_id
            )

    def _with_note(self, visit: Visit, text: str, finish: str) -> str:
        """The reply and, where it did not end by itself, a word on that."""
        text = text if text.strip() else visit.texts.t("telegram.empty_reply")
        note = {"stopped": "status.stopped", "length": "status.cut"}.get(finish)
        return f"{text}\n\n_({visit.texts.t(note)})_" if note else text


def _ending_of(end: Finished | Failed | None) -> Ending:
    """A turn without an end was cut short from outside, as by a stop."""
    if isinstance(end, Failed):
        return "failed"
    return "length" if end and end.finish == "length" else "stop" if end and end.finish == "stop" else "stopped"


def _is_command(visit: Visit) -> bool:
    message = visit.message
    return bool(message and message.text and message.text.startswith("/"))
