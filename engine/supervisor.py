"""Keeps one vLLM alive for a data folder: starts it, watches it, starts it again, ends it when nobody needs it.

`python -m engine.supervisor` is started detached by the first command that needs an engine (engine.process) and serves
all of them. It obeys SIGTERM (stop) and SIGHUP (start vLLM anew, once running replies are done: LoRA was switched on,
or the weights are poisoned). vLLM itself runs below engine.guard, so that it ends with the supervisor in any case.

What counts as a crash: any end of vLLM that was not asked for, whatever its exit code; a server that does not generate
when asked; replies under way with no new token for a minute. After a crash it is started again, with a growing pause,
until there were too many within ten minutes. A start that vLLM itself gave up (a wrong flag, say) is not repeated.

A process that trains may need the GPU (EngineFolder.lent). Then replies under way end, vLLM sleeps, and new turns wait;
it is woken when that process is gone, however it went. One that cannot sleep is ended, and started again after.

It serves a whole model in the base model's place (engine.whole_model) where one is in force, or asked for to be. One
that is damaged, gone, or with which vLLM will not start or stay, is left out, and what was in force, or the base model,
answers. The store is told so when that is ready: were it to fail too, the cause lay elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Container
from functools import partial
from pathlib import Path
from typing import TypeVar

import aiohttp
import psutil

from engine import hardware, life, models, probe, sleeping, vllm, whole_model
from engine.adapters import Adapters, served_name, wanted_whole
from engine.errors import AdapterRefused, ModelUnavailable
from engine.folder import EngineFolder
from engine.life import Running, pause
from engine.state import Address, Phase, State
from settings import Settings, load
from store import adapters as table
from store.errors import StoreError
from store.session import Store
from store.tables import Adapter

CRASH_WINDOW_S = 600.0
PROBE_EVERY_S = 30.0  # of an idle server
STALL_S = 60.0  # without a new token while replies are under way
DRAIN_S = 120.0
QUIET_LOOKS = 3  # in a row: what has just been sent is counted only when its text has become tokens

# What vLLM logs when a phase begins; other versions that say something else only make the progress coarser.
PHASE_MARKS: tuple[tuple[bytes, Phase], ...] = ((b"Starting to load model", "loading"), (b"KV cache size", "warming"))

log = logging.getLogger("familiar.supervisor")

T = TypeVar("T")


class Crashed(Exception):
    """vLLM ended, or had to be ended, without being asked to."""

    def __init__(self, reason: str, *, repeat: bool = True) -> None:
        super().__init__(reason)
        self.repeat = repeat  # would another start help?


class Supervisor:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.files = EngineFolder(settings.data.folder)
        self.hardware = hardware.detect()
        self.stop = asyncio.Event()
        self.renew = asyncio.Event()
        self.restarts = 0
        self.sleeps = 0
        self.left_out: dict[str, str] = {}  # whole models that could not be served, and why

    async def run(self) -> int:
        """Serve until stopped, idle or beaten. The exit code: 0, or 1 when the engine failed for good."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop.set)
        loop.add_signal_handler(signal.SIGHUP, self.renew.set)
        self.files.end_recorded_group()
        self.files.touch()
        try:
            await self._serve()
        except (Crashed, ModelUnavailable, StoreError) as error:
            log.error("the engine failed: %s", error)
            tail = self.files.log_tail() if isinstance(error, Crashed) else ""
            self._say("failed", detail=str(error), log_tail=tail)
            return 1
        self._say("stopped")
        return 0

    async def _serve(self) -> None:
        self._say("starting", detail="preparing the model")
        choice = models.choose(self.settings.engine.model, self.hardware)
        log.info("model %s: %s", choice.model, choice.reason)
        report = lambda text: self._say("starting", detail=text)  # noqa: E731
        folder = await asyncio.to_thread(models.ensure, choice, self.settings.data.folder / "models", report)
        crashes: list[float] = []
        while not self.stop.is_set():
            if not await self._has_its_gpu():
                return
            self.renew.clear()
            whole = await self._whole(folder)
            started = self._started(folder, choice.served_name, whole)
            try:
                async with aiohttp.ClientSession() as session, started as running:
                    await self._until_ready(session, running)
                    await self._watch(session, running)
                if not self.renew.is_set():
                    return
                self.left_out.clear()  # who asked for it may have repaired one
                self._say("restarting", detail="to change what it serves")
            except Crashed as crash:
                crashes = [at for at in crashes if at > time.time() - CRASH_WINDOW_S] + [time.time()]
                if not crash.repeat or len(crashes) > self.settings.engine.max_restarts:
                    often = f" ({len(crashes)} times within ten minutes)" if len(crashes) > 1 else ""
                    if whole is None:
                        raise Crashed(f"{crash}{often}") from crash
                    self._leave_out(whole, f"{crash}{often}")
                    crashes = []
                    continue
                self.restarts += 1
                self._say("restarting", detail=str(crash))
                log.warning("crash %d: %s", len(crashes), crash)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.stop.wait(), 2.0 ** (len(crashes) - 1) - 0.5)

    # One life of vLLM

    @contextlib.asynccontextmanager
    async def _started(self, folder: Path, name: str, whole: Adapter | None) -> AsyncIterator[Running]:
        port, api_key = _free_port(), secrets.token_urlsafe(32)
        wholes = await self._stored(lambda store: tuple(map(served_name, _wholes(store))))
        launch = vllm.launch(
            self.settings.engine,
            folder if whole is None else self.adapters / whole.folder,
            name,
            self.hardware,
            port=port,
            api_key=api_key,
            lora=whole is None and await self._lora(),
            adapters=self.adapters,
            training=self.settings.finetune.gpu,
        )
        self._say("starting")
        address = Address(
            url=f"http://127.0.0.1:{port}",
            api_key=api_key,
            model=name,
            max_model_len=launch.max_model_len,
            model_folder=folder,
            lora=launch.lora,
            whole=served_name(whole) if whole else "",
            wholes=wholes,
        )
        running = await life.begin(launch, self.files, address)
        try:
            yield running
        finally:
            await self._end(running)

    async def _until_ready(self, session: aiohttp.ClientSession, running: Running) -> None:
        deadline = time.monotonic() + self.settings.engine.start_timeout_s
        phase: Phase = "starting"
        while not await self._serves(session, running.address):
            if self.stop.is_set():
                return
            if running.guard.returncode is not None or running.report.done():
                ended = await running.report
                # A signal came from outside (somebody, or the kernel for want of memory): worth another start. So it is
                # beside a training: vLLM gives up when the GPU's memory changes while it measures it.
                repeat = "signal" in ended or not ended or bool(self.files.lent())
                raise Crashed(f"it ended while starting ({ended})", repeat=repeat)
            if time.monotonic() > deadline:
                raise Crashed(f"it was not ready within {self.settings.engine.start_timeout_s:.0f} s", repeat=False)
            reached = self._phase_in_log()
            if reached != phase:
                phase = reached
                self._say(phase)
            await pause(0.2, running.report)
        self._say("warming")
        await self._look(session, running)
        await self._restore_adapters(running.address)
        await self._stored(lambda store: _note(store, running.address.whole, self.left_out))
        if self.files.asked_for() in (running.address.whole, *self.left_out):
            self.files.ask_for("")
        left_out = "; ".join(f"{name} is left out: {why}" for name, why in self.left_out.items())
        self._say("ready", address=running.address, detail=left_out)
        log.info("ready at %s", running.address.url)

    async def _watch(self, session: aiohttp.ClientSession, running: Running) -> None:
        """Returns when the engine is to end; raises Crashed when it did so by itself."""
        generated, moved, probed = -1.0, time.time(), time.time()
        keep_alive_s = self.settings.engine.keep_alive_minutes * 60
        while not self.stop.is_set():
            if running.guard.returncode is not None or running.report.done():
                raise Crashed(f"it ended unexpectedly ({await running.report or 'its guard was killed'})")
            if self.renew.is_set():
                self._say("restarting", detail="to change what it serves")
                await self._drain(session, running)
                return
            if self.files.lent() == "sleep":
                await self._sleep(session, running)
                generated, moved, probed = -1.0, time.time(), time.time()
                continue
            now = time.time()
            try:
                numbers = await probe.metrics(session, running.address)
            except (aiohttp.ClientError, TimeoutError):
                numbers = {}  # it is dying, which the next look at the guard tells, or hanging, which the canary tells
            under_way = numbers.get("vllm:num_requests_running", 0) + numbers.get("vllm:num_requests_waiting", 0)
            tokens = numbers.get("vllm:generation_tokens_total", 0) + numbers.get("vllm:prompt_tokens_total", 0)
            if tokens != generated:
                generated, moved = tokens, now
            if under_way and now - moved > STALL_S:
                raise Crashed(f"its replies have not advanced for {STALL_S:.0f} s")
            if not under_way and now - probed > PROBE_EVERY_S:
                await self._look(session, running)
                probed = time.time()
            foreign = numbers.get("vllm:generation_tokens_total", 0) - running.probes
            if under_way or foreign > self._foreign_tokens:
                self._foreign_tokens = foreign
                self.files.touch()
            if keep_alive_s and time.time() - self.files.last_used() > keep_alive_s:
                log.info("idle for %.0f minutes", keep_alive_s / 60)
                return
            await pause(1.0, running.report, self.stop, self.renew)

    _foreign_tokens = 0.0

    async def _end(self, running: Running) -> None:
        """Politely if it serves, at once if it is still starting (SIGTERM would be lost then)."""
        state = self.files.read()
        serves = running.guard.returncode is None and state is not None and state.phase == "ready"
        if serves:
            self._say("stopped" if self.stop.is_set() else "restarting")
        await life.end(running, politely=serves)

    # Parts of it

    async def _serves(self, session: aiohttp.ClientSession, address: Address) -> bool:
        try:
            async with session.get(f"{address.url}/health", timeout=aiohttp.ClientTimeout(total=5)) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def _look(self, session: aiohttp.ClientSession, running: Running) -> None:
        running.probes += 1
        try:
            await probe.canary(session, running.address)
        except probe.Sick as sick:
            await pause(2.0, running.report)  # a process that is just dying says so within a second
            raise Crashed(str(sick)) from sick

    async def _drain(self, session: aiohttp.ClientSession, running: Running) -> None:
        """Let running replies end; new turns wait, since the state is no longer ready."""
        deadline, quiet = time.monotonic() + DRAIN_S, 0
        while time.monotonic() < deadline and running.guard.returncode is None and quiet < QUIET_LOOKS:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                numbers = await probe.metrics(session, running.address)
                under_way = numbers.get("vllm:num_requests_running", 0) + numbers.get("vllm:num_requests_waiting", 0)
                quiet = 0 if under_way else quiet + 1
            await asyncio.sleep(0.3)

    # While the GPU is lent

    async def _has_its_gpu(self) -> bool:
        """Wait for it before a start. False when it is to stop."""
        if self.files.lent() != "sleep":
            return True
        self._say("learning", asleep=True)
        while not self.stop.is_set():
            if self._is_given_back():
                return True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stop.wait(), 0.5)
        return False

    async def _sleep(self, session: aiohttp.ClientSession, running: Running) -> None:
        """Sleep until the GPU is given back, and be ready then. Returns at once when something else is to be done."""
        self._say("learning")
        await self._drain(session, running)
        try:
            await sleeping.fall_asleep(session, running.address)
        except sleeping.Refused as refused:
            log.warning("vLLM cannot sleep, so it is ended, and started again when the GPU is free: %s", refused)
            self.renew.set()
            return
        log.info("asleep: the GPU is lent")
        self.sleeps += 1
        self._say("learning", asleep=True)
        while not self._is_given_back():
            await pause(0.5, running.report, self.stop, self.renew)
            if self.stop.is_set() or self.renew.is_set() or running.report.done():
                return
        try:
            await sleeping.wake_up(session, running.address)
        except sleeping.Refused as refused:
            raise Crashed(f"it did not wake up: {refused}") from refused
        await self._look(session, running)
        await self._restore_adapters(running.address)
        self.files.touch()
        self._say("ready", address=running.address)
        log.info("awake")

    def _is_given_back(self) -> bool:
        """Whoever takes the GPU reads whether we are asleep, so that is taken back before we look for the last time."""
        if self.files.lent() == "sleep":
            return False
        self._say("warming")
        if self.files.lent() != "sleep":
            return True
        self._say("learning", asleep=True)
        return False

    async def _lora(self) -> bool:
        if self.settings.engine.lora != "auto":
            return self.settings.engine.lora == "on"
        rows = await self._stored(table.all_adapters)
        return any(row.kind == "lora" and (row.loaded or row.active) for row in rows)

    async def _whole(self, base: Path) -> Adapter | None:
        """The whole model to be served; None where it is the base model, or nothing else is fit to be."""
        while True:
            look = partial(wanted_whole, asked=self.files.asked_for(), but=self.left_out)
            wanted = await self._stored(look)
            if wanted is None:
                return None
            folder = self.adapters / wanted.folder
            try:
                await asyncio.to_thread(whole_model.check, folder, base, numbers=False)
                return wanted
            except AdapterRefused as refused:
                self._leave_out(wanted, str(refused))

    def _leave_out(self, whole: Adapter, why: str) -> None:
        log.error("%s is left out: %s", served_name(whole), why)
        self.left_out[served_name(whole)] = why
        self._say("restarting", detail=f"without {served_name(whole)}: {why}")

    async def _stored(self, look: Callable[[Store], T]) -> T:
        with contextlib.closing(Store(self.settings.database_url)) as store:
            await asyncio.to_thread(store.open)
            return await asyncio.to_thread(look, store)

    @property
    def adapters(self) -> Path:
        return self.settings.data.folder / "adapters"

    async def _restore_adapters(self, address: Address) -> None:
        if not address.lora:
            return
        with contextlib.closing(Store(self.settings.database_url)) as store:
            await asyncio.to_thread(store.open)
            kept = self.settings.engine.max_cpu_loras
            refused = await Adapters(store, self.adapters, max_cpu_loras=kept).restore(address)
        for name, reason in refused.items():
            log.error("adapter %s was not loaded: %s", name, reason)
        if any(reason.engine_poisoned for reason in refused.values()):
            raise Crashed("an adapter spoilt its weights; it is left out from now on")

    def _phase_in_log(self) -> Phase:
        text = self.files.log.read_bytes() if self.files.log.exists() else b""
        return next((phase for mark, phase in reversed(PHASE_MARKS) if mark in text), "starting")

    def _say(
        self,
        phase: Phase,
        *,
        address: Address | None = None,
        detail: str = "",
        log_tail: str = "",
        asleep: bool = False,
    ) -> None:
        before = self.files.read() if phase == "learning" else None
        self.files.write(
            State(
                phase=phase,
                since=before.since if before is not None and before.phase == phase else time.time(),
                address=address,
                detail=detail,
                log_tail=log_tail,
                restarts=self.restarts,
                sleeps=self.sleeps,
                asleep=asleep,
            )
        )


def _wholes(store: Store) -> list[Adapter]:
    return [row for row in table.all_adapters(store) if row.kind == "model"]


def _note(store: Store, whole: str, left_out: Container[str]) -> None:
    """Have the store say what is served: of the whole models this one is in force, or none."""
    for row in _wholes(store):
        if served_name(row) in left_out and row.id is not None:
            table.mark_loaded(store, row.id, False)
        if row.active and served_name(row) != whole:
            table.activate(store, row.name, None)
    for row in _wholes(store):
        if served_name(row) == whole and row.id is not None:
            table.activate(store, row.name, row.version)
            table.mark_loaded(store, row.id, True)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    settings = load()
    files = EngineFolder(settings.data.folder)
    files.make()
    held = None
    for _ in range(10):  # a command that only looks holds the lock for an instant
        held = files.lock()
        if held is not None:
            break
        time.sleep(0.1)
    if held is None:
        log.info("another supervisor is there already")
        return 0
    if files.stopped_since(_began()):
        log.info("stopped before it began")
        return 0
    supervisor = Supervisor(settings)
    return asyncio.run(supervisor.run())


def _began() -> float:
    """Unix time at which this process did. psutil says it up to a second early: it has the boot in whole seconds."""
    since_boot = psutil.Process().create_time() - psutil.boot_time()
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot)


if __name__ == "__main__":
    sys.exit(main())
