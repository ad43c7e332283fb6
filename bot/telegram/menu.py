"""The list of commands that Telegram shows when somebody types a slash, in each language.

It is a convenience: when Telegram does not take it, that is logged, and everything works without.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import structlog
from telegram import (
    BotCommand,
    BotCommandScope,
    BotCommandScopeAllGroupChats,
    BotCommandScopeAllPrivateChats,
    BotCommandScopeChat,
)
from telegram.error import TelegramError

from bot.commands import Command, commands_of
from bot.telegram.inbox import CHANNEL
from bot.telegram.outgoing import TelegramBot
from bot.texts import LANGUAGES, texts_for

log = structlog.get_logger("familiar.telegram")

IN_GROUPS = frozenset({"new", "retry", "stop", "undo", "persona", "model", "correct", "group", "help"})


async def register(bot: TelegramBot, admins: Iterable[str]) -> None:
    """Tell Telegram the commands: for private chats, for groups, and for the admins named in the settings.

    A language that is not ours shows the first one's.
    """
    everybody = commands_of("telegram")
    groups = tuple(command for command in everybody if command.name in IN_GROUPS)
    scopes: list[tuple[BotCommandScope, Sequence[Command]]] = [
        (BotCommandScopeAllPrivateChats(), everybody),
        (BotCommandScopeAllGroupChats(), groups),
    ]
    for admin in admins:
        channel, _, external_id = admin.partition(":")
        if channel == CHANNEL and external_id.isdecimal():
            scopes.append((BotCommandScopeChat(int(external_id)), commands_of("telegram", admin=True)))
    for scope, commands in scopes:
        for language in LANGUAGES:
            await _set(bot, commands, language, scope, "" if language == LANGUAGES[0] else language)


async def for_person(bot: TelegramBot, chat_id: int, language: str, *, admin: bool) -> None:
    """Show somebody the commands in the language that they chose; "" as Telegram's own says again."""
    scope = BotCommandScopeChat(chat_id)
    if language or admin:
        await _set(bot, commands_of("telegram", admin=admin), language, scope, "")
        return
    try:
        await bot.delete_my_commands(scope)
    except TelegramError as error:
        log.warning("the list of commands was not changed", reason=str(error))


async def _set(
    bot: TelegramBot, commands: Sequence[Command], language: str, scope: BotCommandScope, language_code: str
) -> None:
    texts = texts_for(language)
    listed = [BotCommand(command.name, texts.t(command.help)) for command in commands]
    try:
        await bot.set_my_commands(listed, scope, language_code or None)
    except TelegramError as error:
        log.warning("the list of commands was not changed", language=language, reason=str(error))
