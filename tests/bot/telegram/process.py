"""The bot as a process of its own, which a test starts, kills and starts again, and what it left in its database.

What it logs goes to one file over all its starts, so that nobody has to read along.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import Process
from pathlib import Path
from typing import Any

from sqlmodel import col, select

from engine.state import Address
from store import inbox
from store.session import Store
from store.tables import Message
from tests.fakes.vllm import eventually

REPOSITORY = Path(__file__).resolve().parents[3]
GENEROUS_S = 40.0  # bounds what must happen; never decides a test that passes
SERVED = "Telegram is served"


class BotProcess:
    """`telegram` and `sections` are what it is set to. Its database lies in `folder`."""

    def __init__(
        self, folder: Path, address: Address, telegram: dict[str, Any], sections: dict[str, Any] | None = None
    ) -> None:
        settings = {
            "data": {"folder": str(folder)},
            "access": {"mode": "open", "messages_per_minute": 0},
            "learning": {"consent": "none"},
            "telemetry": {"metrics_port": 0},
            "telegram": telegram,
            **(sections or {}),
        }
        self.folder = folder
        self._setup: dict[str, Any] = {
            "folder": str(folder),
            "address": address.model_dump(mode="json"),
            "settings": settings,
        }
        self._process: Process | None = None

    @property
    def log(self) -> str:
        file = self.folder / "bot.log"
        return file.read_text(encoding="utf-8") if file.exists() else ""

    @property
    def store(self) -> Store:
        """Its database, which it made at its first start. To be opened and closed."""
        return Store(f"sqlite:///{self.folder / 'familiar.db'}")

    def change(self, **telegram: Any) -> None:
        """Other settings of its section `telegram` from the next start on."""
        self._setup["settings"]["telegram"] |= telegram

    async def start(self, *, until: str = SERVED) -> None:
        """Returns when it has logged that it is served, or the words of `until`."""
        said = self.log.count(until)
        with (self.folder / "bot.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.bot.telegram.program", json.dumps(self._setup)),
                cwd=REPOSITORY,
                stdout=log,
                stderr=log,
            )
        ended = asyncio.create_task(self._process.wait())
        try:
            await eventually(lambda: self.log.count(until) > said or ended.done(), GENEROUS_S)
        except TimeoutError:
            raise AssertionError(f"it never logged {until!r}\n{self.log}") from None
        finally:
            ended.cancel()
        assert self.log.count(until) > said, self.log

    async def kill(self) -> None:
        """End it on the spot, in the middle of whatever it does."""
        process = self._running()
        process.kill()
        await process.wait()
        self._process = None

    def terminate(self) -> None:
        """Ask it to end, as a service manager does."""
        self._running().send_signal(signal.SIGTERM)

    async def ended(self) -> int:
        """Its exit code, once it has ended."""
        code = await asyncio.wait_for(self._running().wait(), GENEROUS_S)
        self._process = None
        return code

    async def settle(self) -> None:
        """Wait until nothing is left to be done, and end it: what is seen now is all there will be."""
        with self.store as store:
            await eventually(lambda: not inbox.waiting(store, "telegram"), GENEROUS_S)
        self.terminate()
        assert await self.ended() == 0, self.log

    async def close(self) -> None:
        if self._process is not None and self._process.returncode is None:
            await self.kill()

    def written(self) -> list[tuple[str, str]]:
        """The role and text of every message in the database, in the order in which they were written."""
        with self.store as store, store.reading() as session:
            messages = session.exec(select(Message).order_by(col(Message.id)))
            return [(message.role, message.content) for message in messages]

    def _running(self) -> Process:
        assert self._process is not None, "it was not started"
        return self._process
