"""The Telegram channel on the real engine, as a program of its own that is killed and started again."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.client import EngineClient
from engine.process import LocalEngine
from settings import REPOSITORY, Sampling
from store import conversations, feedback, people
from store.session import Store
from store.tables import Message
from tests.live.conftest import PERSONA, ready
from tests.telegram_server import Chat, TelegramServer

PATIENCE_S = 240

# Replies of its are long enough to be seen on their way, and stopped or killed there.
COUNTER = PERSONA.model_copy(
    update={"name": "counter", "sampling": Sampling(temperature=0.0, repetition_penalty=1.0, max_tokens=400)}
)


class Program:
    """The bot in a process of its own."""

    def __init__(self, setup: dict[str, Any], server: TelegramServer, log: Path) -> None:
        self._setup = setup
        self._server = server
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        polls = len(self._server.calls_of("getUpdates"))
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.bot.telegram.program", json.dumps(self._setup)),
                cwd=REPOSITORY,
                stdout=log,
                stderr=log,
            )
        async with asyncio.timeout(PATIENCE_S):
            while len(self._server.calls_of("getUpdates")) == polls:
                assert self._process.returncode is None, self._log.read_text()
                await asyncio.sleep(0.05)

    async def end(self, how: signal.Signals) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(how)
        return await asyncio.wait_for(self._process.wait(), PATIENCE_S)


@pytest.fixture
async def telegram() -> AsyncIterator[TelegramServer]:
    async with TelegramServer() as server:
        yield server


@pytest.fixture
async def program(engine: LocalEngine, telegram: TelegramServer, tmp_path: Path) -> AsyncIterator[Program]:
    setup = {
        "folder": str(tmp_path),
        "address": (await ready(engine)).model_dump(mode="json"),
        "settings": {
            "data": {"folder": str(tmp_path)},
            "telegram": {"token": telegram.token, "api_url": telegram.url, "poll_timeout_s": 2},
            "access": {"mode": "open"},
            "telemetry": {"metrics_port": 0, "log_format": "json"},
            "persona": [persona.model_dump() for persona in (PERSONA, COUNTER)],
        },
    }
    program = Program(setup, telegram, tmp_path / "bot.log")
    await program.start()
    try:
        yield program
    finally:
        await program.end(signal.SIGKILL)


def branch(store: Store, chat: Chat) -> list[Message]:
    person = people.with_identity(store, "telegram", str(chat.id))
    assert person is not None
    assert person.id is not None
    conversation = conversations.latest(store, person.id, "telegram")
    if conversation is None or conversation.head_id is None:
        return []
    return conversations.path(store, conversation.head_id)


def answers(chat: Chat) -> list[str]:
    """What stands above the buttons for rating, in order."""
    return [shown.text for shown in chat.replies if shown.keyboard and shown.keyboard[0][0].text.startswith("👍")]


async def test_a_conversation_with_stop_retry_rating_and_a_kill(
    program: Program, telegram: TelegramServer, store: Store, client: EngineClient, tmp_path: Path
) -> None:
    ada = telegram.private(telegram.user(101, "Ada", language_code="en"))

    # Two turns; the second is understood from the first. The first contact asks for consent.
    ada.command("/start")
    await ada.wait_for(lambda: any("May I learn" in shown.text for shown in ada.replies))
    ada.send("What is the capital of France?")
    await ada.wait_for(lambda: len(answers(ada)) == 1, PATIENCE_S)
    assert "Paris" in answers(ada)[0]
    ada.send("Say its name again, in one word.")
    await ada.wait_for(lambda: len(answers(ada)) == 2, PATIENCE_S)
    assert "Paris" in answers(ada)[1]

    # A rating by button, and another reply in the same place.
    rated = ada.replies[-1]
    ada.press(rated, "👍")
    await ada.wait_for(lambda: rated.keyboard[0][0].text == "👍 ✓")
    reply = branch(store, ada)[-1]
    assert reply.id is not None
    person = people.with_identity(store, "telegram", "101")
    assert person is not None
    assert person.id is not None
    assert feedback.rating_of(store, reply.id, person.id) == 1
    ada.press(rated, "🔁")
    await ada.wait_for(lambda: len(rated.keyboard) == 2 and rated.keyboard[1][1].text == "2/2", PATIENCE_S)
    assert len(conversations.siblings(store, reply.id)) == 2

    # A long reply, stopped: the engine has nothing to do any more, and what was shown is kept.
    ada.command("/persona counter")
    await ada.wait_for(lambda: ada.last and "counter" in ada.last.text)
    ada.send("Write all the numbers from 1 to 500.")
    await ada.wait_for(lambda: ada.draft is not None and len(ada.draft.text) > 20, PATIENCE_S)
    ada.stop_generation()
    await ada.wait_for(lambda: len(answers(ada)) == 3, PATIENCE_S)
    assert branch(store, ada)[-1].finish == "stopped"
    assert len(branch(store, ada)[-1].content) > 20
    async with asyncio.timeout(30):  # the engine counts what runs once a step
        while (await client.metrics())["vllm:num_requests_running"] > 0:
            await asyncio.sleep(0.1)

    # Killed in the middle of a reply, and while another message waits: both are answered, once, in order.
    ada.send("Write all the numbers from 1 to 300.")
    await ada.wait_for(lambda: ada.draft is not None and ada.draft.text, PATIENCE_S)
    ada.send("What is the capital of Italy?")
    await ada.wait_for(lambda: not telegram.pending)
    assert await program.end(signal.SIGKILL) == -signal.SIGKILL
    assert len(answers(ada)) == 3
    await program.start()
    await ada.wait_for(lambda: len(answers(ada)) == 5, PATIENCE_S)
    assert "Rome" in answers(ada)[4]
    said = [message.content for message in branch(store, ada) if message.role == "user"]
    assert said[-2:] == ["Write all the numbers from 1 to 300.", "What is the capital of Italy?"]
    assert len(said) == 5

    # A kind end; nothing of what people wrote stands in the log.
    assert await program.end(signal.SIGTERM) == 0
    log = (tmp_path / "bot.log").read_text()
    assert "turn ended" in log
    assert "capital" not in log
    assert telegram.token not in log
