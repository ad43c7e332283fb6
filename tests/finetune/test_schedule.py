"""When runs begin by themselves. The clock is a list of times; a run's process is a line of Python."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from filelock import FileLock

from engine.state import Address
from finetune import folders
from finetune.schedule import Command, first_time, follow, next_time, valid
from settings import Settings
from store import canaries, notices, runs
from store.session import Store
from store.tables import Run
from tests.fakes.vllm import FakeConnection, eventually
from tests.finetune.standins import settings_for, store_for

NOON = datetime(2026, 3, 10, 12, 0).astimezone()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with store_for(tmp_path) as store:
        yield store


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_for(tmp_path, schedule="0 3 * * *")


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


# Times


def test_a_schedule_means_this_machine_s_clock(berlin: None) -> None:
    winter = datetime.fromisoformat("2026-01-10T12:00:00+00:00")
    summer = datetime.fromisoformat("2026-07-10T12:00:00+00:00")
    assert next_time("0 3 * * *", winter).isoformat() == "2026-01-11T03:00:00+01:00"
    assert next_time("0 3 * * *", summer).isoformat() == "2026-07-11T03:00:00+02:00"


def test_the_change_of_the_clock_moves_no_later_run(berlin: None) -> None:
    before = datetime.fromisoformat("2026-03-28T12:00:00+01:00")
    assert next_time("0 3 * * *", before).isoformat() == "2026-03-29T03:00:00+02:00"
    assert next_time("30 2 * * *", before).isoformat() == "2026-03-29T03:30:00+02:00", "there is no 02:30 that night"
    autumn = datetime.fromisoformat("2026-10-24T12:00:00+02:00")
    first = next_time("30 2 * * *", autumn)
    assert first.isoformat() == "2026-10-25T02:30:00+02:00"
    assert next_time("30 2 * * *", first).isoformat() == "2026-10-26T02:30:00+01:00", "02:30 comes twice, a run once"


@pytest.mark.parametrize("cron", ["0 3 * * *", "*/15 * * * *", "0 3 * * mon-fri", "5 4 1 * *"])
def test_what_is_a_schedule(cron: str) -> None:
    assert valid(cron)
    assert next_time(cron, NOON) > NOON


@pytest.mark.parametrize("cron", ["", "soon", "61 3 * * *", "0 3 * *", "0 3 * * * * *", "每天三点"])
def test_what_is_none(cron: str) -> None:
    assert not valid(cron)
    with pytest.raises(ValueError, match="cron"):
        next_time(cron, NOON)


def test_without_a_schedule_nothing_is_due(store: Store, tmp_path: Path) -> None:
    assert first_time(settings_for(tmp_path), store, NOON) is None


# Following


class Clock:
    """Times that come one after another; after the last the following ends."""

    def __init__(self, *times: datetime, after: Mapping[int, Callable[[], object]] | None = None) -> None:
        """`after`: what happens after the look at the first (0), second, ... of them."""
        self.times = list(times)
        self.after = dict(after or {})
        self.looks = 0
        self.over = asyncio.Event()

    def now(self) -> datetime:
        return self.times[0]

    async def pause(self, _: float) -> None:
        self.after.get(self.looks, lambda: None)()
        self.looks += 1
        if len(self.times) == 1:
            self.over.set()
            await asyncio.Event().wait()
        self.times.pop(0)


def saying(what: str, code: int = 0) -> Command:
    return (sys.executable, "-c", f"open('runs.txt', 'a').write('{what}\\n'); raise SystemExit({code})")


def said() -> list[str]:
    file = Path("runs.txt")
    return file.read_text().split() if file.exists() else []


async def followed(settings: Settings, store: Store, *times: datetime, command: Command | None = None) -> list[str]:
    """What was run, when the clock showed these times one after the other."""
    await followed_by(settings, store, Clock(*times), command)
    return said()


async def followed_by(settings: Settings, store: Store, clock: Clock, command: Command | None = None) -> None:
    task = following(settings, store, clock, command or saying("run"))
    await clock.over.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def following(settings: Settings, store: Store, clock: Clock, command: Command) -> asyncio.Task[None]:
    connection = FakeConnection(Address(url="http://127.0.0.1:1", api_key="", model="base", max_model_len=64))
    looks = follow(settings, store, command=command, clock=clock.now, pause=clock.pause, connection=connection)
    return asyncio.create_task(looks)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the processes write down that they ran."""
    monkeypatch.chdir(tmp_path)


def hours(*after_noon: float) -> list[datetime]:
    return [NOON + timedelta(hours=each) for each in after_noon]


async def test_a_run_begins_at_its_time_and_once(settings: Settings, store: Store) -> None:
    assert await followed(settings, store, *hours(0, 14.9)) == []
    assert await followed(settings, store, *hours(0, 14.9, 15, 15.01, 16)) == ["run"]


async def test_every_night_has_its_run(settings: Settings, store: Store) -> None:
    assert await followed(settings, store, *hours(0, 15, 20, 39, 45, 63)) == ["run"] * 3


async def test_times_that_were_missed_are_made_up_for_once(settings: Settings, store: Store) -> None:
    """The machine was off for four days."""
    with store.writing() as session:
        session.add(Run(name="familiar", trigger="schedule", state="ended", started_at=NOON - timedelta(days=4)))
    assert await followed(settings, store, *hours(0, 0.1, 1, 2)) == ["run"]


async def test_where_nothing_was_ever_scheduled_nothing_was_missed(settings: Settings, store: Store) -> None:
    assert await followed(settings, store, *hours(0, 1)) == []


async def test_a_machine_that_slept_through_several_times_runs_once(settings: Settings, store: Store) -> None:
    assert await followed(settings, store, *hours(0, 24 * 5, 24 * 5 + 1)) == ["run"]


async def test_while_a_run_goes_on_no_second_one_begins(settings: Settings, store: Store) -> None:
    folders.root(settings).mkdir(parents=True)
    with FileLock(folders.root(settings) / ".lock"):
        assert await followed(settings, store, *hours(0, 15)) == []


async def test_a_scheduled_run_that_was_cut_short_goes_on(settings: Settings, store: Store) -> None:
    number = runs.begin(store, "familiar", "schedule", {}).id
    command = saying("go_on")
    assert set(await followed(settings, store, *hours(0), command=command)) == {"go_on"}
    runs.end(store, number, "promoted", "")  # type: ignore[arg-type]


async def test_one_by_hand_that_was_cut_short_is_left_to_the_operator(settings: Settings, store: Store) -> None:
    runs.begin(store, "familiar", "by hand", {})
    assert await followed(settings, store, *hours(0, 1)) == []


async def test_while_a_canary_is_undecided_no_run_begins(settings: Settings, store: Store) -> None:
    canaries.begin(store, "familiar", 1, None, 0.5)
    assert await followed(settings, store, *hours(0, 15)) == []


async def test_a_time_that_came_while_it_could_not_run_is_made_up_for(settings: Settings, store: Store) -> None:
    folders.root(settings).mkdir(parents=True)
    lock = FileLock(folders.root(settings) / ".lock", thread_local=False)
    lock.acquire()
    await followed_by(settings, store, Clock(*hours(0, 15, 16), after={1: lock.release}))
    assert said() == ["run"]


async def test_a_schedule_that_is_none_is_told_and_nothing_runs(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_for(tmp_path)
    settings = settings.model_copy(update={"finetune": settings.finetune.model_copy(update={"schedule": "soon"})})
    assert await followed(settings, store, *hours(0, 15)) == []
    assert "'soon'" in caplog.text


async def test_a_process_that_cannot_even_begin_a_run_is_told_to_the_admins(settings: Settings, store: Store) -> None:
    """Code 2 is a mistake in the settings."""
    await followed(settings, store, *hours(0, 15), command=saying("run", 2))
    assert [(each.key, each.args["code"]) for each in notices.waiting(store)] == [("learning.broken", 2)]


async def test_a_run_that_failed_has_told_so_itself(settings: Settings, store: Store) -> None:
    await followed(settings, store, *hours(0, 15), command=saying("run", 1))
    assert notices.waiting(store) == []


async def test_a_database_that_is_gone_for_a_moment_ends_nothing(settings: Settings, store: Store) -> None:
    store.close()
    await followed_by(settings, store, Clock(*hours(0, 15, 16), after={0: store.open}))
    assert said() == ["run"]


async def test_a_run_that_cannot_be_gone_on_with_is_not_begun_again_and_again(settings: Settings, store: Store) -> None:
    runs.begin(store, "familiar", "schedule", {})
    assert await followed(settings, store, *hours(0, 0.1, 0.2), command=saying("run", 2)) == ["run"]


async def test_the_process_ends_with_what_follows_it(settings: Settings, store: Store) -> None:
    command = (
        *(sys.executable, "-c"),
        "import os, time; open('at.tmp', 'w').write(str(os.getpid())); os.rename('at.tmp', 'at'); time.sleep(600)",
    )
    task = following(settings, store, Clock(*hours(0, 15)), command)
    at = Path("at")
    await eventually(at.exists)
    process = await asyncio.to_thread(lambda: int(at.read_text()))
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, process) == own, "an engine that it starts would have less for good"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
