"""What people think of a reply: buttons, reactions, a better answer; going between replies; what is known of one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from telegram import Message, ReactionTypeEmoji, Update

from bot.asking import ask
from bot.details import lines
from bot.errors import ChatError
from bot.telegram.inbox import CHANNEL
from bot.telegram.visit import Visit
from store import posts
from store.tables import Message as Reply

if TYPE_CHECKING:
    from bot.telegram.channel import TelegramChannel

# Of the reactions that Telegram offers, those that can only be meant one way; a heart comes in two spellings.
GOOD = frozenset("👍 ❤ ❤\ufe0f 🔥 👏 🎉 🤩 💯 🏆 ❤\u200d🔥 ❤\ufe0f\u200d🔥 🥰 😍 🙏 👌 🤝 🫡 💘 🆒 😘 🤗".split())  # noqa: SIM905
BAD = frozenset("👎 🤮 💩 🤬 😡 🖕 🥱 💔 🤨".split())  # noqa: SIM905


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
        replies, at = await own_reply(visit, reply_id)
        asked_id = replies[at].parent_id
        standing, there = await self._place(visit)
        if standing is not None and standing != reply_id:  # pressed twice, and the first press was enough
            await visit.answer(visit.texts.t("telegram.made_room"))
            return
        await visit.answer()
        await visit.chat.open_conversation(replies[at].conversation_id)
        await visit.chat.settle()
        await self._channel.turns.run(
            visit,
            lambda stop, origin: visit.chat.retry(stop, message_id=asked_id, origin=origin),
            instead_of=reply_id,
            there=there,
        )

    async def show(self, visit: Visit) -> None:
        """Show another reply to the same message in the same place, and go on from it."""
        reply_id = _id_in(visit)
        await own_reply(visit, reply_id)
        _, there = await self._place(visit)
        await visit.chat.go_on_from(reply_id)
        await visit.chat.settle()
        await visit.answer()
        self._channel.metrics.feedback(CHANNEL, "chosen")
        await self._channel.turns.show(visit, reply_id, there)

    async def nothing(self, visit: Visit) -> None:
        await visit.answer()

    async def reaction(self, visit: Visit) -> None:
        """A reaction on a reply is a rating; one that is taken back, or may mean anything, is none."""
        reacted = visit.update.message_reaction
        if reacted is None:
            return
        reply = await self._channel.turns.reply_at(visit, reacted.message_id)
        if reply is None or reply.role != "assistant" or reply.id is None:
            return
        value = meaning_of(each.emoji for each in reacted.new_reaction if isinstance(each, ReactionTypeEmoji))
        meant = meaning_of(each.emoji for each in reacted.old_reaction if isinstance(each, ReactionTypeEmoji))
        if value is not None:
            await visit.chat.rate(value, reply.id)
            self._channel.metrics.feedback(CHANNEL, "up" if value == 1 else "down")
        elif meant is not None and await visit.chat.rating_of(reply.id) == meant:  # not one given by a button since
            await visit.chat.unrate(reply.id)
        else:
            return
        await self._channel.turns.mark(visit, reply.id)

    async def correct(self, visit: Visit) -> None:
        """The answer that a reply should have been: the one that this message answers, else the last one."""
        if not visit.argument:
            raise ChatError("usage", name="correct", hint=visit.texts.t("hint.correct"))
        reply_id = await self._answered(visit)
        await visit.chat.correct(visit.argument, reply_id)
        self._channel.metrics.feedback(CHANNEL, "corrected")
        await visit.tell("done.corrected")

    async def about(self, visit: Visit) -> None:
        """What is known of a reply: of the one that this message answers, else of the last one."""
        details = await visit.chat.details(await self._answered(visit))
        await visit.say("\n".join(lines(details, visit.texts)))

    async def _press(self, visit: Visit, value: Literal[1, -1]) -> None:
        """The same button takes a rating back. Which it was to be is noted first: a crash must not press it twice."""
        reply_id = _id_in(visit)
        await own_reply(visit, reply_id)
        arrival = visit.arrivals[0]
        if "rating" not in arrival.progress:
            taken_back = await visit.chat.rating_of(reply_id) == value
            await self._channel.inbox.note(arrival, rating=0 if taken_back else value)
        if arrival.progress["rating"]:
            await visit.chat.rate(value, reply_id)
            await visit.answer(visit.texts.t("done.rated_up" if value == 1 else "done.rated_down"))
            self._channel.metrics.feedback(CHANNEL, "up" if value == 1 else "down")
        else:
            await visit.chat.unrate(reply_id)
            await visit.answer(visit.texts.t("telegram.unrated"))
        await self._channel.turns.mark(visit, reply_id)

    async def _place(self, visit: Visit) -> tuple[int | None, list[int]]:
        """The reply that stands now where the button was pressed, None when that is not known, and its messages."""
        query = visit.update.callback_query
        if query is None or query.message is None:
            return None, []
        pressed = query.message.message_id
        standing = await self._channel.turns.reply_at(visit, pressed)
        if standing is None:
            return None, [pressed]
        return standing.id, await self._channel.turns.messages_of(visit, standing.id)

    async def _answered(self, visit: Visit) -> int | None:
        message = visit.message
        answered = message.reply_to_message if message else None
        if not isinstance(answered, Message) or answered.from_user is None:
            return None
        if answered.from_user.id != self._channel.bot.id:
            return None
        reply = await self._channel.turns.reply_at(visit, answered.message_id)
        if reply is not None and reply.role == "assistant":
            return reply.id
        here = str(visit.spot.chat_id), str(answered.message_id)
        others = await ask(posts.message_at, self._channel.store, CHANNEL, *here)
        raise ChatError("not_a_reply" if others is None else "not_your_reply")


async def own_reply(visit: Visit, reply_id: int) -> tuple[list[Reply], int]:
    """The replies beside this one, and its place. Raises ChatError when it is somebody else's, deleted, or none."""
    try:
        replies, at = await visit.chat.alternatives_to(reply_id)
    except ChatError as error:
        if error.key == "not_found" and not visit.private:
            raise ChatError("not_yours") from error
        raise
    if replies[at].role != "assistant":
        raise ChatError("not_found")
    return replies, at


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
