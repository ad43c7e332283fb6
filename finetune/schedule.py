"""Learning by itself: at the times of finetune.schedule, beside a serving process that stays light.

A run is a process of its own, of low priority (`familiar finetune run --scheduled`). A time that was missed, because
nothing was running then, is made up for once, however many there were. While a run goes on no second one begins, and
one that was cut short goes on. Between the runs canaries are decided about, and what is forgotten leaves old reports.

Times are of this machine's clock, in its zone: 02:30 does not move in summer, and where a clock jumps over it the run
begins after the jump.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import datetime

from engine.errors import EngineError
from engine.process import connect
from engine.state import Connection
from finetune import folders, promote
from finetune.run import tidy, under_way
from finetune.wiring import REAL
from settings import Settings
from store import canaries, notices, runs
from store.errors import StoreError
from store.session import Store

LOOKS_EVERY_S = 30.0
TIDIES_EVERY_S = 3600.0
PATIENCE_S = 15.0  # for a run's process that is to end

Command = tuple[str, ...]
COMMAND: Command = (sys.executable, "-c", "from cli import main; main()", "finetune", "run", "--scheduled")

log = logging.getLogger("familiar.finetune")


def valid(cron: str) -> bool:
    from croniter import croniter

    return len(cron.split()) == 5 and bool(croniter.is_valid(cron))


def next_time(cron: str, after: datetime) -> datetime:
    """The first time of `cron` after this one. Aware, in this machine's zone. Raises ValueError for no cron."""
    from croniter import croniter

    if not valid(cron):
        raise ValueError(f"{cron!r} is not a time in cron's form, e.g. '0 3 * * *'")
    # On the wall clock, without a zone: one of a fixed offset would be an hour off in the other half of the year.
    wall = after.astimezone().replace(tzinfo=None)
    found: datetime = croniter(cron, wall).get_next(datetime)
    local = found.astimezone()
    if local.replace(tzinfo=None) == found:
        return local
    return max(found.astimezone(), found.replace(fold=1).astimezone())  # the clock jumps over it


def first_time(settings: Settings, store: Store, since: datetime) -> datetime | None:
    """When the next run is due for somebody who begins to look at `since`; in the past for one that was missed."""
    if not settings.finetune.schedule:
        return None
    last = runs.last_scheduled(store)
    return next_time(settings.finetune.schedule, last.started_at if last else since)


@contextlib.asynccontextmanager
async def following(settings: Settings, store: Store) -> AsyncIterator[None]:
    """While this is open, `follow` goes on beside it."""
    task = asyncio.create_task(follow(settings, store))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def follow(
    settings: Settings,
    store: Store,
    *,
    command: Command = COMMAND,
    clock: Callable[[], datetime] = lambda: datetime.now().astimezone(),
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    connection: Connection | None = None,
) -> None:
    """Until cancelled; then a run's process is ended, and can go on later."""
    connection = connection or connect(settings)
    if settings.finetune.schedule and not valid(settings.finetune.schedule):
        log.error(
            "finetune.schedule is no time in cron's form: %r. Nothing is learnt by itself.", settings.finetune.schedule
        )
        settings = settings.model_copy(update={"finetune": settings.finetune.model_copy(update={"schedule": ""})})
    began = last = clock()
    due: datetime | None = None
    tidied: datetime | None = None
    known, goes_on = False, True
    while True:
        with _logged("looking after what is learnt"):
            if not known:
                due = await asyncio.to_thread(first_time, settings, store, began)
                known = True
            last = clock()
            if await asyncio.to_thread(_wanted, settings, store, due, last, goes_on):
                if due is not None and due <= last:
                    due = next_time(settings.finetune.schedule, last)
                goes_on = await _run(settings, store, command)
            await _decide_canaries(settings, store, connection)
            if tidied is None or (last - tidied).total_seconds() >= TIDIES_EVERY_S:
                tidied = last
                await asyncio.to_thread(tidy, settings, store, REAL.render)
        await pause(LOOKS_EVERY_S)


def _wanted(settings: Settings, store: Store, due: datetime | None, at: datetime, goes_on: bool) -> bool:
    """Is it time for a run, or (if those go on) was a scheduled one cut short; and is none under way?"""
    if not settings.finetune.schedule:
        return False
    cut_short = goes_on and any(run.trigger == "schedule" for run in runs.unfinished(store))
    if not cut_short and (due is None or due > at):
        return False
    if canaries.all_under_way(store) and not cut_short:
        return False  # what the next one is to be compared with is not decided yet
    return not under_way(settings)


async def _run(settings: Settings, store: Store, command: Command) -> bool:
    """One run, to its end. When this is cancelled, it is ended. False where another try would be no use.

    Only its stages that compute have a low priority, by themselves: the engine may be started by this process, and
    would have its priority for as long as it lives.
    """
    file = settings.data.folder / folders.LOG_FILE
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    log.info("a scheduled run begins")
    with file.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        code = await process.wait()
    except asyncio.CancelledError:
        await _end(process)
        raise
    if code in {0, 1}:  # 1: it failed, and has told the admins
        return True
    log.error("the process of a scheduled run ended with %s; %s has its words", code, file)
    unfinished = await asyncio.to_thread(runs.unfinished, store)
    if code < 0 and unfinished:  # killed, and goes on
        return True
    await asyncio.to_thread(notices.add, store, "learning.broken", code=code, log=folders.LOG_FILE.name)
    return False


async def _end(process: asyncio.subprocess.Process) -> None:
    """Together with what it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), PATIENCE_S)
            return


async def _decide_canaries(settings: Settings, store: Store, connection: Connection) -> None:
    for canary in await asyncio.to_thread(canaries.all_under_way, store):
        try:
            await promote.check_canary(settings, store, connection, canary)
        except EngineError as error:
            log.warning("the canary %s@%s cannot be decided about now: %s", canary.name, canary.version, error)


@contextlib.contextmanager
def _logged(what: str) -> Iterator[None]:
    """A database that is busy, or a full disk: what fails now is tried again at the next look."""
    try:
        yield
    except (StoreError, OSError) as error:
        log.warning("%s: %s", what, error)
    except Exception:
        log.exception("%s", what)
