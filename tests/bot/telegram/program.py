"""The Telegram channel as a program of its own, for tests that kill it.

    python -m tests.bot.telegram.program '{"folder": …, "address": …, "settings": …}'

The database and the client are real; the engine and Telegram are whatever the addresses lead to.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from bot.assistant import Assistant
from bot.telegram.application import run
from bot.telemetry import configure_logs
from engine.client import EngineClient
from engine.state import Address
from settings import Settings
from store.session import Store
from tests.fakes.vllm import FakeConnection


async def main(setup: dict[str, Any]) -> int:
    settings = Settings.model_validate(setup["settings"])
    configure_logs(settings.telemetry)
    connection = FakeConnection(Address.model_validate(setup["address"]))
    client = EngineClient(
        connection,
        max_concurrent=setup.get("max_concurrent", 16),
        first_token_timeout_s=60,
        between_tokens_timeout_s=60,
    )
    with Store(f"sqlite:///{Path(setup['folder']) / 'familiar.db'}") as store:
        async with client:
            return await run(Assistant(store, client, settings), settings)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(json.loads(sys.argv[1]))))
