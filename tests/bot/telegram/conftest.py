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
from bot.telegram.limiter import ChatRateLimiter
from bot.telemetry import Metrics
from engine.client import EngineClient
from settings import Access as AccessSettings
from settings import Learning, Settings, Telegram
from store import conversations, people
from store.session import Store
from store.tables import Message
from tests.fakes.finder import FakeFinder
from tests.fakes.library import FakeLibrary
from tests.fakes.vllm import FakeConnection, FakeVllm, eventually
from tests.telegram_server import Chat, TelegramServer, User

FAST: dict[str, Any] = {
    "draft_interval_s": 0.02,
    "edit_interval_s": 0.02,
    "join_wait_s": 0.05,
    "join_wait_long_s": 0.3,
    "poll_timeout_s": 2,
    "shutdown_grace_s": 2.0,
}


# What a person waits for a second in, a test need not: Telegram's limits, which tests of the limiter look after.
NO_HURRY = {"chat_rate": 1000, "chat_burst": 1000, "group_limit": 1000, "overall_limit": 1000}


@dataclass
class Talk:
    """One bot and the world around it. `start` and `stop` run it, `kill` ends it without any goodbye."""

    server: TelegramServer
    vllm: FakeVllm
    store: Store
    client: EngineClient
    settings: Settings
    library: FakeLibrary | None = None
    finder: FakeFinder | None = None
    channel: TelegramChannel = field(init=False)
    service: Service = field(init=False)
    task: asyncio.Task[int] | None = None

    async def start(self) -> None:
        assistant = Assistant(self.store, self.client, self.settings, self.finder)
        access = Access(self.store, self.settings.access)
        self.channel = TelegramChannel(assistant, self.settings, access, Metrics(), self.library)
        metrics = self.channel.metrics
        limiter = ChatRateLimiter(**NO_HURRY, on_flood=lambda _: metrics.flood())
        self.service = Service(self.channel, limiter)
        calls = self._calls_to_receive()
        running = self.task = asyncio.create_task(self.service.run())
        await eventually(lambda: running.done() or self._calls_to_receive() > calls)

    def _calls_to_receive(self) -> int:
        answered = [call for call in self.server.calls_of("setWebhook") if call.status]
        return len(self.server.calls_of("getUpdates")) + len(answered)

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

    def branch(self, chat: Chat, person: User | None = None) -> list[Message]:
        """What stands on the branch shown of the conversation that somebody last used there."""
        user_id, place = (chat.id, "") if chat.type == "private" else (chat.members[0].id, str(chat.id))
        known = people.with_identity(self.store, "telegram", str(person.id if person else user_id))
        held = conversations.latest(self.store, known.id or 0, "telegram", place) if known else None
        return conversations.path(self.store, held.head_id) if held and held.head_id else []

    def prompt(self, number: int = -1) -> list[str]:
        """What the engine was asked, without the system's part."""
        return [each["content"] for each in self.vllm.chats[number].body["messages"] if each["role"] != "system"]

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
def library() -> FakeLibrary | None:
    """Where documents go; there is none, unless a test's file says otherwise. It is the same one after a restart."""
    return None


@pytest.fixture
def finder() -> FakeFinder | None:
    """What is searched for passages; nothing, unless a test's file says otherwise."""
    return None


@pytest.fixture
async def bot_api() -> AsyncIterator[TelegramServer]:
    async with TelegramServer() as server:
        yield server


@pytest.fixture
def ada(bot_api: TelegramServer) -> User:
    """She has made the group. Files of tests in private chats have their own `ada`, her chat."""
    return bot_api.user(101, "Ada", language_code="en")


@pytest.fixture
def bo(bot_api: TelegramServer) -> User:
    return bot_api.user(102, "Bo", language_code="en")


@pytest.fixture
def group(bot_api: TelegramServer, ada: User, bo: User) -> Chat:
    """The bot is told of everything that is written there."""
    bot_api.privacy_mode = False
    return bot_api.group(-1001, "Team", [ada, bo], admins=[ada])


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
    library: FakeLibrary | None,
    finder: FakeFinder | None,
) -> AsyncIterator[Talk]:
    """A bot that is being served. People need no approval."""
    section = Telegram(token=SecretStr(bot_api.token), api_url=bot_api.url, **(FAST | telegram))
    changed = {"telegram": section, "access": access, "learning": learning}
    talk = Talk(bot_api, vllm, store, client, settings.model_copy(update=changed), library, finder)
    await talk.start()
    try:
        yield talk
    finally:
        await talk.stop()
