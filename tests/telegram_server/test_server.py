"""The Bot API server of the tests, seen through python-telegram-bot: the bot itself, and a whole application."""

from __future__ import annotations

import aiohttp
import pytest
from telegram import (
    Bot,
    BotCommand,
    BotCommandScopeAllGroupChats,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    Update,
)
from telegram.error import BadRequest, InvalidToken
from telegram.ext import ApplicationBuilder, CallbackQueryHandler, ContextTypes, MessageHandler, filters

from tests.telegram_server import Chat, TelegramServer

THUMBS = InlineKeyboardMarkup(
    [[InlineKeyboardButton("👍", callback_data="up"), InlineKeyboardButton("👎 1", url="https://x.org")]]
)


async def test_the_bot_learns_who_it_is(bot: Bot, server: TelegramServer) -> None:
    server.privacy_mode = False
    me = await bot.get_me()
    assert (me.id, me.username, me.is_bot, me.can_read_all_group_messages) == (123456, "familiar_bot", True, True)


async def test_a_wrong_token_is_refused(server: TelegramServer) -> None:
    with pytest.raises(InvalidToken):
        await Bot("1:other", base_url=f"{server.url}/bot").get_me()


async def test_an_unknown_method_is_not_found(server: TelegramServer) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{server.url}/bot{server.token}/noSuch") as answer:
        assert (answer.status, await answer.json()) == (
            404,
            {"ok": False, "error_code": 404, "description": "Not Found"},
        )


@pytest.mark.parametrize("body", ["json", "data", "params"])
async def test_parameters_come_as_json_as_a_form_or_in_the_address(
    server: TelegramServer, chat: Chat, body: str
) -> None:
    given = {"chat_id": "101", "text": "5"}
    async with aiohttp.ClientSession() as session:
        await session.post(f"{server.url}/bot{server.token}/SendMessage", **{body: given})
    assert chat.last is not None
    assert chat.last.text == "5"


async def test_broken_json_is_a_bad_request(server: TelegramServer) -> None:
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession() as session:
        for body in (b'{"chat_id": 1', b"[1]", b"\xff"):
            answer = await session.post(f"{server.url}/bot{server.token}/getMe", data=body, headers=headers)
            assert answer.status == 400


async def test_commands_are_kept_by_scope_and_language(bot: Bot, server: TelegramServer) -> None:
    help_zh = BotCommand("help", "帮助")
    await bot.set_my_commands([help_zh], scope=BotCommandScopeAllGroupChats(), language_code="zh")
    assert server.commands == {("all_group_chats", "zh"): [{"command": "help", "description": "帮助"}]}
    assert await bot.get_my_commands(BotCommandScopeAllGroupChats(), "zh") == (help_zh,)
    assert await bot.get_my_commands() == ()
    await bot.delete_my_commands(BotCommandScopeAllGroupChats(), "zh")
    assert server.commands == {}
    with pytest.raises(BadRequest, match="Bot_command_invalid"):
        await bot.set_my_commands([BotCommand("Help", "capital")])


async def test_an_application_talks_by_polling(server: TelegramServer, chat: Chat) -> None:
    urls = f"{server.url}/bot", f"{server.url}/file/bot"
    app = ApplicationBuilder().token(server.token).base_url(urls[0]).base_file_url(urls[1]).build()

    async def greet(update: Update, _: ContextTypes.DEFAULT_TYPE) -> None:
        await update.effective_message.reply_text(f"Hello, {update.effective_user.first_name}!", reply_markup=THUMBS)

    async def thank(update: Update, _: ContextTypes.DEFAULT_TYPE) -> None:
        await update.callback_query.answer()
        await update.callback_query.edit_message_text("Thank you.")

    app.add_handler(MessageHandler(filters.TEXT, greet))
    app.add_handler(CallbackQueryHandler(thank))
    async with app:
        await app.updater.start_polling()
        await app.start()
        chat.send("你好 👋")
        await chat.wait_for(lambda: chat.last.text == "Hello, Ada!")
        chat.press(chat.last, "👍")
        await chat.wait_for(lambda: chat.last.text == "Thank you.")
        await app.updater.stop()
        await app.stop()
    assert server.pending == []
    assert chat.last.edits == ["Hello, Ada!"]
