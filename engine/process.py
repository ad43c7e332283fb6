"""The way from any command to a ready engine: attach to the one of this data folder, or start it.

Connection ── LocalEngine    ours: a supervisor (engine.supervisor) that whoever comes first starts
           └─ RemoteEngine   a vLLM server that somebody else runs (engine.url); nothing is started or stopped
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

from engine import probe
from engine.errors import EngineFailed, WrongKey
from engine.folder import EngineFolder
from engine.state import Address, Connection, State
from settings import Settings

POLL_S = 0.1
FAILED_FOR_S = 30.0  # a failure this young is reported again; after that, asking means trying again
STOP_GRACE_S = 20.0
ASLEEP_WITHIN_S = 600.0  # once it is ready: its replies end first


def connect(settings: Settings) -> Connection:
    """The engine that the settings mean."""
    return RemoteEngine(settings) if settings.engine.url else LocalEngine(settings)


class LocalEngine:
    """The engine of this data folder, shared by all commands."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.files = EngineFolder(settings.data.folder)

    def state(self, *, supervised: bool | None = None) -> State:
        """How it is at this moment. Nothing is started. `supervised`: what was just found of its supervisor."""
        state = self.files.read()
        if supervised is None:
            supervised = self.files.supervisor() is not None
        if state is not None and (state.phase == "failed" or supervised):
            return state
        return State(phase="stopped", since=state.since if state else 0.0)

    async def wait(self) -> AsyncIterator[State]:
        """Yield each state until the engine is ready, starting it if it is not there. Raises EngineFailed."""
        self.files.touch()
        begun, shown = time.time(), None
        if (state := self.state()).phase == "failed" and begun - state.since < FAILED_FOR_S:
            raise _failure(state)
        while True:
            supervised = self.files.supervisor() is not None
            state = self.state(supervised=supervised)
            if not supervised:
                if state.phase == "failed" and state.since >= begun:
                    raise _failure(state)
                await self._until_supervised(self._start_supervisor(), begun)
                continue
            if state != shown:
                shown = state
                yield state
            if state.phase == "ready":
                return
            await asyncio.sleep(POLL_S)

    @contextlib.asynccontextmanager
    async def lend_gpu(self, *, sleep: bool) -> AsyncIterator[int]:
        """Have the GPU for a process of one's own: all of it while the engine sleeps, or what the engine leaves of it.

        The engine has it back when the descriptor that is yielded is closed everywhere, here and in every process that
        it was handed on to. Raises EngineFailed when the engine does not give it away.
        """
        while (held := self.files.lend(sleep=sleep)) is None:  # a process of somebody's who was killed is just ending
            await asyncio.sleep(POLL_S)
        try:
            if sleep:
                await self._until_asleep()
            yield held
        finally:
            os.close(held)

    async def _until_asleep(self) -> None:
        """One that is started from now on waits by itself."""
        give_up_at = time.monotonic() + self.settings.engine.start_timeout_s + ASLEEP_WITHIN_S
        while self.files.supervisor() is not None and not self.state().asleep:
            if time.monotonic() > give_up_at:
                raise EngineFailed("The engine did not give its GPU away. `familiar stop` ends it; then try again.")
            await asyncio.sleep(POLL_S)

    async def stop(self) -> bool:
        """End it, replies under way included. False if it was not running."""
        self.files.note_stop()  # for a supervisor that is just starting and has no lock yet
        supervisor = self.files.supervisor()
        if supervisor is None:
            self.files.end_recorded_group()
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(supervisor, signal.SIGTERM)
        deadline = time.monotonic() + STOP_GRACE_S
        while self.files.supervisor() == supervisor:
            if time.monotonic() > deadline:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(supervisor, signal.SIGKILL)  # its guard ends vLLM then
                deadline += STOP_GRACE_S
            await asyncio.sleep(POLL_S)
        self.files.end_recorded_group()
        return True

    async def renew(self) -> None:
        """Have vLLM started anew once running replies are done, e.g. to switch LoRA on. Returns when that has begun."""
        supervisor, before = self.files.supervisor(), self.state()
        if supervisor is None:
            return
        os.kill(supervisor, signal.SIGHUP)
        while self.files.supervisor() == supervisor and self.state() == before:
            await asyncio.sleep(POLL_S)

    def _start_supervisor(self) -> subprocess.Popen[bytes]:
        self.files.make()
        with self.files.supervisor_log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal that happened to start it is not meant for it.
            return subprocess.Popen(
                [sys.executable, "-m", "engine.supervisor"],
                cwd=Path(__file__).resolve().parent.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ | _as_environment(self.settings),
            )

    async def _until_supervised(self, supervisor: subprocess.Popen[bytes], begun: float) -> None:
        """Until a supervisor holds the lock, this one has gone without a word, or has said why it failed.

        Raises EngineFailed if it could not say.
        """
        while self.files.supervisor() is None:
            code = supervisor.poll()  # 0: another one was first, or somebody wanted it ended when it had just begun
            state = self.state()
            if code == 0 or (state.phase == "failed" and state.since >= begun):
                return
            if code:
                tail = self.files.supervisor_log.read_text(errors="replace")[-2000:]
                raise EngineFailed(f"The engine's supervisor did not start (see {self.files.supervisor_log}).", tail)
            await asyncio.sleep(POLL_S)


class RemoteEngine:
    """A vLLM server that somebody else runs."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._address: Address | None = None

    async def wait(self) -> AsyncIterator[State]:
        """Yield one ready state. Raises EngineFailed, WrongKey."""
        if self._address is None:
            self._address = await self._ask()
        yield State(phase="ready", since=time.time(), address=self._address)

    async def _ask(self) -> Address:
        url = self.settings.engine.url.rstrip("/").removesuffix("/v1")
        key = self.settings.engine.api_key.get_secret_value()
        address = Address(url=url, api_key=key, model="", max_model_len=self.settings.engine.max_model_len)
        try:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
                entries = await probe.models(session, address)
        except aiohttp.ClientResponseError as error:
            if error.status in (401, 403):
                raise WrongKey(f"{url} does not accept the key in engine.api_key.") from error
            raise EngineFailed(f"{url} answers {error.status} to /v1/models. Is it a vLLM server?") from error
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
            raise EngineFailed(f"{url} (engine.url) cannot be reached: {error or type(error).__name__}") from error
        base = [entry for entry in entries if not entry.get("parent")]
        wanted = self.settings.engine.model
        chosen = next((entry for entry in base if entry["id"] == wanted), base[0] if base else None)
        if chosen is None:
            raise EngineFailed(f"{url} serves no model.")
        length = chosen.get("max_model_len") or self.settings.engine.max_model_len
        return address.model_copy(update={"model": chosen["id"], "max_model_len": length})


def _failure(state: State) -> EngineFailed:
    more = " `familiar status` shows the end of its log." if state.log_tail else ""
    return EngineFailed(f"The engine failed: {state.detail}.{more}", state.log_tail)


def _as_environment(settings: Settings) -> dict[str, str]:
    """What a supervisor needs to see the same settings, also where they were made in code, as tests do."""
    engine = {
        f"FAMILIAR_ENGINE__{key.upper()}": value
        for key, value in settings.engine.model_dump(mode="json", exclude={"api_key"}).items()
    }
    data = {
        "FAMILIAR_DATA__FOLDER": str(settings.data.folder),
        "FAMILIAR_DATA__DATABASE": settings.data.database.get_secret_value(),
    }
    learning = {"FAMILIAR_FINETUNE__GPU": settings.finetune.gpu}
    wanted = {**engine, **data, **learning}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in wanted.items()}
