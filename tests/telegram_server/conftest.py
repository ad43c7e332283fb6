"""A server with two people, a private chat, a group, and a bot to ask it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from telegram import (
    Bot,
)

from tests.telegram_server import Chat, TelegramServer, User


@pytest.fixture
async def server() -> AsyncIterator[TelegramServer]:
    async with TelegramServer() as server:
        yield server


@pytest.fixture
def ada(server: TelegramServer) -> User:
    return server.user(101, "Ada", username="ada", language_code="en")


@pytest.fixture
def bo(server: TelegramServer) -> User:
    return server.user(102, "Bo")


@pytest.fixture
def chat(server: TelegramServer, ada: User) -> Chat:
    return server.private(ada)


@pytest.fixture
async def bot(server: TelegramServer) -> AsyncIterator[Bot]:
    async with Bot(server.token, base_url=f"{server.url}/bot", base_file_url=f"{server.url}/file/bot") as bot:
        yield bot


@pytest.fixture
def group(server: TelegramServer, ada: User, bo: User) -> Chat:
    return server.group(-1001, "Team", [ada, bo], admins=[ada])
