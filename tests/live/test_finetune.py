"""The whole loop on the real engine: a log in which people teach the words of their house becomes a better adapter.

One story, told once for all of these tests: the run is killed in mid-training and goes on; what it makes is promoted
while somebody is being answered; a poisoned log is rejected; a promotion against the gate is killed half-way; and all
of it is rolled back.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from bot.assistant import Assistant
from bot.chat import Chat
from bot.events import Finished
from engine.client import EngineClient
from engine.process import LocalEngine
from finetune import folders
from finetune import run as runner
from finetune.job import Progress
from finetune.promote import rollback
from finetune.record import Record
from settings import REPOSITORY, Finetune, Gate, Learning, Settings
from store import adapters as table
from store import runs
from store.session import Store
from store.tables import now
from tests.finetune.house import Taught, poisoned, taught, write_log
from tests.live.test_talk import said

FAMILIAR = str(Path(sys.executable).with_name("familiar"))
PROVEN_FROM = 12  # held-out conversations; the log of this house is small
KILLED_AFTER_S = 600


@dataclass
class Answers:
    """What the house's own words were answered with, in ways of asking that nobody used before."""

    adapter: set[str]
    right: int
    wrong: list[str] = field(default_factory=list)


@dataclass
class House:
    """A data folder with a log, and what happened there so far."""

    settings: Settings
    store: Store
    items: list[Taught]
    before: Answers
    after_kill: dict[str, object] = field(default_factory=dict)

    @property
    def in_force(self) -> str:
        active = table.active(self.store, "familiar")
        return f"{active.name}@{active.version}" if active else "base"

    def ask(self) -> Answers:
        return asyncio.run(asked(self))

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "FAMILIAR_DATA__FOLDER": str(self.settings.data.folder),
            "FAMILIAR_DATA__DATABASE": self.settings.database_url,
            "FAMILIAR_ENGINE__MODEL": "bundled",
            "FAMILIAR_ENGINE__LORA": "on",
            "FAMILIAR_ENGINE__MAX_MODEL_LEN": "2048",
            "FAMILIAR_GATE__MIN_CONVERSATIONS": str(PROVEN_FROM),
            "FAMILIAR_GATE__REPLIES": str(self.settings.gate.replies),
            "FAMILIAR_LEARNING__KEPT_SHARE": str(self.settings.learning.kept_share),
            "LANG": "C.UTF-8",
        }


async def asked(house: House) -> Answers:
    held_out = {item.name: item for item in house.items if item.held_out}
    found = Answers(set(), 0)
    async with client_of(house.settings) as client:
        chat = await Chat.open(Assistant(house.store, client, house.settings), channel="terminal", external_id="guest")
        for item in held_out.values():
            await chat.new()
            reply = await said(chat.send(item.question))
            found.adapter.add(reply.adapter)
            if item.name in reply.text:
                found.right += 1
            else:
                found.wrong.append(f"{item.question} -> {reply.text}")
    return found


def client_of(settings: Settings) -> EngineClient:
    return EngineClient(
        LocalEngine(settings), max_concurrent=16, first_token_timeout_s=300, between_tokens_timeout_s=120
    )


@contextmanager
def familiar(house: House, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command in a process of its own, killed with SIGKILL when it is left."""
    process = subprocess.Popen(
        [FAMILIAR, *words], env=house.environment(), cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def wait_until(house: House, process: subprocess.Popen[bytes], reached: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + KILLED_AFTER_S
    while not reached():
        if process.poll() is not None:
            assert process.stderr is not None
            raise AssertionError(f"it ended before it could be killed: {process.stderr.read().decode()[-2000:]}")
        assert time.monotonic() < give_up_at
        time.sleep(0.05)


def state_of(store: Store) -> str:
    under_way = runs.unfinished(store, "familiar")
    return under_way[0].state if under_way else ""


@pytest.fixture(scope="module")
def house(engine: LocalEngine, live_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    database = f"sqlite:///{tmp_path_factory.mktemp('house') / 'familiar.db'}"
    settings = live_settings.model_copy(
        update={
            "data": live_settings.data.model_copy(update={"database": SecretStr(database)}),
            "gate": Gate(min_conversations=PROVEN_FROM, replies=12),
            "learning": Learning(kept_share=1),  # of this small test, half would be too few to tell anything
        }
    )
    with Store(database) as store:
        items = taught(english=4, chinese=1)
        write_log(store, items, until=now() - timedelta(days=1))
        opened = House(settings, store, items, Answers(set(), 0))
        opened.before = opened.ask()
        yield opened


@pytest.fixture(scope="module")
def killed_in_training(house: House) -> House:
    with familiar(house, "finetune", "run") as process:
        checkpoint = folders.folder_of(house.settings, 1) / "checkpoints" / "last.pt"
        wait_until(house, process, checkpoint.exists)
    house.after_kill = {"in force": house.in_force, "state": state_of(house.store), "answers": house.ask().adapter}
    return house


@dataclass
class Streamed:
    """A reply that was under way, and when, by time.monotonic()."""

    began: float
    ended: float
    reply: Finished


@pytest.fixture(scope="module")
def first(killed_in_training: House) -> tuple[Record, list[Streamed], float]:
    """The run goes on to its end, while somebody is told long stories; and when it was promoted."""
    house = killed_in_training
    return asyncio.run(_run_beside_a_story(house))


async def _run_beside_a_story(house: House) -> tuple[Record, list[Streamed], float]:
    nearly_over = asyncio.Event()
    loop = asyncio.get_running_loop()

    def heard(progress: Progress) -> None:
        if progress.stage == "evaluating" and progress.done > 0.9 * progress.total:
            loop.call_soon_threadsafe(nearly_over.set)

    running = asyncio.create_task(runner.run(house.settings, house.store, told=heard))
    streamed: list[Streamed] = []
    swapped_at = 0.0
    async with client_of(house.settings) as client:
        chat = await Chat.open(Assistant(house.store, client, house.settings), channel="terminal", external_id="reader")
        await chat.new(persona="talker")
        while not running.done():
            if not nearly_over.is_set():
                await asyncio.sleep(0.2)
                continue
            began, reply = time.monotonic(), None
            async with aclosing(chat.send("Write a very long story about a lighthouse keeper.")) as events:
                async for event in events:
                    if not swapped_at and house.in_force != "base":
                        swapped_at = time.monotonic()
                    reply = event
            assert isinstance(reply, Finished), reply
            streamed.append(Streamed(began, time.monotonic(), reply))
    return await running, streamed, swapped_at


@pytest.fixture(scope="module")
def second(first: tuple[Record, list[Streamed], float], house: House) -> Record:
    """The newest conversations teach nonsense."""
    write_log(house.store, poisoned(house.items), minutes=5)
    briefly = house.settings.model_copy(update={"finetune": Finetune(epochs=2)})
    return asyncio.run(runner.run(briefly, house.store))


def test_before_it_learnt_the_house_is_unknown_to_it(house: House) -> None:
    assert house.before == Answers({""}, 0, house.before.wrong)


def test_a_run_killed_in_mid_training_changes_nothing_and_goes_on(
    killed_in_training: House, first: tuple[Record, list[Streamed], float]
) -> None:
    assert killed_in_training.after_kill == {"in force": "base", "state": "training", "answers": {""}}
    record, _, _ = first
    assert record.number == 1
    assert record.training is not None
    assert record.training.resumed == 1


def test_what_it_learnt_is_proven_on_what_it_has_not_seen_and_promoted(
    first: tuple[Record, list[Streamed], float], house: House
) -> None:
    record, _, _ = first
    assert record.verdict == "promoted", record
    assert record.decision is not None
    gain = next(check for check in record.decision.checks if check.name == "gain")
    assert gain.low is not None
    assert gain.low > 0
    assert gain.n >= PROVEN_FROM
    assert (folders.folder_of(house.settings, 1) / "report.html").stat().st_size > 10_000


def test_new_ways_of_asking_are_answered_rightly_after_it(
    first: tuple[Record, list[Streamed], float], house: House
) -> None:
    after = house.ask()
    assert after.adapter == {house.in_force} == {f"familiar@{first[0].version}"}
    assert after.right >= 4, after.wrong  # of five


def test_a_reply_that_runs_through_the_swap_is_not_disturbed(first: tuple[Record, list[Streamed], float]) -> None:
    _, streamed, swapped_at = first
    through = [each for each in streamed if each.began < swapped_at < each.ended]
    assert through, (swapped_at, streamed)
    for each in through:
        assert each.reply.finish in {"stop", "length"}
        assert each.reply.adapter == ""


def test_a_poisoned_log_is_rejected_and_what_answered_before_still_does(second: Record, house: House) -> None:
    assert second.verdict == "rejected", second
    assert second.decision is not None
    assert "recall" in {check.name for check in second.decision.checks if check.passed is False}
    assert second.before == house.in_force != "base"
    assert house.ask().right >= 4


def test_a_promotion_killed_half_way_leaves_one_version_in_force_and_can_be_taken_back(
    second: Record, house: House
) -> None:
    good = second.before
    override = ("finetune", "run", "--resume", str(second.number), "--override", "to see what happens")
    with familiar(house, *override) as process:
        wait_until(house, process, lambda: state_of(house.store) == "promoting")
    assert house.ask().adapter == {house.in_force}

    record = asyncio.run(runner.run(house.settings, house.store, resume=second.number, override="to see what happens"))
    assert record.verdict == "promoted"
    assert house.ask().adapter == {f"familiar@{record.version}"} == {house.in_force}
    assert house.in_force != good

    connection = LocalEngine(house.settings)
    assert asyncio.run(rollback(house.settings, house.store, connection)) == good
    assert house.ask().right >= 4
    assert asyncio.run(rollback(house.settings, house.store, connection)) == ""
    assert house.ask().adapter == {""}
