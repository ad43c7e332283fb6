"""The list of commands that Telegram shows when somebody types a slash, in each language.

It is a convenience: when Telegram does not take it, that is logged, and everything works without.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from telegram import (
    BotCommand,
    BotCommandScope,
    BotCommandScopeAllGroupChats,
    BotCommandScopeAllPrivateChats,
    BotCommandScopeChat,
)
from telegram.error import TelegramError

from bot.asking import ask
from bot.commands import Command, commands_of
from bot.errors import ChatError
from bot.telegram.inbox import CHANNEL
from bot.telegram.outgoing import TelegramBot
from bot.texts import LANGUAGES, texts_for
from settings import Settings
from store import people
from store.session import Store

log = structlog.get_logger("familiar.telegram")

_CODES = (None, *LANGUAGES[1:])  # None: for whatever language has no list of its own
IN_GROUPS = frozenset({"new", "retry", "stop", "undo", "persona", "model", "correct", "about", "docs", "group", "help"})


async def register(bot: TelegramBot, store: Store, settings: Settings) -> None:
    """Tell Telegram the commands: for private chats, for groups, and for the admins named in the settings.

    A language that is not ours shows the first one's.
    """
    everybody = commands_of("telegram")
    groups = tuple(command for command in everybody if command.name in IN_GROUPS)
    fixed = "" if settings.assistant.language == "auto" else settings.assistant.language
    await _set_all(bot, everybody, fixed, BotCommandScopeAllPrivateChats())
    await _set_all(bot, groups, fixed, BotCommandScopeAllGroupChats())
    for admin in settings.access.admins:
        channel, _, external_id = admin.partition(":")
        if channel == CHANNEL and external_id.isdecimal():
            language = fixed or await _chosen(store, external_id)
            await for_person(bot, int(external_id), language, admin=True)


async def for_person(bot: TelegramBot, chat_id: int, language: str, *, admin: bool) -> None:
    """Show somebody the commands in the language that they chose; "" as Telegram's own says again."""
    scope = BotCommandScopeChat(chat_id)
    if language or admin:
        await _set_all(bot, commands_of("telegram", admin=admin), language, scope)
        return
    for code in _CODES:
        try:
            await bot.delete_my_commands(scope, code)
        except TelegramError as error:
            log.warning("the list of commands was not changed", reason=str(error))


async def _chosen(store: Store, external_id: str) -> str:
    """The language of somebody who is known already; "" goes by Telegram's own."""
    try:
        known = await ask(people.with_identity, store, CHANNEL, external_id)
    except ChatError as error:
        log.warning("the list of commands may be in the wrong language", reason=error.key)
        return ""
    return known.language if known else ""


async def _set_all(bot: TelegramBot, commands: Sequence[Command], language: str, scope: BotCommandScope) -> None:
    """Whatever language Telegram itself is in: in this one, or ("") in each language those in it."""
    for code in _CODES:
        texts = texts_for(language or code or LANGUAGES[0])
        listed = [BotCommand(command.name, texts.t(command.help)) for command in commands]
        try:
            await bot.set_my_commands(listed, scope, code)
        except TelegramError as error:
            log.warning("the list of commands was not changed", language=texts.language, reason=str(error))
