"""The supervisor over a stand-in for vLLM. tests/live/ holds what needs the real one."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from engine.errors import EngineFailed
from engine.process import LocalEngine, _as_environment
from engine.state import State
from settings import REPOSITORY, Data, Engine, Settings

SUPERVISED = Path(__file__).with_name("supervised.py")


class FastEngine(LocalEngine):
    """A LocalEngine whose supervisor runs the stand-in."""

    started: list[subprocess.Popen[bytes]]

    def _start_supervisor(self) -> subprocess.Popen[bytes]:
        self.files.make()
        environment = os.environ | _as_environment(self.settings)
        command = [sys.executable, str(SUPERVISED)]
        with self.files.supervisor_log.open("ab") as log:
            started = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        self.started.append(started)
        return started


@pytest.fixture
async def engine_with(tmp_path: Path) -> AsyncIterator[Callable[..., FastEngine]]:
    engines: list[FastEngine] = []

    def make(**engine: object) -> FastEngine:
        settings = Settings(data=Data(folder=tmp_path), engine=Engine(model="bundled", **engine))  # type: ignore[arg-type]
        made = FastEngine(settings)
        made.started = []
        engines.append(made)
        return made

    yield make
    for engine in engines:
        await engine.stop()
    for engine in engines:
        for process in engine.started:
            await asyncio.to_thread(process.wait, 30)


async def ready(engine: LocalEngine) -> State:
    state: State | None = None
    async for state in engine.wait():
        pass
    assert state is not None
    return state


def group_of(engine: LocalEngine) -> int:
    return int((engine.files.folder / "group").read_text().split()[0])


def members(group: int) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (ProcessLookupError, psutil.Error):
            pass
    return found


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to this in time"
        await asyncio.sleep(0.05)


async def test_starts_once_and_a_second_command_attaches(engine_with: Callable[..., FastEngine]) -> None:
    first, second = engine_with(), engine_with()
    one, other = await asyncio.gather(ready(first), ready(second))
    assert one.address == other.address
    assert (await ready(second)).address == one.address
    assert len(members(group_of(first))) == 3  # guard, API process, core


async def test_state_with_the_key_is_readable_by_its_owner_only(engine_with: Callable[..., FastEngine]) -> None:
    engine = engine_with()
    await ready(engine)
    assert (engine.files.folder / "state.json").stat().st_mode & 0o077 == 0


async def test_stop_leaves_no_process(engine_with: Callable[..., FastEngine]) -> None:
    engine = engine_with()
    await ready(engine)
    group = group_of(engine)
    assert await engine.stop()
    assert members(group) == []
    assert engine.state().phase == "stopped"
    assert not await engine.stop()


@pytest.mark.parametrize("victim", ["guard", "api", "core"])
async def test_is_started_again_when_a_process_is_killed(engine_with: Callable[..., FastEngine], victim: str) -> None:
    engine = engine_with()
    before = await ready(engine)
    group = group_of(engine)
    api = psutil.Process(group).children()[0]
    {"guard": psutil.Process(group), "api": api, "core": api.children()[0]}[victim].kill()
    await until(lambda: engine.state().phase in ("restarting", "starting"))
    after = await ready(engine)
    assert after.address != before.address
    assert after.restarts == 1
    assert members(group) == []


async def test_nothing_is_left_when_the_supervisor_is_killed(engine_with: Callable[..., FastEngine]) -> None:
    engine = engine_with()
    await ready(engine)
    group = group_of(engine)
    supervisor = engine.files.supervisor()
    assert supervisor is not None
    os.kill(supervisor, signal.SIGKILL)
    await until(lambda: members(group) == [])
    assert engine.state().phase == "stopped"
    await ready(engine)  # and the next command starts a new one


async def test_a_group_that_was_left_behind_is_ended_by_the_next_supervisor(
    engine_with: Callable[..., FastEngine],
) -> None:
    engine = engine_with()
    await ready(engine)
    group = group_of(engine)
    core = next(pid for pid in members(group) if "vllm-core" in psutil.Process(pid).cmdline())
    supervisor = engine.files.supervisor()
    assert supervisor is not None
    # Supervisor and guard killed in one instant: nobody is left who could end the core.
    os.kill(supervisor, signal.SIGSTOP)
    os.kill(group, signal.SIGKILL)
    os.kill(supervisor, signal.SIGKILL)
    await until(lambda: members(group) == [core] and engine.files.supervisor() is None)
    await ready(engine)
    await until(lambda: members(group) == [])  # it was killed before the start, and takes its time to be gone


async def test_a_wrong_flag_fails_at_once_and_shows_vllms_own_words(
    engine_with: Callable[..., FastEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_ENGINE", "exit")
    engine = engine_with()
    with pytest.raises(EngineFailed) as failure:
        await ready(engine)
    assert "exit 2" in str(failure.value)
    assert "--no-such-flag" in failure.value.log_tail
    assert len(engine.started) == 1
    with pytest.raises(EngineFailed):  # the next turn hears the same without another start
        await ready(engine)
    assert len(engine.started) == 1


async def test_gives_up_after_too_many_crashes_with_the_end_of_the_log(
    engine_with: Callable[..., FastEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_ENGINE", "crash")
    engine = engine_with(max_restarts=1)
    with pytest.raises(EngineFailed) as failure:
        while True:
            await ready(engine)
            await asyncio.sleep(0.2)
    assert "2 times" in str(failure.value)


async def test_a_start_that_hangs_is_given_up(
    engine_with: Callable[..., FastEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_ENGINE", "hang")
    engine = engine_with(start_timeout_s=1)
    with pytest.raises(EngineFailed, match="not ready within 1 s"):
        await ready(engine)
    assert members(group_of(engine)) == []


async def test_stop_during_start_up_leaves_no_process(
    engine_with: Callable[..., FastEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_ENGINE", "hang")
    engine = engine_with()
    waiting = asyncio.create_task(ready(engine))
    await until(lambda: (engine.files.folder / "group").exists() and engine.files.log.exists())
    group = group_of(engine)
    waiting.cancel()
    assert await engine.stop()
    assert members(group) == []


async def test_an_idle_engine_ends_by_itself(engine_with: Callable[..., FastEngine]) -> None:
    engine = engine_with(keep_alive_minutes=0.03)
    await ready(engine)
    group = group_of(engine)
    await until(lambda: engine.files.supervisor() is None)
    assert engine.state().phase == "stopped"
    assert members(group) == []


async def test_renew_starts_vllm_anew_under_the_same_supervisor(engine_with: Callable[..., FastEngine]) -> None:
    engine = engine_with()
    before, supervisor = await ready(engine), engine.files.supervisor()
    await engine.renew()
    after = await ready(engine)
    assert after.address != before.address
    assert engine.files.supervisor() == supervisor
    assert after.restarts == 0  # it was asked for


async def test_a_supervisor_that_was_slow_to_start_does_not_undo_a_stop(engine_with: Callable[..., FastEngine]) -> None:
    engine = engine_with()
    slow = engine._start_supervisor()
    os.kill(slow.pid, signal.SIGSTOP)  # in the middle of its imports
    assert not await engine.stop()
    os.kill(slow.pid, signal.SIGCONT)
    assert await asyncio.to_thread(slow.wait, 30) == 0
    assert engine.state().phase == "stopped"
    assert not engine.files.log.exists()


def test_a_supervisor_knows_to_a_moment_when_it_began() -> None:
    """Else one that is started right after a stop would take that for its own."""
    before = time.time()
    began = subprocess.run(
        [sys.executable, "-c", "from engine.supervisor import _began; print(_began())"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert before - 0.05 < float(began.stdout) < time.time()


async def test_where_a_supervisor_goes_without_a_word_another_one_is_started(
    engine_with: Callable[..., FastEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_with()
    start, gone = engine._start_supervisor, [[sys.executable, "-c", ""]]

    def first_one_that_goes() -> subprocess.Popen[bytes]:
        return subprocess.Popen(gone.pop()) if gone else start()

    monkeypatch.setattr(engine, "_start_supervisor", first_one_that_goes)
    assert (await ready(engine)).phase == "ready"
    assert gone == []


async def test_an_engine_whose_data_folder_is_deleted_ends(engine_with: Callable[..., FastEngine]) -> None:
    engine = engine_with()
    await ready(engine)
    group = group_of(engine)
    await asyncio.to_thread(shutil.rmtree, engine.files.data)
    await asyncio.to_thread(engine.started[0].wait, 30)
    assert members(group) == []
