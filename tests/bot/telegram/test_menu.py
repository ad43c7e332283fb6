"""The list of commands that Telegram shows when somebody types a slash."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bot.commands import commands_of
from bot.texts import texts_for
from settings import Access as AccessSettings
from settings import Assistant as AssistantSettings
from settings import Settings
from tests.bot.conftest import PERSONAS
from tests.bot.telegram.conftest import Talk
from tests.fakes.vllm import eventually
from tests.telegram_server import Chat, TelegramServer

PRIVATE, GROUPS = "all_private_chats", "all_group_chats"
WITH_AN_ADMIN = AccessSettings(mode="open", messages_per_minute=0, admins=("telegram:101", "terminal:root"))


def of(chat: Chat) -> str:
    return json.dumps({"type": "chat", "chat_id": chat.id}, sort_keys=True)


def menu(talk: Talk, scope: str, language: str = "") -> dict[str, str]:
    shown = talk.server.commands.get((scope, language), [])
    return {each["command"]: each["description"] for each in shown}


def seen_by(talk: Talk, chat: Chat, language: str) -> dict[str, str]:
    """What the client of somebody in a private chat shows, which looks for the narrowest list."""
    for scope in (of(chat), PRIVATE):
        for code in (language, ""):
            if found := menu(talk, scope, code):
                return found
    return {}


def words(language: str, *, admin: bool = False) -> dict[str, str]:
    texts = texts_for(language)
    return {command.name: texts.t(command.help) for command in commands_of("telegram", admin=admin)}


async def registered(talk: Talk) -> None:
    """The list is told while the bot is served already: for private chats, for groups, for each admin, by language."""
    admins = sum(each.startswith("telegram:") for each in talk.settings.access.admins)
    await eventually(lambda: len(talk.server.calls_of("setMyCommands")) == 2 * (2 + admins))


async def changed(talk: Talk, chat: Chat, command: str) -> None:
    """The command is carried out to its end, which is when Telegram knows the new list."""
    chat.command(command)
    chat.command("/help")
    await chat.wait_for(lambda: "/retry" in chat.last.text)  # type: ignore[union-attr]
    chat.delete(chat.last or 0)


async def test_the_commands_are_there_in_both_languages_and_those_of_admins_are_not(talk: Talk) -> None:
    await registered(talk)
    assert menu(talk, PRIVATE) == words("en")
    assert menu(talk, PRIVATE, "zh") == words("zh")
    assert "broadcast" not in menu(talk, PRIVATE)


async def test_in_groups_there_are_only_those_that_make_sense_there(talk: Talk) -> None:
    await registered(talk)
    shown = menu(talk, GROUPS)
    assert {"new", "retry", "stop", "docs", "group", "help"} <= shown.keys()
    assert not {"forget", "export", "privacy", "list", "users"} & shown.keys()
    assert menu(talk, GROUPS, "zh").keys() == shown.keys()


@pytest.mark.parametrize("access", [WITH_AN_ADMIN])
async def test_an_admin_sees_those_of_admins_too(talk: Talk) -> None:
    await registered(talk)
    ada, bo = talk.private(), talk.private(102, "Bo")
    assert seen_by(talk, ada, "en") == words("en", admin=True)
    assert seen_by(talk, ada, "zh") == words("zh", admin=True)
    assert seen_by(talk, bo, "en") == words("en")


@pytest.mark.parametrize(("access", "admin"), [(AccessSettings(mode="open"), False), (WITH_AN_ADMIN, True)])
@pytest.mark.parametrize("client", ["en", "zh"])
async def test_whoever_chooses_a_language_sees_the_commands_in_it_until_they_go_back(
    talk: Talk, client: str, admin: bool
) -> None:
    ada = talk.private(language=client)
    await registered(talk)
    chosen = "zh" if client == "en" else "en"
    await changed(talk, ada, f"/language {chosen}")
    assert seen_by(talk, ada, client) == words(chosen, admin=admin)
    told = len(talk.server.calls_of("setMyCommands"))
    await talk.restart()
    await eventually(lambda: len(talk.server.calls_of("setMyCommands")) == told + 4 + 2 * admin)
    assert seen_by(talk, ada, client) == words(chosen, admin=admin)
    await changed(talk, ada, "/language auto")
    assert seen_by(talk, ada, client) == words(client, admin=admin)


async def test_a_choice_in_a_group_leaves_its_commands_alone(talk: Talk) -> None:
    ada = talk.private()
    assert ada.person is not None
    group = talk.server.group(-1001, "Team", [ada.person])
    await changed(talk, group, "/language zh")
    assert menu(talk, of(group)) == {}


class TestWhereTheOperatorHasFixedTheLanguage:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(persona=PERSONAS, assistant=AssistantSettings(reply_reserve_tokens=16, language="zh"))

    async def test_the_commands_are_in_it_for_everybody(self, talk: Talk) -> None:
        ada = talk.private()
        await registered(talk)
        assert seen_by(talk, ada, "en") == seen_by(talk, ada, "zh") == words("zh")
        await changed(talk, ada, "/language en")
        assert seen_by(talk, ada, "en") == words("zh")


class TestWhereTelegramDoesNotTakeThem:
    @pytest.fixture
    async def bot_api(self, bot_api: TelegramServer) -> Any:
        bot_api.fail(method="setMyCommands", status=400, times=100)
        return bot_api

    async def test_everything_else_works(self, talk: Talk) -> None:
        await registered(talk)
        ada = talk.private()
        ada.send("Hello")
        await ada.wait_for(lambda: ada.last and ada.last.text == "Hello there!")
        assert talk.server.commands == {}
