"""What the model is shown of a chat beside the message itself, and whose words that is.

It stands before the message in the prompt, in the voice of the person who asks, and in this order:

    [Said before in this group:          what was overheard, where the operator has asked for that
    Bo: shall we meet at noon?
    Me: fine]

    [In answer to Bo: "…"]               what the message answers, or the part of it that was picked out; "to your
                                         message" is the bot's own, "to my own message" that of who asks

    [Photo: …]                           what the caller adds

What answers the bot's newest reply needs no quotation: it is the last thing in the conversation.

A token is at least a byte. So what takes up no more bytes than half as many as the model can read tokens leaves the
other half to the message, whatever the language; the newest of what was overheard goes in as far as there is room.

Whoever is quoted becomes a known person, if they were not: only then can their words be forgotten with them. Words of
the bot count as those of the person whom it answered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from telegram import (
    ExternalReplyInfo,
    Message,
    MessageOrigin,
    MessageOriginChannel,
    MessageOriginChat,
    MessageOriginHiddenUser,
    MessageOriginUser,
    User,
)

from bot.asking import ask
from bot.assistant import Origin
from bot.telegram.inbox import CHANNEL
from bot.telegram.overheard import Said
from bot.telegram.visit import Visit
from store import people, posts
from store.session import Store

LONGEST_QUOTE = 1500  # characters
LONGEST_NAME = 64


@dataclass(frozen=True)
class _Quotation:
    block: str = ""
    persons: frozenset[int] = frozenset()  # whose words stand in it


async def origin_of(store: Store, visit: Visit, bot_id: int, before: Sequence[Said], room: int, context: str) -> Origin:
    """What there is to know of the visit's message beside its text.

    `before` is what was overheard, the oldest first. `room` is for what is quoted, in bytes; the caller's own `context`
    is not counted. Raises ChatError.
    """
    message = visit.update.message or visit.update.edited_message
    if message is None:
        return Origin(context, (), visit.rows)
    answered = await _answered(store, visit, message, bot_id, room)
    replied_id = message.reply_to_message.message_id if message.reply_to_message else None
    if answered.block:
        before = [said for said in before if said.message_id != replied_id]
    overheard = await _overheard(store, visit.user.id, before, room - _size(answered.block))
    blocks = [block for block in (overheard.block, answered.block, context) if block]
    quoted = {each for each in overheard.persons | answered.persons if each != visit.chat.person.id}
    return Origin("\n\n".join(blocks), tuple(sorted(quoted)), visit.rows)


async def _answered(store: Store, visit: Visit, message: Message, bot_id: int, room: int) -> _Quotation:
    original = message.reply_to_message or message.external_reply
    text = _words_in(message)
    if original is None or not text:
        return _Quotation()
    persons: set[int] = set()
    author = original.from_user if isinstance(original, Message) else None
    if isinstance(original, Message) and author is not None and author.id == bot_id:
        owner_id, is_newest = await ask(_of_our_own, store, visit, original)
        if is_newest and not (message.quote and message.quote.is_manual):
            return _Quotation()
        whose = "your message"
        persons |= {owner_id} if owner_id is not None else set()
    else:
        whose = _whose(original, visit.user.id)
        persons |= await ask(_persons, store, _writers(original, visit.user.id))
    before, after = f'[In answer to {whose}: "', '"]'
    text = _cut(text, LONGEST_QUOTE, room - _size(before + after))
    return _Quotation(before + text + after, frozenset(persons))


async def _overheard(store: Store, user_id: int, before: Sequence[Said], room: int) -> _Quotation:
    opening, closing = "[Said before in this group:", "]"
    room -= _size(opening + closing)
    lines: list[str] = []
    writers: dict[int, str] = {}
    for said in reversed(before):
        line = f"{'Me' if said.user_id == user_id else _name(said.name)}: {said.text}"
        room -= _size(line) + 1
        if room < 0:
            break
        lines.insert(0, line)
        if said.user_id != user_id:
            writers[said.user_id] = said.name
    if not lines:
        return _Quotation()
    return _Quotation("\n".join([opening, *lines]) + closing, frozenset(await ask(_persons, store, writers)))


def _words_in(message: Message) -> str:
    """Of what this message answers: the part that was picked out, else all of it."""
    original = message.reply_to_message
    if message.quote is not None:
        return message.quote.text.strip()
    return (original.text or original.caption or "").strip() if original else ""


def _whose(original: Message | ExternalReplyInfo, user_id: int) -> str:
    if isinstance(original, Message) and original.sender_chat is not None:
        return _name(original.sender_chat.title or "")
    user = original.from_user if isinstance(original, Message) else _user_in(original.origin)
    if user is not None:
        return "my own message" if user.id == user_id else _name(user.first_name)
    if isinstance(original, Message):
        return _name("")
    match original.origin:
        case MessageOriginHiddenUser(sender_user_name=name):
            return _name(name)
        case MessageOriginChat(sender_chat=chat) | MessageOriginChannel(chat=chat):
            return _name(chat.title or "")
    return _name("")


def _writers(original: Message | ExternalReplyInfo, user_id: int) -> dict[int, str]:
    """The people whose words these are, other than who quotes them: number and name. Of a forwarded message, two."""
    if isinstance(original, Message):
        author = original.from_user if original.sender_chat is None else None
        found = [author, _user_in(original.forward_origin)]
    else:
        found = [_user_in(original.origin)]
    return {user.id: user.first_name for user in found if user and not user.is_bot and user.id != user_id}


def _user_in(origin: MessageOrigin | None) -> User | None:
    return origin.sender_user if isinstance(origin, MessageOriginUser) else None


def _name(name: str) -> str:
    """A name that somebody chose, as a word in a line of ours."""
    return " ".join(name.split())[:LONGEST_NAME] or "somebody"


def _size(text: str) -> int:
    return len(text.encode(errors="replace"))


def _cut(text: str, characters: int, size: int) -> str:
    short = text[:characters].encode(errors="replace")[: max(0, size)].decode(errors="ignore")
    return text if len(short) == len(text) else f"{short[:-1].rstrip()}…"


# These block.


def _of_our_own(store: Store, visit: Visit, original: Message) -> tuple[int | None, bool]:
    """Whom the bot said this to, if it was a reply, and whether it is its newest one in the visit's conversation."""
    chat, there, conversation = str(visit.spot.chat_id), str(original.message_id), visit.chat.conversation
    reply = posts.message_at(store, CHANNEL, chat, there, visit.chat.person.id)
    if reply is None:
        return posts.owner_at(store, CHANNEL, chat, there), False
    return visit.chat.person.id, conversation is not None and conversation.head_id == reply.id


def _persons(store: Store, writers: Mapping[int, str]) -> set[int]:
    known = [people.person_for(store, CHANNEL, str(user_id), name) for user_id, name in writers.items()]
    return {person.id for person in known if person.id is not None}
