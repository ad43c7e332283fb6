"""The engine's GPU is lent to a process that trains: it sleeps meanwhile, and those who write wait and are answered."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from engine import sleeping
from engine.client import ChatRequest, Delta, Done, EngineClient
from engine.errors import EngineFailed, ReplyTimeout
from engine.process import LocalEngine, _as_environment
from engine.state import Connection, State
from settings import Data, Engine, Settings
from tests.fakes.vllm import FakeConnection, FakeVllm, KeepAlives, Reply, eventually

SUPERVISED = Path(__file__).with_name("supervised.py")
HOLDER = """
import sys, time
from pathlib import Path
from engine.folder import EngineFolder
held = EngineFolder(Path(sys.argv[1])).{taken}
assert held is not None
print("held", flush=True)
time.sleep(600)
"""


class FastEngine(LocalEngine):
    """A LocalEngine whose supervisor runs the stand-in."""

    def _start_supervisor(self) -> subprocess.Popen[bytes]:
        self.files.make()
        environment = os.environ | _as_environment(self.settings)
        with self.files.supervisor_log.open("ab") as log:
            self.started = subprocess.Popen(
                [sys.executable, str(SUPERVISED)], env=environment, stdout=log, stderr=log, start_new_session=True
            )
        return self.started


async def until(condition: Callable[[], bool]) -> None:
    await eventually(condition, 60)  # a process is started meanwhile, and others work on the machine, too


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[FastEngine]:
    made = FastEngine(Settings(data=Data(folder=tmp_path), engine=Engine(model="bundled")))
    yield made
    await made.stop()
    if hasattr(made, "started"):
        await asyncio.to_thread(made.started.wait, 30)


def client_of(engine: Connection) -> EngineClient:
    return EngineClient(engine, max_concurrent=4, first_token_timeout_s=20, between_tokens_timeout_s=20)


async def ready(engine: LocalEngine) -> State:
    state: State | None = None
    async for state in engine.wait():
        pass
    assert state is not None
    return state


async def ask(client: EngineClient, phases: list[str]) -> str:
    """The reply's text; the phases that were waited through are added to the list."""
    request = ChatRequest(({"role": "user", "content": "Who are you?"},), {}, person="ada")
    text = ""
    async with aclosing(client.stream(request)) as pieces:
        async for piece in pieces:
            if isinstance(piece, State):
                phases.append(piece.phase)
            elif isinstance(piece, Delta):
                text += piece.text
            else:
                assert isinstance(piece, Done)
    return text


@contextmanager
def another_process(folder: Path, taken: str = "lend(sleep=True)") -> Iterator[subprocess.Popen[bytes]]:
    """Somebody who has the GPU until it ends."""
    command = [sys.executable, "-c", HOLDER.format(taken=taken), str(folder)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    try:
        yield holder
    finally:
        holder.kill()
        holder.wait()


# The supervisor


async def test_the_engine_sleeps_while_its_gpu_is_lent_and_is_the_same_one_afterwards(engine: FastEngine) -> None:
    before = await ready(engine)
    async with engine.lend_gpu(sleep=True):
        state = engine.state()
        assert (state.phase, state.asleep, state.address) == ("learning", True, None)
    after = await ready(engine)
    assert (after.address, after.restarts, after.sleeps) == (before.address, 0, 1)


async def test_who_writes_meanwhile_waits_and_is_answered_when_it_wakes(engine: FastEngine) -> None:
    await ready(engine)
    phases: list[str] = []
    async with client_of(engine) as client:
        async with engine.lend_gpu(sleep=True):
            turn = asyncio.create_task(ask(client, phases))
            await until(lambda: bool(phases))
            assert not turn.done()
        assert (await turn).startswith("I am ")
    assert phases[0] == "learning"
    assert set(phases) <= {"learning", "warming"}


async def test_a_reply_that_has_begun_ends_before_the_gpu_is_given_away(engine: FastEngine) -> None:
    await ready(engine)
    async with client_of(engine) as client:
        request = ChatRequest(({"role": "user", "content": "Who are you?"},), {}, person="ada")
        async with aclosing(client.stream(request)) as pieces:
            assert isinstance(await anext(pieces), Delta)
            lending = asyncio.create_task(engine.lend_gpu(sleep=True).__aenter__())
            await until(lambda: engine.state().phase == "learning")
            assert [type(piece) async for piece in pieces][-1] is Done
        os.close(await lending)
    await ready(engine)


async def test_the_engine_wakes_when_whoever_had_the_gpu_is_killed(engine: FastEngine) -> None:
    before = await ready(engine)
    with another_process(engine.files.data) as holder:
        await until(lambda: engine.state().asleep)
        holder.send_signal(signal.SIGKILL)
        assert (await ready(engine)).address == before.address


async def test_the_gpu_is_lent_for_as_long_as_a_process_that_it_was_handed_on_to_lives(engine: FastEngine) -> None:
    """The run's own process may be killed, and the one that it started still be on the GPU for a moment."""
    await ready(engine)
    async with engine.lend_gpu(sleep=True) as held:
        command = [sys.executable, "-c", "input()"]
        child = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, pass_fds=(held,))
    assert engine.files.lent() == "sleep"
    child.kill()
    await child.wait()
    assert engine.files.lent() == ""


async def test_an_engine_that_is_started_while_its_gpu_is_lent_waits_for_it(engine: FastEngine) -> None:
    phases: list[str] = []
    async with client_of(engine) as client:
        with another_process(engine.files.data):
            turn = asyncio.create_task(ask(client, phases))
            await until(lambda: "learning" in phases)
            assert not engine.files.log.exists(), "vLLM is not started"
        assert (await turn).startswith("I am ")


async def test_what_fits_beside_the_engine_does_not_disturb_it(engine: FastEngine) -> None:
    before = await ready(engine)
    async with engine.lend_gpu(sleep=False):
        assert engine.files.lent() == "beside"
        assert (await ready(engine)) == before


async def test_an_engine_without_sleep_mode_is_ended_and_started_again_afterwards(
    engine: FastEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_ENGINE", "sleepless")
    before = await ready(engine)
    phases: list[str] = []
    async with client_of(engine) as client:
        async with engine.lend_gpu(sleep=True):
            assert engine.state().asleep
            turn = asyncio.create_task(ask(client, phases))
            await until(lambda: "learning" in phases)
        assert (await turn).startswith("I am ")
    after = await ready(engine)
    assert after.address != before.address
    assert after.restarts == 0, "it was no crash"


async def test_an_engine_that_does_not_wake_up_is_started_again_and_nobody_loses_their_turn(
    engine: FastEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_ENGINE", "deep")
    await ready(engine)
    phases: list[str] = []
    async with client_of(engine) as client:
        async with engine.lend_gpu(sleep=True):
            turn = asyncio.create_task(ask(client, phases))
            await until(lambda: "learning" in phases)
        assert (await turn).startswith("I am ")
    assert (await ready(engine)).restarts == 1


async def test_an_engine_that_is_killed_in_its_sleep_comes_back_when_the_gpu_is_free(engine: FastEngine) -> None:
    await ready(engine)
    async with engine.lend_gpu(sleep=True):
        os.kill(int((engine.files.folder / "group").read_text().split()[0]), signal.SIGKILL)
        await until(lambda: engine.state().restarts == 1)
        await until(lambda: engine.state().phase == "learning" and engine.state().asleep)
    assert (await ready(engine)).restarts == 1


async def test_it_can_be_stopped_and_started_anew_in_its_sleep(engine: FastEngine) -> None:
    await ready(engine)
    async with engine.lend_gpu(sleep=True):
        await engine.renew()
        await until(lambda: engine.state().asleep)
        assert await engine.stop()
        assert engine.state().phase == "stopped"


async def test_the_gpu_is_lent_to_one_at_a_time(engine: FastEngine) -> None:
    async with engine.lend_gpu(sleep=True):
        assert engine.files.lend(sleep=True) is None
        second = asyncio.create_task(engine.lend_gpu(sleep=True).__aenter__())
        await asyncio.sleep(0.3)
        assert not second.done()
    os.close(await second)


async def test_an_engine_that_keeps_its_gpu_is_told_of(engine: FastEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.process.ASLEEP_WITHIN_S", -601.0)
    engine.files.make()
    an_older_version_s_supervisor = another_process(engine.files.data, "lock()")
    with an_older_version_s_supervisor, pytest.raises(EngineFailed, match="did not give its GPU away"):
        async with engine.lend_gpu(sleep=True):
            pytest.fail("it was lent")
    assert engine.files.lent() == ""


async def test_the_gpu_is_taken_again_and_again_and_the_engine_never_holds_it_meanwhile(engine: FastEngine) -> None:
    """As the stages of a run do: the engine may just be waking up from the one before."""
    before = await ready(engine)
    async with aiohttp.ClientSession() as session:
        for number in range(6):
            async with engine.lend_gpu(sleep=True):
                assert before.address is not None
                async with session.get(f"{before.address.url}/is_sleeping") as response:
                    assert (await response.json())["is_sleeping"]
            await asyncio.sleep(random.Random(number).uniform(0, 0.7))
    assert (await ready(engine)).address == before.address


# The server's side


async def test_vllm_is_asked_to_let_replies_end_and_to_sleep_and_to_wake(vllm: FakeVllm) -> None:
    async with aiohttp.ClientSession() as session:
        await sleeping.fall_asleep(session, vllm.address)
        assert vllm.sleeping
        await sleeping.wake_up(session, vllm.address)
        assert not vllm.sleeping
    assert all(request.headers["Authorization"] == "Bearer key" for request in vllm.requests)


async def test_a_server_without_sleep_mode_says_so(vllm: FakeVllm) -> None:
    vllm.sleep_mode = False
    async with aiohttp.ClientSession() as session:
        with pytest.raises(sleeping.Refused, match="404"):
            await sleeping.fall_asleep(session, vllm.address)
    await vllm.stop()
    async with aiohttp.ClientSession() as session:
        with pytest.raises(sleeping.Refused, match="not answered"):
            await sleeping.wake_up(session, vllm.address)


# The client's side


@dataclass
class Slept(FakeConnection):
    """Each time that somebody waits for it, it sleeps, and is awake again."""

    vllm: FakeVllm | None = None
    sleeps: int = 0

    async def wait(self) -> AsyncIterator[State]:
        self.waits += 1
        if self.vllm is not None and self.waits > 1:
            yield State(phase="learning", since=0, asleep=True)
            self.vllm.sleeping = self.waits <= 4
            self.sleeps += 1
        yield State(phase="ready", since=0, address=self.address, sleeps=self.sleeps)


async def test_a_request_that_finds_the_engine_asleep_again_and_again_is_answered_all_the_same(vllm: FakeVllm) -> None:
    """Between the look at the state and the sending there is time to fall asleep."""
    vllm.sleeping = True
    phases: list[str] = []
    async with client_of(Slept(vllm.address, vllm=vllm)) as client:
        assert await ask(client, phases) == "Hello there!"
    assert phases == ["learning"] * 4
    assert len(vllm.chats) == 5


async def test_a_request_that_the_engine_took_just_before_it_fell_asleep_is_sent_again(vllm: FakeVllm) -> None:
    vllm.script(Reply(KeepAlives()))  # no token comes
    phases: list[str] = []
    client = EngineClient(
        Slept(vllm.address, vllm=vllm), max_concurrent=1, first_token_timeout_s=0.3, between_tokens_timeout_s=20
    )
    async with client:
        vllm.sleeping = False
        assert await ask(client, phases) == "Hello there!"
    assert phases[0] == "learning"


async def test_an_engine_that_is_only_slow_is_given_up_as_before(vllm: FakeVllm) -> None:
    vllm.script(Reply(KeepAlives()))
    client = EngineClient(
        FakeConnection(vllm.address), max_concurrent=1, first_token_timeout_s=0.3, between_tokens_timeout_s=20
    )
    async with client:
        with pytest.raises(ReplyTimeout):
            await ask(client, [])
    assert len(vllm.chats) == 1
