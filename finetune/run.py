"""The whole way from the log to a better adapter, and on from where it was cut short.

    preparing    the log -> examples                     data/, manifest.json
    training     in a process of its own                 adapter/ or model/
    evaluating   likewise, before and after              before.json, after.json
    deciding     by the gate                             decision.json
    promoting    into the engine, if it is better

Each stage leaves its result in the run's folder, and is over when its seconds stand in record.json. A run that was
killed goes on with the stage that it was in, which takes up its own work or does it again; none does anything that
counts twice. Until the last stage nothing changes that anybody could notice, and the last one changes it all at once or
not at all. So whatever goes wrong leaves the adapter in force as it was.

One run of a data folder goes on at a time: a lock that the kernel lets go of with the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

from engine import adapters
from engine.errors import EngineError
from finetune import folders, forgotten, seen
from finetune.errors import (
    DataRefused,
    FinetuneError,
    MethodRefused,
    NotEnoughData,
    RunUnderWay,
    TrainingFailed,
)
from finetune.job import Progress, Told
from finetune.record import Record, Verdict
from finetune.stages import Ground, Stages
from finetune.taking_up import Wanted, number_of, row_for
from finetune.wiring import REAL
from settings import Method, Settings
from store import runs, sealed
from store.errors import StoreError
from store.runs import State, Trigger
from store.session import Store
from store.tables import Run, now

Work = Callable[[Record], Awaitable[Record]]

STARTS = 4  # of one run; what cuts it short so often will do it again
log = logging.getLogger("familiar.finetune")


async def run(
    settings: Settings,
    store: Store,
    *,
    name: str = adapters.DEFAULT,
    place: str = "",
    file: Path | None = None,
    strict: bool = False,
    offline: bool = False,
    trigger: Trigger = "by hand",
    resume: int | None = None,
    method: Method | None = None,
    override: str = "",
    told: Told = lambda _: None,
    stages: Stages = REAL,
) -> Record:
    """Learn, and put what was learnt in force if it is shown to be better. The run's record, also of one that failed.

    `file`: learn from its examples instead of the log's; `strict`: malformed lines are refused, not skipped.
    `offline`: only to measure what comes out. `place`: a group that has an adapter of its own. A run that was cut short
    goes on, if the settings are still what they were; `resume` names one, which goes on with its own. `override`: why
    an operator wants it in force though it is rejected or not proven. Cancelled, it can go on later.

    Raises RunUnderWay, RunNotFound, StoreError.
    """
    if method is not None:
        settings = settings.model_copy(update={"finetune": settings.finetune.model_copy(update={"method": method})})
    async with alone(settings, store):
        await asyncio.to_thread(_erase_forgotten, settings, store, stages)
        wanted = Wanted(name, place, file, strict, offline, trigger)
        row, settings = await asyncio.to_thread(row_for, settings, store, wanted, resume, override)
        return await _Way(settings, store, row, override, told, stages).to_its_end()


@contextlib.asynccontextmanager
async def alone(settings: Settings, store: Store) -> AsyncIterator[None]:
    """Nobody else runs meanwhile. Raises RunUnderWay."""
    lock = _lock(settings)
    try:
        # Not at once: somebody may just be looking whether it is free.
        await asyncio.to_thread(lock.acquire, timeout=1.0, poll_interval=0.05)
    except Timeout:
        going = await asyncio.to_thread(runs.unfinished, store)
        which = f"Run {going[0].id} ({going[0].state})" if going else "Another run"
        raise RunUnderWay(f"{which} is going on. `familiar finetune status` shows how far it is.") from None
    try:
        yield
    finally:
        lock.release()


def under_way(settings: Settings) -> bool:
    """Whether a process works on a run of this data folder now."""
    try:
        with _lock(settings).acquire(timeout=0):
            return False
    except Timeout:
        return True


def tidy(settings: Settings, store: Store, render: forgotten.Render) -> int:
    """What is forgotten leaves the runs' folders, for who runs nothing: `forgotten.erase`, and all that it raises.

    A run that goes on is left alone. None can begin while those that were cut short are looked at.
    """
    touched = forgotten.erase(settings, store, render)
    if not runs.unfinished(store):
        return touched
    with contextlib.suppress(Timeout), _lock(settings).acquire(timeout=0):
        touched += forgotten.erase_cut_short(settings, store, render)
    return touched


def _lock(settings: Settings) -> FileLock:
    folders.root(settings).mkdir(parents=True, exist_ok=True, mode=0o700)
    return FileLock(folders.root(settings) / ".lock", thread_local=False)


def _erase_forgotten(settings: Settings, store: Store, stages: Stages) -> None:
    with _logged("what is forgotten could not be taken out of the folders of earlier runs"):
        forgotten.erase(settings, store, stages.render, cut_short=True)


# The way


class _Way:
    def __init__(self, settings: Settings, store: Store, row: Run, override: str, told: Told, stages: Stages) -> None:
        self._settings = settings
        self._store = store
        self._row = row
        self._number = number_of(row)
        self._folder = folders.folder_of(settings, self._number)
        self._override = override
        self._told = told
        self._stages = stages
        self._until = time.monotonic() + settings.finetune.timeout_hours * 3600

    async def to_its_end(self) -> Record:
        record = Record(self._number, self._row.name, self._row.trigger, self._row.started_at)
        try:
            record = await asyncio.to_thread(self._taken_up, record)
            for state, work in self._works():
                if state not in record.seconds and (state != "promoting" or self._is_promoted(record)):
                    record = await self._stage(state, work, record)
            return await self._end(record, *_verdict(record))
        except NotEnoughData as too_little:
            return await self._nothing_to_learn(record, too_little)
        except (FinetuneError, EngineError, StoreError, OSError) as error:
            log.error("run %s failed: %s", self._number, error)
            refused = isinstance(error, MethodRefused | DataRefused)  # by its own settings and data it will be again
            record = replace(folders.load(self._folder) or record, can_go_on=not refused)
            return await self._failed(record, str(error))
        except Exception as error:
            mark = uuid4().hex[:8]
            log.exception("run %s failed, error %s", self._number, mark)
            said = f"Something unforeseen went wrong ({type(error).__name__}); the log tells more under {mark}."
            return await self._failed(folders.load(self._folder) or record, said)

    def _taken_up(self, record: Record) -> Record:
        """What there is of it, with what it is compared with. Raises TrainingFailed."""
        starts = int(self._row.numbers.get("starts", 0)) + 1
        runs.note(self._store, self._number, numbers={"starts": starts})
        if starts > STARTS:
            raise TrainingFailed(
                f"It was cut short {STARTS} times while {self._row.state}. Is there enough memory? "
                f"`familiar finetune run --resume {self._number}` tries once more."
            )
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        there = folders.load(self._folder)
        if there is not None:
            return there
        in_force = adapters.stands_in(self._store, self._row.name)
        record = replace(record, before=adapters.served_name(in_force) if in_force else "base")
        folders.save(self._folder, record)
        return record

    def _works(self) -> tuple[tuple[State, Work], ...]:
        return (
            ("preparing", self._prepare),
            ("training", self._train),
            ("evaluating", self._evaluate),
            ("deciding", self._decide),
            ("promoting", self._promote),
        )

    async def _stage(self, state: State, work: Work, record: Record) -> Record:
        """One stage, and its result on the disk: from then on it is over."""
        await asyncio.to_thread(runs.note, self._store, self._number, state=state)
        self._told(Progress(state, 0, 0))
        log.info("run %s: %s", self._number, state)
        began = time.monotonic()
        record = await work(record)
        record = replace(record, seconds=record.seconds | {state: round(time.monotonic() - began, 3)})
        await asyncio.to_thread(folders.save, self._folder, record)
        return record

    def _ground(self, record: Record) -> Ground:
        settings, row = self._settings, self._row
        file = Path(row.settings["file"]) if row.settings["file"] else None
        strict, offline = row.settings["strict"], row.settings["offline"]
        named = (self._number, row.name, row.place)
        ground = Ground(settings, self._store, *named, self._folder, file, strict, offline, record, self._told)
        return replace(ground, until=self._until)

    async def _prepare(self, record: Record) -> Record:
        ground = self._ground(record)
        counts = await asyncio.to_thread(self._stages.prepare, ground)
        if ground.file is None:
            await asyncio.to_thread(seen.refuse_too_little_new, self._settings, self._store, self._row, self._folder)
        await asyncio.to_thread(runs.note, self._store, self._number, fingerprint=counts.fingerprint)
        return replace(record, data=replace(counts, malformed=()), notes=(*record.notes, *counts.malformed))

    async def _train(self, record: Record) -> Record:
        trained = await self._stages.train(self._ground(record))
        await asyncio.to_thread(runs.note, self._store, self._number, base=trained.training.base)
        assert record.data is not None, "the stage before counts it"
        data = replace(record.data, replayed=trained.replayed, general=trained.general)
        record = replace(record, data=data, training=trained.training)
        if trained.before in {"", record.before}:
            return record
        return replace(record, before=trained.before, in_force=record.instead_of)

    async def _evaluate(self, record: Record) -> Record:
        notes = await self._stages.evaluate(self._ground(record))
        return replace(record, notes=(*record.notes, *notes))

    async def _decide(self, record: Record) -> Record:
        decided = await self._stages.decide(self._ground(record))
        record = replace(record, decision=decided.decision, table=decided.table, samples=decided.samples)
        return replace(record, unlearned=decided.unlearned, notes=(*record.notes, *decided.notes))

    def _is_promoted(self, record: Record) -> bool:
        better = record.decision is not None and record.decision.verdict == "promoted"
        return not self._row.settings["offline"] and (better or bool(self._override))

    async def _promote(self, record: Record) -> Record:
        decision = record.decision
        assert decision is not None, "the stage before decides"
        if decision.verdict != "promoted":
            log.warning(
                "run %s was %s and is promoted all the same: %s", self._number, decision.verdict, self._override
            )
            decision = replace(decision, overridden=self._override)
        promoted = await self._stages.promote(self._ground(record))
        await asyncio.to_thread(runs.note, self._store, self._number, version=promoted.version)
        record = replace(record, decision=decision, notes=(*record.notes, *promoted.notes))
        return replace(record, version=promoted.version, share=promoted.share, said=promoted.said)

    # Its end

    async def _end(self, record: Record, verdict: Verdict, said: str) -> Record:
        record = replace(record, verdict=verdict, said=said, finished_at=now())
        await asyncio.to_thread(self._leave_behind, record)
        return record

    async def _failed(self, record: Record, said: str) -> Record:
        """Nothing was changed. What it needs to be resumed stays for a while."""
        record = replace(record, verdict="failed", said=said, finished_at=now())
        await asyncio.to_thread(self._leave_behind, record)
        return record

    async def _nothing_to_learn(self, record: Record, too_little: NotEnoughData) -> Record:
        """Quiet: it is the rule where a schedule looks every night."""
        log.info("run %s: nothing to learn. %s", self._number, too_little)
        record = replace(record, verdict="nothing_to_learn", said=str(too_little), finished_at=now())
        record = replace(record, notes=(*record.notes, *too_little.notes))
        await asyncio.to_thread(runs.end, self._store, self._number, record.verdict, record.said)
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
        return record

    def _leave_behind(self, record: Record) -> None:
        """The report, the row, and the word to the admins; and then nothing that is not needed any more."""
        with _logged("its report could not be written"):  # a full disk is why it failed, perhaps
            folders.save(self._folder, record)
            self._stages.render(record, self._folder)
        runs.end(
            self._store, self._number, record.verdict, record.said, numbers=_numbers(record), notice=_notice(record)
        )
        with _logged("its folder could not be tidied"):
            if record.verdict != "failed":
                folders.clear_texts(self._folder)
                folders.clear_passing(self._folder)
            sealed.release(self._store, self._settings.learning.sealed_days)
            folders.prune(self._settings, self._store)


@contextlib.contextmanager
def _logged(what: str) -> Iterator[None]:
    try:
        yield
    except Exception:
        log.exception("run: %s", what)


def _verdict(record: Record) -> tuple[Verdict, str]:
    """Of a run whose stages are all over, with one sentence."""
    decision = record.decision
    assert decision is not None, "a stage decides"
    if decision.overridden:
        return "promoted", f"{record.said} It was {decision.verdict.replace('_', ' ')}: {decision.overridden}"
    if decision.verdict == "promoted" and record.version is None:
        return "not_proven", f"{decision.said} It was only to be measured, so it was not promoted."
    if decision.verdict == "promoted":
        return "promoted", f"{decision.said} {record.said}"
    return decision.verdict, decision.said


def _notice(record: Record) -> tuple[str, dict[str, Any]] | None:
    """What the admins are told: of every failure, and of all else that nobody was there to see."""
    if record.verdict == "failed" or record.trigger == "schedule":
        key = "refused" if record.verdict == "failed" and not record.can_go_on else record.verdict
        return f"learning.{key}", {"run": record.number, "said": record.said}
    return None


def _numbers(record: Record) -> dict[str, Any]:
    numbers: dict[str, Any] = {"seconds": record.seconds}
    if record.data is not None:
        numbers |= {"examples": record.data.sides, "conversations": record.data.conversations}
    if record.training is not None:
        training = record.training
        numbers |= {"steps": training.steps, "tokens": training.tokens, "peak_mb": training.peak_mb}
    for check in record.decision.checks if record.decision else ():
        finite = {key: getattr(check, key) for key in ("value", "low", "high", "limit")}
        kept = {key: value for key, value in finite.items() if value is not None and math.isfinite(value)}
        numbers[check.name] = kept | {"passed": check.passed, "n": check.n}
    return numbers
