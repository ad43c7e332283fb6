"""The bot as a process of its own, which a test starts, kills and starts again, and what it left in its database.

A start takes a second and more, most of which is imports. So all of them are forked from one process that has done
these (multiprocessing's forkserver). What they log goes to one file over all starts, so that nobody has to read along.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from sqlmodel import col, select

from engine.state import Address
from store import inbox
from store.session import Store
from store.tables import Message
from tests.bot.telegram import program
from tests.fakes.vllm import eventually

GENEROUS_S = 40.0  # bounds what must happen; never decides a test that passes
SERVED = "Telegram is served"

forks = multiprocessing.get_context("forkserver")
forks.set_forkserver_preload(["__main__", program.__name__])


def run(setup: dict[str, Any], log: Path) -> None:
    """In the new process."""
    with log.open("ab") as written:
        os.dup2(written.fileno(), 1)
        os.dup2(written.fileno(), 2)
    sys.exit(asyncio.run(program.main(setup)))


class BotProcess:
    """`telegram` is what that section is set to, `sections` are others. Its database lies in `folder`."""

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
        self._setup: dict[str, Any] = {
            "folder": str(folder),
            "address": address.model_dump(mode="json"),
            "settings": settings,
        }
        self._log = folder / "bot.log"
        self._database = f"sqlite:///{folder / 'familiar.db'}"
        self._process: BaseProcess | None = None

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8") if self._log.exists() else ""

    @property
    def store(self) -> Store:
        """Its database, which it made at its first start. To be opened and closed."""
        return Store(self._database)

    def change(self, **telegram: Any) -> None:
        """Other settings of its section `telegram` from the next start on."""
        self._setup["settings"]["telegram"] |= telegram

    async def start(self, *, until: str = SERVED) -> None:
        """Returns when it has logged that it is served, or the words of `until`."""
        said = self.log.count(until)
        process = self._process = forks.Process(target=run, args=(self._setup, self._log), daemon=True)
        await asyncio.to_thread(process.start)
        try:
            await eventually(lambda: self.log.count(until) > said or not process.is_alive(), GENEROUS_S)
        except TimeoutError:
            raise AssertionError(f"it never logged {until!r}\n{self.log}") from None
        assert self.log.count(until) > said, self.log

    async def kill(self) -> None:
        """End it on the spot, in the middle of whatever it does."""
        self._running().kill()
        await self.ended()

    def terminate(self) -> None:
        """Ask it to end, as a service manager does."""
        self._running().terminate()

    async def ended(self) -> int:
        """Its exit code, once it has ended."""
        process = self._running()
        await asyncio.to_thread(process.join, GENEROUS_S)
        assert process.exitcode is not None, f"it does not end\n{self.log}"
        self._process = None
        return process.exitcode

    async def settle(self) -> None:
        """Wait until nothing is left to be done, and end it: what is seen now is all there will be."""
        with self.store as store:
            await eventually(lambda: not inbox.waiting(store, "telegram"), GENEROUS_S)
        self.terminate()
        assert await self.ended() == 0, self.log

    async def close(self) -> None:
        if self._process is not None:
            await self.kill()

    def written(self) -> list[tuple[str, str]]:
        """The role and text of every message in the database, in the order in which they were written."""
        with self.store as store, store.reading() as session:
            messages = session.exec(select(Message).order_by(col(Message.id)))
            return [(message.role, message.content) for message in messages]

    def _running(self) -> BaseProcess:
        assert self._process is not None, "it was not started"
        return self._process
