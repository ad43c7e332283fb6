"""One update that is being handled: who sent it, where, and in which chat of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from telegram import InlineKeyboardMarkup, Message, Update, User

from bot.chat import Chat
from bot.errors import ChatError
from bot.telegram.inbox import CHANNEL, Arrival
from bot.telegram.outgoing import Outgoing
from bot.telegram.rendering import Part, plain
from bot.telegram.view import Spot
from bot.texts import Texts
from store.catalogue import owners


@dataclass(frozen=True)
class Visit:
    update: Update
    arrivals: tuple[Arrival, ...]  # the update's own, and those of the pieces that joined it
    user: User
    chat: Chat
    spot: Spot
    private: bool
    admin: bool  # of the bot, not of a group
    out: Outgoing
    argument: str = ""  # what follows a command, or a button's word

    @property
    def texts(self) -> Texts:
        return self.chat.texts

    @property
    def message(self) -> Message | None:
        """What was written, or what a button stands under; None where there is none, or it is too old to be told."""
        message = self.update.effective_message
        return message if isinstance(message, Message) else None

    @property
    def person_id(self) -> int:
        person_id = self.chat.person.id
        assert person_id is not None, "a visit is that of a stored person"
        return person_id

    @property
    def owner(self) -> str:
        """Whose documents are handed over and listed here: the person's, and in a group, whatever its topic, its own.

        Theirs never show in a group, and those of a group nowhere else.
        """
        return owners.person(self.person_id) if self.private else owners.group(CHANNEL, str(self.spot.chat_id))

    @property
    def readable(self) -> tuple[str, ...]:
        """Whose documents may be shown here; those that replies here are made from, see bot.retrieval.readable_by."""
        return owners.SHARED, self.owner

    @property
    def rows(self) -> tuple[int, ...]:
        """Of the arrivals, in the store's inbox."""
        return tuple(arrival.row for arrival in self.arrivals)

    async def say(self, text: str, keyboard: InlineKeyboardMarkup | None = None) -> int:
        """Say something that is no reply, in as many messages as it takes; the id of the last. Raises TelegramError."""
        return await say(self.out, self.spot, plain(text), keyboard)

    async def tell(self, key: str, **values: object) -> int:
        return await self.say(self.texts.t(key, **values))

    async def answer(self, text: str = "", *, alert: bool = False) -> None:
        """Answer a pressed button, which turns until then; in a small box over the chat when there is a text."""
        if self.update.callback_query is not None:
            await self.out.answer(self.update.callback_query.id, text, alert=alert)


def only_in_private(visit: Visit) -> None:
    """Raises ChatError in a group, where others would read what is between a person and Familiar."""
    if not visit.private:
        raise ChatError("only_in_private")


async def say(out: Outgoing, spot: Spot, parts: Sequence[Part], keyboard: InlineKeyboardMarkup | None = None) -> int:
    """Say it in order, the keyboard under the last part, and return the last message's id. Raises TelegramError."""
    message_id = 0
    for index, part in enumerate(parts):
        message_id = await out.say(
            spot.chat_id,
            part,
            thread_id=spot.thread_id,
            reply_to=spot.reply_to if index == 0 else None,
            keyboard=keyboard if index == len(parts) - 1 else None,
        )
    return message_id
