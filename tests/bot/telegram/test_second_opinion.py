"""The bot against a Bot API server that somebody else wrote, `lo-bot-api-emulator`.

It refuses every parameter and every kind of update that it does not know, it has no drafts and no reactions, and its
bot has no username. It keeps no texts, so what the bot said is read from the bot's own database, and that each call
was right from the emulator's journal.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr
from sqlmodel import col, select

from bot.access import Access
from bot.assistant import Assistant
from bot.telegram.application import Service
from bot.telegram.channel import TelegramChannel
from bot.telemetry import Metrics
from engine.client import EngineClient
from settings import Access as AccessSettings
from settings import Learning, Settings, Telegram
from store.session import Store
from store.tables import Message, Post, Rating
from tests.bot.telegram.conftest import FAST
from tests.fakes.library import FakeLibrary
from tests.fakes.vllm import FakeVllm, Hold, Reply, eventually

TOKEN = "123456:TEST"
ADA = {"id": 101, "first_name": "Ada", "language_code": "zh-hans"}
PROGRAM = Path(sys.executable).with_name("lo-bot-api-emulator")


@dataclass
class Emulator:
    url: str
    journal: Path
    session: aiohttp.ClientSession
    said: int = field(default=0)  # messages of the person, which are numbered from 1000

    async def send(self, **content: Any) -> int:
        """A message of the person; its number."""
        self.said += 1
        number = 1000 + self.said
        message = {"message_id": number, "date": 1_800_000_000 + 10 * self.said, "from": ADA | {"is_bot": False}}
        await self.push(message=message | {"chat": self.chat} | content)
        return number

    async def command(self, text: str) -> int:
        entity = {"type": "bot_command", "offset": 0, "length": len(text.split()[0])}
        return await self.send(text=text, entities=[entity])

    async def press(self, message_id: int, data: str) -> None:
        message = {"message_id": message_id, "date": 1_800_000_000, "chat": self.chat, "text": "…"}
        query = {"id": "77", "from": ADA | {"is_bot": False}, "chat_instance": "1", "data": data, "message": message}
        await self.push(callback_query=query)

    async def push(self, **update: Any) -> None:
        body = {"token": TOKEN, "update": update}
        async with self.session.post(f"{self.url}/__fixture/updates", json=body) as answer:
            assert answer.status == 200, await answer.text()

    async def upload(self, name: str, data: bytes) -> str:
        """The id of a file that the emulator has now."""
        form = aiohttp.FormData({"chat_id": str(ADA["id"])})
        form.add_field("document", data, filename=name)
        async with self.session.post(f"{self.url}/bot{TOKEN}/sendDocument", data=form) as answer:
            file_id: str = (await answer.json())["result"]["document"]["file_id"]
            return file_id

    @property
    def chat(self) -> dict[str, Any]:
        return {"id": ADA["id"], "type": "private", "first_name": ADA["first_name"]}

    def calls(self, method: str) -> list[int]:
        """The status of each answer to the bot's calls of this method so far."""
        entries = map(json.loads, self.journal.read_text().splitlines() if self.journal.exists() else [])
        return [entry["status"] for entry in entries if entry.get("method") == method]


@pytest.fixture
async def emulator(tmp_path: Path) -> AsyncIterator[Emulator]:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    journal = tmp_path / "journal.jsonl"
    process = await asyncio.create_subprocess_exec(
        *(str(PROGRAM), "--port", str(port), "--enable-control", "--journal", str(journal)), stdout=DEVNULL
    )
    async with aiohttp.ClientSession() as session:
        emulator = Emulator(f"http://127.0.0.1:{port}", journal, session)

        async def answers() -> None:
            while True:
                try:
                    async with session.post(f"{emulator.url}/bot{TOKEN}/getMe"):
                        return
                except aiohttp.ClientConnectorError:
                    await asyncio.sleep(0.05)

        await asyncio.wait_for(answers(), 30)
        yield emulator
    process.terminate()
    await process.wait()


@pytest.fixture
async def channel(
    emulator: Emulator, store: Store, client: EngineClient, settings: Settings
) -> AsyncIterator[TelegramChannel]:
    """The bot, served by the emulator."""
    changes = {
        "telegram": Telegram(token=SecretStr(TOKEN), api_url=emulator.url, **FAST),
        "access": AccessSettings(mode="open", messages_per_minute=0),
        "learning": Learning(consent="none"),
    }
    settings = settings.model_copy(update=changes)
    channel = TelegramChannel(Assistant(store, client, settings), settings, Access(store, settings.access), Metrics())
    channel.library = FakeLibrary()
    service = Service(channel)
    serving = asyncio.create_task(service.run())
    yield channel
    service.end()
    assert await serving == 0


async def test_a_command_a_chinese_text_a_button_and_a_document(
    emulator: Emulator, channel: TelegramChannel, vllm: FakeVllm, store: Store
) -> None:
    hold = Hold()
    vllm.script(Reply("你好", hold, "！我是小熟。"))

    await emulator.command("/start")
    await eventually(lambda: 200 in emulator.calls("sendMessage"))

    await emulator.send(text="你好，你是谁？😀")
    await eventually(lambda: emulator.calls("sendMessage")[-2:] == [200, 200])  # the reply as far as it is made
    assert 400 in emulator.calls("sendMessageDraft")
    hold.release.set()
    await eventually(lambda: set(emulator.calls("editMessageText")) == {200})
    await eventually(lambda: len(posts(store)) == 2)
    assert vllm.chats[0].body["messages"][-1]["content"] == "你好，你是谁？😀"
    question, reply = written(store)
    assert (question.content, reply.content) == ("你好，你是谁？😀", "你好！我是小熟。")

    shown = next(post for post in posts(store) if post.message_id == reply.id)
    await emulator.press(int(shown.external_id), f"up:{reply.id}")
    await eventually(lambda: ratings(store) == [(reply.id, 1)])
    await eventually(lambda: emulator.calls("answerCallbackQuery") == [200])
    await eventually(lambda: emulator.calls("editMessageReplyMarkup") == [200])

    data = "第一行\n第二行".encode()
    document = {"file_id": await emulator.upload("笔记.txt", data), "file_unique_id": "1", "file_name": "笔记.txt"}
    await emulator.send(document=document | {"mime_type": "text/plain", "file_size": len(data)})
    library = channel.library
    assert isinstance(library, FakeLibrary)
    await eventually(
        lambda: [(each.document.name, each.data) for each in library.held.values()] == [("笔记.txt", data)]
    )

    await eventually(lambda: channel.inbox.waiting == 0)
    assert set(emulator.calls("sendMessage")[1:]) == {200}
    assert set(emulator.calls("editMessageText")) <= {200}


def written(store: Store) -> list[Message]:
    with store.reading() as session:
        return list(session.exec(select(Message).order_by(col(Message.id))))


def posts(store: Store) -> list[Post]:
    with store.reading() as session:
        return list(session.exec(select(Post)))


def ratings(store: Store) -> list[tuple[int, int | None]]:
    with store.reading() as session:
        return [(each.message_id, each.value) for each in session.exec(select(Rating))]
