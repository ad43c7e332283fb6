"""A turn on Telegram: from a message, a retry or an edit to a reply that is shown, logged and can be rated.

What a crash interrupts is taken up by what the inbox remembers of it: a reply that was logged is delivered, a message
that was stored is replied to, anything else begins anew. Messages that were already sent are edited, not sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from telegram import InlineKeyboardMarkup
from telegram.constants import ChatAction
from telegram.error import TelegramError

from bot.asking import ask
from bot.assistant import Origin
from bot.errors import ChatError
from bot.events import Event, Failed, Finished, Retrieved, Token, Waiting
from bot.telegram import keyboards
from bot.telegram.inbox import CHANNEL
from bot.telegram.lanes import gap_after
from bot.telegram.rendering import plain
from bot.telegram.sources import Grounds, under
from bot.telegram.view import View
from bot.telegram.visit import Visit
from bot.telemetry import Ending
from store import posts
from store.errors import StoreError
from store.tables import Message

if TYPE_CHECKING:
    from bot.telegram.channel import TelegramChannel

LAST_WORDS_S = 5.0  # for a reply that is being sent when the bot is shut down

Start = Callable[[asyncio.Event, Origin], AsyncGenerator[Event]]


class Turns:
    def __init__(self, channel: TelegramChannel) -> None:
        self._channel = channel
        self._places: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()

    async def message(self, visit: Visit) -> None:
        """Reply to a message, whose text may have come in pieces."""
        pieces = [arrival.update.message for arrival in visit.arrivals if arrival.update.message]
        text_of = self._channel.groups.text_of
        await self.say(visit, "".join(text_of(piece) + gap_after(piece.text or "") for piece in pieces))

    async def edited(self, visit: Visit) -> None:
        """Reply to the new wording of a message that was replied to; the old one and its replies are kept beside it."""
        message = visit.message
        text = message.text if message else None
        if message is None or not text:
            return
        written = await self.reply_at(visit, message.message_id)
        text = self._channel.groups.text_of(message)
        if written is None or written.id is None or written.role != "user" or written.content == text.strip():
            return
        edited_id = written.id
        if len(await self.messages_of(visit, edited_id)) > 1:
            raise ChatError("edited_piece")
        origin = await self._channel.groups.origin(visit)
        await self.run(visit, lambda stop, _: visit.chat.edit(text, stop, message_id=edited_id, origin=origin))

    async def say(self, visit: Visit, text: str, context: str = "") -> None:
        """Reply to `text` as if the person had written it. `context` is for the prompt alone."""
        origin = await self._channel.groups.origin(visit, context)
        await self.run(visit, lambda stop, _: visit.chat.send(text, stop, origin))

    async def run(
        self, visit: Visit, start: Start, *, instead_of: int | None = None, there: Sequence[int] = ()
    ) -> None:
        """Make a reply and show it; in the place of the reply `instead_of`, where one is named, which `there` shows.

        Raises ChatError.
        """
        arrival = visit.arrivals[0]
        shown = arrival.progress.get("posted") or there
        origin = Origin(arrivals=visit.rows)
        if arrival.reply_id is not None:
            await self.show(visit, arrival.reply_id, shown or await self.messages_of(visit, arrival.reply_id))
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
        grounds = await self._channel.sources.of(visit, reply)
        view = self._view(visit, 0, shown, drafting=False)
        text = self._with_note(visit, reply.content, reply.finish)
        await self._deliver(visit, view, text, grounds, reply_id, reply.parent_id)

    async def mark(self, visit: Visit, reply_id: int) -> None:
        """Let the buttons under a reply show how it is rated: those that were pressed, else those at its newest place.

        A press may have come too late: what it was meant for may have made room for another reply.
        """
        async with self._settling(visit.spot.chat_id):
            pressed = visit.update.callback_query.message if visit.update.callback_query else None
            standing = await self.reply_at(visit, pressed.message_id) if pressed else None
            if pressed is not None and (standing is None or standing.id == reply_id):
                marked = [pressed.message_id]
            else:
                marked = await self.messages_of(visit, reply_id)
            if marked:
                await visit.out.mark(visit.spot.chat_id, marked[-1], await self.keyboard(visit, reply_id))

    async def keyboard(self, visit: Visit, reply_id: int, grounds: Grounds | None = None) -> InlineKeyboardMarkup:
        """`grounds` are looked up where they are not given. Raises ChatError."""
        replies, at = await visit.chat.alternatives_to(reply_id)
        siblings = [reply.id for reply in replies if reply.id is not None]
        if grounds is None:
            grounds = await self._channel.sources.of(visit, replies[at])
        return keyboards.under_reply(reply_id, await visit.chat.rating_of(reply_id), siblings, grounds.buttons)

    async def reply_at(self, visit: Visit, message_id: int) -> Message | None:
        """The person's message or reply that this message of the chat shows."""
        here = str(visit.spot.chat_id), str(message_id), visit.chat.person.id
        return await ask(posts.message_at, self._channel.store, CHANNEL, *here)

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
        if visit.arrivals[0].dropped:
            return
        began = time.monotonic()
        with channel.replies.one(spot.chat_id, spot.thread_id, visit.user.id) as running:
            view = self._view(visit, running.draft_id, shown, drafting=not shown)
            channel.metrics.turn_began(CHANNEL)
            end: Finished | Failed | None = None
            signing = asyncio.create_task(self._sign_of_life(visit, view))  # the engine does not wait for Telegram
            try:
                text, end, not_searched = await self._follow(visit, start(running.stop), view)
            finally:
                signing.cancel()
                await view.stop()
                ending = _ending_of(end)
                ttft_s = end.ttft_s if isinstance(end, Finished) and end.ttft_s else None
                channel.metrics.turn_ended(CHANNEL, ending, ttft_s, time.monotonic() - began)
            channel.log.info("turn ended", ending=ending, characters=len(text))
        if running.unwanted.is_set():
            await view.withdraw()
            return
        await self._end(visit, view, text, end, instead_of, not_searched=not_searched)
        if isinstance(end, Finished):
            await channel.access.spent(CHANNEL, str(visit.user.id), end.prompt_tokens + end.completion_tokens)
        if visit.private:
            await channel.rights.ask_once(visit)
            await self._tell_of_learning(visit, end)

    async def _tell_of_learning(self, visit: Visit, end: Finished | Failed) -> None:
        """Once: that replies come from what the person corrected."""
        version = await visit.chat.kept.learned_in(end.adapter) if isinstance(end, Finished) else None
        if version is not None:
            await visit.tell("model.uses_corrections", version=version)

    async def _follow(
        self, visit: Visit, turn: AsyncGenerator[Event], view: View
    ) -> tuple[str, Finished | Failed, bool]:
        """The text that was shown, how the turn ended, and whether the documents could not be searched for it."""
        text, not_searched = "", False
        async with aclosing(turn) as events:
            async for event in events:
                match event:
                    case Waiting():
                        view.status(visit.texts.waiting(event))
                    case Retrieved():
                        not_searched = event.failed
                    case Token():
                        text += event.text
                        view.grow(text)
                    case Finished() | Failed():
                        return text, event, not_searched
        raise AssertionError("a turn ends with Finished or Failed")

    async def _end(
        self,
        visit: Visit,
        view: View,
        text: str,
        end: Finished | Failed,
        instead_of: int | None,
        *,
        not_searched: bool,
    ) -> None:
        if isinstance(end, Finished) and end.message_id:
            grounds = self._channel.sources.of_turn(end, not_searched=not_searched)
            shown = self._with_note(visit, end.text, end.finish)
            await self._deliver(visit, view, shown, grounds, end.message_id, end.asked_id)
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
        await self._note(visit, [], None, end.asked_id)
        await self._channel.inbox.done(visit.arrivals)

    async def _deliver(
        self, visit: Visit, view: View, text: str, grounds: Grounds, reply_id: int, asked_id: int | None
    ) -> None:
        """Show a reply for good, and note where it stands. Raises ChatError when it was deleted meanwhile."""

        async def deliver() -> None:
            async with self._settling(visit.spot.chat_id):
                try:
                    keyboard = await self.keyboard(visit, reply_id, grounds)
                except ChatError as error:
                    if error.key == "not_found":
                        await view.withdraw()
                        raise
                    # Its rating needs the store, the reply does not.
                    keyboard = keyboards.under_reply(reply_id, sources=grounds.buttons)
                ids = await view.finish(text, keyboard, under(visit.texts, grounds))
                await self._note(visit, ids, reply_id, asked_id)
            await self._channel.inbox.done(visit.arrivals)

        await _to_its_end(deliver())

    async def _note(self, visit: Visit, ids: Sequence[int], reply_id: int | None, asked_id: int | None) -> None:
        """Which messages of the chat show the reply, and which the message that it replies to."""
        written = [
            arrival.update.effective_message.message_id
            for arrival in visit.arrivals
            if arrival.update.effective_message and not arrival.update.callback_query
        ]
        noted = [(reply_id, ids)]
        if not _is_command(visit):
            noted.append((asked_id, written))
        for message_id, there in noted:
            if message_id and there:
                names = [str(each) for each in there]
                try:
                    await asyncio.to_thread(
                        posts.record, self._channel.store, CHANNEL, str(visit.spot.chat_id), message_id, names
                    )
                except StoreError as error:  # its buttons work all the same, only reactions and edits find nothing
                    self._channel.log.warning("where a message stands could not be noted", reason=str(error))

    def _settling(self, chat_id: int) -> asyncio.Lock:
        """Held while a reply is put into its place, and while its buttons are changed, so that both tell of one."""
        return self._places.setdefault(chat_id, asyncio.Lock())

    def _view(self, visit: Visit, draft_id: int, shown: Sequence[int], *, drafting: bool) -> View:
        channel, telegram, arrival = self._channel, self._channel.settings.telegram, visit.arrivals[0]

        async def posted(ids: list[int]) -> None:
            try:
                await channel.inbox.note(arrival, posted=ids)
            except StoreError as error:  # after a crash these would stand there twice; what is written goes on
                channel.log.warning("what was sent could not be noted", reason=str(error))

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
        text = text if plain(text) else visit.texts.t("telegram.empty_reply")
        note = {"stopped": "status.stopped", "length": "status.cut", "error": "status.broken"}.get(finish)
        return f"{_with_fence_closed(text)}\n\n_({visit.texts.t(note)})_" if note else text


async def _to_its_end(doing: Coroutine[Any, Any, None]) -> None:
    """Do this as if it could not be cancelled: what was sent but not noted would be sent again after the next start."""
    task = asyncio.create_task(doing)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=LAST_WORDS_S)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise


def _ending_of(end: Finished | Failed | None) -> Ending:
    """A turn without an end was cut short from outside, as by a stop."""
    if isinstance(end, Failed):
        return "failed"
    return "length" if end and end.finish == "length" else "stop" if end and end.finish == "stop" else "stopped"


def _with_fence_closed(text: str) -> str:
    """A reply that was cut inside a block of code, with an end to the block: what follows is not code."""
    fence = ""
    for line in text.splitlines():
        mark = re.match(r" {0,3}(`{3,}|~{3,})", line)
        if mark and not fence:
            fence = mark[1]
        elif mark and line.strip().startswith(fence) and not line.strip().strip(fence[0]):
            fence = ""
    return f"{text}\n{fence}" if fence else text


def _is_command(visit: Visit) -> bool:
    message = visit.message
    return bool(message and message.text and message.text.startswith("/"))
