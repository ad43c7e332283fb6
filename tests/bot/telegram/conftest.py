"""A running bot: the real python-telegram-bot application against a Bot API server of our own, a fake engine behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import SecretStr

from bot.access import Access
from bot.assistant import Assistant
from bot.telegram.application import Service
from bot.telegram.channel import TelegramChannel
from bot.telemetry import Metrics
from engine.client import EngineClient
from settings import Access as AccessSettings
from settings import Learning, Settings, Telegram
from store.session import Store
from tests.fakes.vllm import FakeConnection, FakeVllm, eventually
from tests.telegram_server import Chat, TelegramServer

FAST: dict[str, Any] = {
    "draft_interval_s": 0.02,
    "edit_interval_s": 0.02,
    "join_wait_s": 0.05,
    "join_wait_long_s": 0.3,
    "poll_timeout_s": 2,
    "shutdown_grace_s": 2.0,
}


@dataclass
class Talk:
    """One bot and the world around it. `start` and `stop` run it, `kill` ends it without any goodbye."""

    server: TelegramServer
    vllm: FakeVllm
    store: Store
    client: EngineClient
    settings: Settings
    channel: TelegramChannel = field(init=False)
    service: Service = field(init=False)
    task: asyncio.Task[int] | None = None

    async def start(self) -> None:
        assistant = Assistant(self.store, self.client, self.settings)
        access = Access(self.store, self.settings.access)
        self.channel = TelegramChannel(assistant, self.settings, access, Metrics())
        self.service = Service(self.channel)
        polls = len(self.server.calls_of("getUpdates"))
        running = self.task = asyncio.create_task(self.service.run())
        await eventually(lambda: running.done() or len(self.server.calls_of("getUpdates")) > polls)

    async def stop(self) -> int | None:
        """What SIGTERM does."""
        if self.task is None:
            return None
        self.service.end()
        code, self.task = await self.task, None
        return code

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    def private(self, id: int = 101, name: str = "Ada", language: str = "en") -> Chat:
        return self.server.private(self.server.user(id, name, language_code=language))


@pytest.fixture
def telegram() -> dict[str, Any]:
    """What a test sets of the section `telegram`, beside what makes it fast."""
    return {}


@pytest.fixture
def access() -> AccessSettings:
    return AccessSettings(mode="open", messages_per_minute=0)


@pytest.fixture
def learning() -> Learning:
    """Nobody is asked, so that a question stands in no other test's way."""
    return Learning(consent="none")


@pytest.fixture
async def bot_api() -> AsyncIterator[TelegramServer]:
    async with TelegramServer() as server:
        yield server


@pytest.fixture
async def talk(
    bot_api: TelegramServer,
    vllm: FakeVllm,
    store: Store,
    client: EngineClient,
    connection: FakeConnection,
    settings: Settings,
    telegram: dict[str, Any],
    access: AccessSettings,
    learning: Learning,
) -> AsyncIterator[Talk]:
    """A bot that is being served. People need no approval."""
    section = Telegram(token=SecretStr(bot_api.token), api_url=bot_api.url, **(FAST | telegram))
    changed = {"telegram": section, "access": access, "learning": learning}
    talk = Talk(bot_api, vllm, store, client, settings.model_copy(update=changed))
    await talk.start()
    try:
        yield talk
    finally:
        await talk.stop()
