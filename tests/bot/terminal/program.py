"""The terminal chat or `familiar ask` as a program of its own, for tests that look at it from outside.

    python -m tests.bot.terminal.program '{"folder": …, "address": …}' chat|ask [question] [options]

The database and the client are real; the engine is whatever the address leads to.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from bot.assistant import Assistant
from bot.terminal import ask, chat
from engine.client import EngineClient
from engine.state import Address, State
from settings import Assistant as AssistantSettings
from settings import Data, Learning, Persona, Settings
from store.session import Store


class GatedConnection:
    """Ready at once, or after `phases`; the last of these lasts until the file `gate` exists."""

    def __init__(self, address: Address, phases: list[str], gate: Path) -> None:
        self._address = address
        self._phases = phases
        self._gate = gate

    async def wait(self) -> AsyncIterator[State]:
        while self._phases:
            yield State.model_validate({"phase": self._phases.pop(0), "since": time.time()})
            while not self._phases and not await asyncio.to_thread(self._gate.exists):
                await asyncio.sleep(0.01)
        yield State(phase="ready", since=time.time(), address=self._address)


async def main(setup: dict[str, Any], arguments: list[str]) -> int:
    options = argparse.ArgumentParser()
    options.add_argument("command")
    options.add_argument("question", nargs="?", default="")
    options.add_argument("--json", action="store_true")
    options.add_argument("--persona", default="")
    options.add_argument("--model", default="")
    options.add_argument("--conversation", type=int)
    options.add_argument("--latest", action="store_true")
    given = options.parse_args(arguments)
    folder = Path(setup["folder"])
    logging.basicConfig(filename=folder / "log", level=logging.INFO)
    settings = Settings(
        data=Data(folder=folder),
        learning=Learning(consent=setup.get("consent", "none")),
        assistant=AssistantSettings(reply_reserve_tokens=16),
        persona=(
            Persona(name="familiar", title="Familiar", system="Be brief."),
            Persona(name="pirate", title="Captain", system="Talk like a pirate."),
        ),
    )
    connection = GatedConnection(
        Address.model_validate(setup["address"]), list(setup.get("phases", ())), folder / "gate"
    )
    client = EngineClient(connection, max_concurrent=4, first_token_timeout_s=60, between_tokens_timeout_s=60)
    with Store(f"sqlite:///{folder / 'familiar.db'}") as store:
        async with client:
            assistant = Assistant(store, client, settings)
            if given.command == "ask":
                return await ask.run(
                    assistant,
                    settings,
                    given.question,
                    as_json=given.json,
                    persona=given.persona,
                    model=given.model,
                )
            return await chat.run(assistant, settings, conversation=given.conversation, latest=given.latest)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(json.loads(sys.argv[1]), sys.argv[2:])))
