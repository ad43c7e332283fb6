"""What people think of a reply: buttons, reactions, a better answer; and going between the replies to a message."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from telegram import Message, ReactionTypeEmoji, Update

from bot.errors import ChatError
from bot.telegram.inbox import CHANNEL
from bot.telegram.visit import Visit
from store import posts
from store.tables import Message as Reply

if TYPE_CHECKING:
    from bot.telegram.channel import TelegramChannel

# Of the reactions that Telegram offers, those that can only be meant one way; a heart comes in two spellings.
GOOD = frozenset("👍 ❤ ❤\ufe0f 🔥 👏 🎉 🤩 💯 🏆 ❤\u200d🔥 ❤\ufe0f\u200d🔥 🥰 😍 🙏 👌 🤝 🫡 💘 🆒 😘 🤗".split())  # noqa: SIM905
BAD = frozenset("👎 🤮 💩 🤬 😡 🖕 🥱 😢 😭 💔 🤨".split())  # noqa: SIM905


class Feedback:
    def __init__(self, channel: TelegramChannel) -> None:
        self._channel = channel

    async def up(self, visit: Visit) -> None:
        await self._press(visit, 1)

    async def down(self, visit: Visit) -> None:
        await self._press(visit, -1)

    async def again(self, visit: Visit) -> None:
        """Another reply in the place of this one, which is kept beside it."""
        reply_id = _id_in(visit)
        replies, at = await self._own(visit, reply_id)
        asked_id = replies[at].parent_id
        await visit.answer()
        await self._channel.turns.run(
            visit,
            lambda stop, origin: visit.chat.retry(stop, message_id=asked_id, origin=origin),
            instead_of=reply_id,
        )

    async def show(self, visit: Visit) -> None:
        """Show another reply to the same message in the same place, and go on from it."""
        reply_id = _id_in(visit)
        replies, _ = await self._own(visit, reply_id)
        shown: list[int] = []
        for sibling in replies:
            shown = shown or await self._channel.turns.messages_of(visit, sibling.id)
        await visit.chat.go_on_from(reply_id)
        await visit.chat.settle()
        await visit.answer()
        self._channel.metrics.feedback(CHANNEL, "chosen")
        await self._channel.turns.show(visit, reply_id, shown)

    async def nothing(self, visit: Visit) -> None:
        await visit.answer()

    async def reaction(self, visit: Visit) -> None:
        """A reaction on a reply is a rating; one that is taken back, or may mean anything, is none."""
        reacted = visit.update.message_reaction
        if reacted is None:
            return
        reply = await asyncio.to_thread(
            posts.message_at,
            self._channel.store,
            CHANNEL,
            str(visit.spot.chat_id),
            str(reacted.message_id),
            visit.chat.person.id,
        )
        if reply is None or reply.role != "assistant" or reply.id is None:
            return
        value = meaning_of(each.emoji for each in reacted.new_reaction if isinstance(each, ReactionTypeEmoji))
        meant = meaning_of(each.emoji for each in reacted.old_reaction if isinstance(each, ReactionTypeEmoji))
        if value is not None:
            await visit.chat.rate(value, reply.id)
            self._channel.metrics.feedback(CHANNEL, "up" if value == 1 else "down")
        elif meant is not None:
            await visit.chat.unrate(reply.id)
        else:
            return
        await self._mark(visit, reply.id)

    async def correct(self, visit: Visit) -> None:
        """The answer that a reply should have been: the one that this message answers, else the last one."""
        if not visit.argument:
            raise ChatError("usage", name="correct", hint=visit.texts.t("hint.correct"))
        reply_id = await self._answered(visit)
        await visit.chat.correct(visit.argument, reply_id)
        self._channel.metrics.feedback(CHANNEL, "corrected")
        await visit.tell("done.corrected")

    async def _press(self, visit: Visit, value: Literal[1, -1]) -> None:
        reply_id = _id_in(visit)
        await self._own(visit, reply_id)
        if await visit.chat.rating_of(reply_id) == value:
            await visit.chat.unrate(reply_id)
            await visit.answer(visit.texts.t("telegram.unrated"))
        else:
            await visit.chat.rate(value, reply_id)
            await visit.answer(visit.texts.t("done.rated_up" if value == 1 else "done.rated_down"))
            self._channel.metrics.feedback(CHANNEL, "up" if value == 1 else "down")
        await self._mark(visit, reply_id)

    async def _own(self, visit: Visit, reply_id: int) -> tuple[list[Reply], int]:
        """The replies beside this one, and its place. Raises ChatError when it is somebody else's, or deleted."""
        try:
            return await visit.chat.alternatives_to(reply_id)
        except ChatError as error:
            raise ChatError("not_yours" if not visit.private else "not_found") from error

    async def _mark(self, visit: Visit, reply_id: int) -> None:
        """Let the buttons show the rating."""
        shown = await self._channel.turns.messages_of(visit, reply_id)
        if shown:
            await visit.out.mark(visit.spot.chat_id, shown[-1], await self._channel.turns.keyboard(visit, reply_id))

    async def _answered(self, visit: Visit) -> int | None:
        message = visit.message
        answered = message.reply_to_message if message else None
        if not isinstance(answered, Message) or answered.from_user is None:
            return None
        if answered.from_user.id != self._channel.bot.id:
            return None
        reply = await asyncio.to_thread(
            posts.message_at,
            self._channel.store,
            CHANNEL,
            str(visit.spot.chat_id),
            str(answered.message_id),
            visit.chat.person.id,
        )
        if reply is None or reply.role != "assistant":
            raise ChatError("not_a_reply")
        return reply.id


def meaning_of(emojis: Iterable[str]) -> Literal[1, -1] | None:
    """What reactions say of a reply; None when nothing clear, or both."""
    given = set(emojis)
    good, bad = bool(given & GOOD), bool(given & BAD)
    return None if good == bad else 1 if good else -1


def is_rating(update: Update) -> bool:
    """Ratings need not wait for the reply that is being made."""
    data = update.callback_query.data if update.callback_query else ""
    return update.message_reaction is not None or (bool(data) and data.startswith(("up:", "down:", "nothing")))  # type: ignore[union-attr]


def _id_in(visit: Visit) -> int:
    if not visit.argument.isdecimal():
        raise ChatError("not_found")
    return int(visit.argument)
