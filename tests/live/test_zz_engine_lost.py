"""The engine is killed in the middle of replies, each of its processes in turn. Last, since each costs a restart."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import psutil
import pytest

from bot.assistant import Assistant
from bot.chat import Chat
from bot.events import Failed, Token, Waiting
from engine.adapters import Adapters
from engine.process import LocalEngine
from settings import Settings
from store import conversations
from store.session import Store
from tests.live.conftest import ready
from tests.live.test_talk import said


def processes(engine: LocalEngine) -> dict[str, int]:
    """vLLM's processes and the two that watch over them, by what they are."""
    guard = psutil.Process(int((engine.files.folder / "group").read_text().split()[0]))
    api = guard.children()[0]
    core = next(child for child in api.children() if "EngineCore" in "".join(child.cmdline()))
    supervisor = engine.files.supervisor()
    assert supervisor is not None
    return {"core": core.pid, "api": api.pid, "guard": guard.pid, "supervisor": supervisor}


@pytest.mark.parametrize("victim", ["core", "api", "guard", "supervisor"])
async def test_killed_in_mid_reply_the_next_turn_is_answered(
    victim: str, assistant: Assistant, store: Store, engine: LocalEngine
) -> None:
    before = await ready(engine)
    doomed = processes(engine)
    chat = await Chat.open(assistant, channel="terminal", external_id="ada")
    await chat.new(persona="talker")
    shown, killed, end = "", False, None
    async for event in chat.send("Write a very long story about a lighthouse keeper, with many chapters."):
        if isinstance(event, Token):
            shown += event.text
            if len(shown) > 40 and not killed:
                os.kill(doomed[victim], signal.SIGKILL)
                killed = True
        end = event
    assert isinstance(end, Failed)
    assert "Traceback" not in end.detail
    history = await chat.history()
    assert history[-1].finish == "error"
    assert history[-1].content == shown  # what was shown is kept

    await chat.new(persona="familiar")
    waited, text = False, ""
    async for event in chat.send("What is the capital of France?"):
        waited = waited or isinstance(event, Waiting)
        text += event.text if isinstance(event, Token) else ""
    assert waited  # the person is told that the engine is coming back
    assert "Paris" in text
    assert (await ready(engine)).url != before.url
    left = [pid for pid in doomed.values() if psutil.pid_exists(pid) and victim != "supervisor"]
    assert set(left) <= {doomed["supervisor"]}  # no orphan; the supervisor itself goes on
    assert conversations.listing(store, chat.person.id or 0)


async def test_loaded_adapters_are_back_after_a_restart(
    engine: LocalEngine, live_settings: Settings, assistant: Assistant, trained: Path
) -> None:
    """The supervisor keeps its own store, that of the data folder; so does this test."""
    with Store(live_settings.database_url) as store:
        adapters = Adapters(store, live_settings.data.folder / "adapters")
        address = await ready(engine)
        assert address.model_folder is not None
        adapter = adapters.register("again", trained, address.model_folder, max_rank=16)
        await adapters.load(address, "again", adapter.version)
        os.kill(processes(engine)["core"], signal.SIGKILL)
        while engine.state().phase == "ready":
            await asyncio.sleep(0.1)
        address = await ready(engine)
        assert f"again@{adapter.version}" in [loaded.name for loaded in await adapters.loaded(address)]
    chat = await Chat.open(assistant, channel="terminal", external_id="ada")
    assert "Paris" in (await said(chat.send("What is the capital of France?"))).text
