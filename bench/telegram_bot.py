"""The bot that bench.telegram_load measures, as a process of its own: everything real but Telegram and the engine.

python -m bench.telegram_bot '{"folder": …, "address": …, "token": …, "api_url": …, "limits": "real" | "off"}'
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from bot.access import Access as AccessList
from bot.assistant import Assistant
from bot.telegram.application import Service
from bot.telegram.channel import TelegramChannel
from bot.telegram.limiter import ChatRateLimiter
from bot.telemetry import Metrics, configure_logs
from engine.client import EngineClient
from engine.state import Address
from settings import Access, Data, Learning, Settings, Telegram, Telemetry
from store.session import Store
from tests.fakes.vllm import FakeConnection

ANY_NUMBER = 1_000_000


async def main(setup: dict[str, Any]) -> int:
    folder = Path(setup["folder"])
    settings = Settings(
        data=Data(folder=folder),
        access=Access(mode="open", messages_per_minute=0),
        learning=Learning(consent="none"),
        telemetry=Telemetry(metrics_port=0, log_level="warning"),
        # Without the wait for further pieces of a text: it is a choice, not work.
        telegram=Telegram(token=SecretStr(setup["token"]), api_url=setup["api_url"], join_wait_s=0, poll_timeout_s=5),
    )
    configure_logs(settings.telemetry)
    # As it is by default, or so that nobody ever waits.
    limiter = None
    if setup["limits"] == "off":
        limiter = ChatRateLimiter(chat_rate=ANY_NUMBER, chat_burst=ANY_NUMBER, overall_limit=ANY_NUMBER)
    timeout_s = settings.engine.first_token_timeout_s
    client = EngineClient(
        FakeConnection(Address.model_validate(setup["address"])),
        max_concurrent=settings.engine.max_concurrent,
        first_token_timeout_s=timeout_s,
        between_tokens_timeout_s=timeout_s,
    )
    with Store(settings.database_url) as store:
        async with client:
            channel = TelegramChannel(
                Assistant(store, client, settings), settings, AccessList(store, settings.access), Metrics()
            )
            return await Service(channel, limiter=limiter).run()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(json.loads(sys.argv[1]))))
