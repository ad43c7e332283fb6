"""Whether a message in a group is for the bot, and what it says when the bot's name is left out.

For the bot is what begins with one of its commands, mentions it, or answers a message of its own. A command that names
no bot may be meant for any of the group's: it counts when it is one of ours. One that names another bot never does.

Positions are in UTF-16 code units on Telegram's side, and in characters here.
"""

from __future__ import annotations

from telegram import Message, User
from telegram.constants import ChatType, MessageEntityType
from telegram.ext.filters import MessageFilter

from bot.commands import commands_of
from bot.telegram.outgoing import TelegramBot

OURS = frozenset(command.name for command in commands_of("telegram", admin=True))
AFTER_A_NAME = ",:;，：；、"  # "@familiar_bot, what is …"
BEFORE_A_NAME = ",，、"  # "… is that, @familiar_bot"


def in_a_group(message: Message) -> bool:
    return message.chat.type in (ChatType.GROUP, ChatType.SUPERGROUP)


class Called(MessageFilter):
    """A command of this name, for this bot. CommandHandler needs a username, which not every server gives its bots."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._called = name

    def filter(self, message: Message) -> bool:
        ours = (message.get_bot().username or "").lower()
        return command_in(message) in ((self._called, ""), (self._called, ours))


def by_a_person(message: Message) -> bool:
    """Not by a bot, nor in the name of a channel or of the group itself."""
    return message.from_user is not None and not message.from_user.is_bot and message.sender_chat is None


def by_an_anonymous_admin(message: Message) -> bool:
    """In the name of the group, which only its admins can write in; Telegram does not tell which of them it was."""
    return in_a_group(message) and message.sender_chat is not None and message.sender_chat.id == message.chat.id


def is_for(bot: TelegramBot, message: Message) -> bool:
    given = command_in(message)
    if given is not None:
        name, addressee = given
        if addressee:
            return addressee == (bot.username or "").lower()
        if name in OURS:
            return True
    return _answers(bot, message) or bool(_mentions(bot, message))


def command_in(message: Message) -> tuple[str, str] | None:
    """The command that a message begins with, and the bot that it names, if any; both in small letters."""
    first = message.entities[0] if message.entities else None
    if first is None or first.type != MessageEntityType.BOT_COMMAND or first.offset or not message.text:
        return None
    name, _, addressee = message.text[1 : first.length].lower().partition("@")  # ASCII: units are characters
    return name, addressee


def text_of(bot: TelegramBot, message: Message) -> str:
    """The text or caption without the bot's mention where it begins or ends with it.

    A text that is nothing but the mention stays: it is all that was said.
    """
    text = message.text or message.caption or ""
    start, end = 0, len(text)
    mentions = _mentions(bot, message)
    for begin, stop in mentions:
        if not text[start:begin].strip() and _stands_alone(text[stop : stop + 1]):
            start = stop
    for begin, stop in reversed(mentions):
        if begin >= start and not text[stop:end].strip() and _stands_alone(text[max(begin - 1, 0) : begin]):
            end = begin
    said = text[start:end]
    if start:
        said = said.lstrip().lstrip(AFTER_A_NAME).lstrip()
    if end < len(text):
        said = said.rstrip().rstrip(BEFORE_A_NAME).rstrip()
    return said or (message.text or "")


def _stands_alone(neighbour: str) -> bool:
    """Is a name beside this character just a name? In "@familiar_bot's" it is part of the sentence."""
    return not neighbour or neighbour.isspace() or neighbour.isalnum() or neighbour in AFTER_A_NAME


def _answers(bot: TelegramBot, message: Message) -> bool:
    """In a topic, what answers nothing has the topic's beginning as the message that it answers."""
    answered = message.reply_to_message
    if answered is None or answered.from_user is None or answered.forum_topic_created is not None:
        return False
    return answered.from_user.id == bot.id


def _mentions(bot: TelegramBot, message: Message) -> list[tuple[int, int]]:
    """Where the bot is mentioned, in order: from character, to character."""
    text = message.text or message.caption or ""
    units = text.encode("utf-16-le", "surrogatepass")
    found = []
    for entity in message.entities if message.text else message.caption_entities:
        begin, stop = (
            len(units[: 2 * at].decode("utf-16-le", "replace")) for at in (entity.offset, entity.offset + entity.length)
        )
        if entity.type == MessageEntityType.MENTION:
            is_ours = text[begin:stop].lower() == f"@{bot.username}".lower()
        else:
            is_ours = entity.type == MessageEntityType.TEXT_MENTION and _is(entity.user, bot)
        if is_ours:
            found.append((begin, stop))
    return sorted(found)


def _is(user: User | None, bot: TelegramBot) -> bool:
    return user is not None and user.id == bot.id
