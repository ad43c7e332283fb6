"""The real stages: what each file of this package does, put one behind the other.

Imports stand in the functions: a process that only waits for a run's stages holds no model.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path

from engine.adapter_check import base_fingerprint
from engine.adapters import served_name
from finetune import files, folders
from finetune.errors import DataRefused, NotEnoughData, TrainingFailed
from finetune.job import Job
from finetune.record import DataCounts, Record
from finetune.stages import Decided, Ground, Promoted, Stages, Trained
from settings import Settings
from store import adapters as table
from store import lineage, runs
from store.tables import Adapter

MADE = ("adapter", "model")  # what can be put in force
SAMPLES = 12  # replies side by side in the report


def base_model(settings: Settings) -> Path:
    """The base model's folder, fetched or converted if it is not there yet. Blocks. Raises ModelUnavailable."""
    from engine import hardware, models

    choice = models.choose(settings.engine.model, hardware.detect())
    return models.ensure(choice, settings.data.folder / "models", lambda line: None)


def prepare(ground: Ground) -> DataCounts:
    """Raises MethodRefused before anything is collected, NotEnoughData, DataRefused."""
    from finetune import data, dataset, methods

    settings, base = ground.settings, base_model(ground.settings)
    methods.refuse(methods.way(settings.finetune.method), base, settings, offline=ground.offline)
    earlier = []
    for run in runs.ended(ground.store, ground.name):
        if run.verdict == "promoted" and run.id is not None:
            try:
                earlier.append(dataset.manifest_of(folders.folder_of(settings, run.id)))
            except DataRefused:
                continue  # of a file that somebody has deleted: no round of it is measured
    return data.prepare(
        ground.store,
        settings,
        base,
        ground.folder,
        file=ground.file,
        strict=ground.strict,
        place=ground.place,
        earlier=earlier,
        told=ground.told,
    )


async def train(ground: Ground) -> Trained:
    from finetune import process, training

    job = await asyncio.to_thread(_job, ground)
    await _anchors(ground, job)
    replayed, general = await asyncio.to_thread(_mix, ground, job)
    await process.run_stage("train", ground.folder, told=ground.told, timeout_s=_timeout_s(ground.settings))
    return Trained(await asyncio.to_thread(training.load_training, ground.folder), replayed, general)


async def evaluate(ground: Ground) -> tuple[str, ...]:
    from finetune import process

    await process.run_stage("evaluate", ground.folder, told=ground.told, timeout_s=_timeout_s(ground.settings))
    return await asyncio.to_thread(_not_comparable, ground)


async def decide(ground: Ground) -> Decided:
    from pydantic_core import to_json

    from finetune import evaluate, gate, judge

    before, after = await asyncio.to_thread(evaluate.read, ground.folder)
    judged = await judge.compare(ground.settings.gate, before.replies, after.replies)
    decision = await asyncio.to_thread(gate.decide, before, after, ground.settings.gate, judged)
    table = await asyncio.to_thread(gate.table, before, after, ground.settings.gate)
    text = to_json(decision, inf_nan_mode="strings", indent=1)
    await asyncio.to_thread(files.write, ground.folder / folders.DECISION, lambda file: file.write(text + b"\n"))
    return Decided(decision, table, gate.samples(before, after, SAMPLES))


async def promote(ground: Ground) -> Promoted:
    """Raises EngineError, FinetuneError; then what was in force still is."""
    from engine.process import connect
    from finetune import promote

    adapter = await asyncio.to_thread(_registered, ground)
    await asyncio.to_thread(runs.note, ground.store, ground.number, version=adapter.version)
    decision = ground.record.decision
    shown_to_be_better = decision is not None and decision.verdict == "promoted"
    instead_of = ground.record.before if shown_to_be_better else None
    connection = connect(ground.settings)
    return await promote.put(ground.settings, ground.store, connection, adapter, instead_of=instead_of)


def render(record: Record, folder: Path) -> None:
    from finetune.report import html

    text = html(record)
    files.write(folder / folders.REPORT, lambda file: file.write(text.encode()))


# The job


def _job(ground: Ground) -> Job:
    """What the process that trains and the one that measures are to do; its examples are not mixed yet."""
    from finetune import dataset

    settings, base = ground.settings, base_model(ground.settings)
    loaded = dataset.load(ground.folder)
    before = _before(ground, base)
    root = settings.data.folder / "adapters"
    last = before if settings.finetune.start == "last" else None
    return Job(
        model_folder=base,
        folder=ground.folder,
        settings=settings.finetune,
        train=loaded.train,
        validation=loaded.validation,
        preferences=loaded.preferences,
        judged=loaded.judged,
        continue_from=root / last.folder if last else None,
        continued_from=served_name(last) if last else "",
        before=root / before.folder if before else None,
        before_name=served_name(before) if before else "base",
        replies=settings.gate.replies,
    )


def _before(ground: Ground, base: Path) -> Adapter | None:
    """What the new one is compared with; None: the base model, also where what is in force was made for another."""
    name, _, version = ground.record.before.partition("@")
    if not version:
        return None
    row = table.get(ground.store, name, int(version))
    return row if row.base_fingerprint == base_fingerprint(base) else None


def _not_comparable(ground: Ground) -> tuple[str, ...]:
    if ground.record.before == "base" or _before(ground, base_model(ground.settings)) is not None:
        return ()
    return (f"{ground.record.before} was made for another base model, so this was compared with the base model.",)


async def _anchors(ground: Ground, job: Job) -> None:
    """The base model's own replies to everyday prompts, made once for a base model."""
    from finetune import process

    if not (count := await asyncio.to_thread(_anchors_wanted, ground, job)):
        return
    wanted = {
        "model_folder": str(job.model_folder),
        "count": count,
        "seed": job.settings.seed,
        "cache": str(_cache(ground)),
    }
    await asyncio.to_thread(files.write_json, ground.folder / "anchors.json", wanted)
    await process.run_stage("anchors", ground.folder, told=ground.told, timeout_s=_timeout_s(ground.settings))


def _anchors_wanted(ground: Ground, job: Job) -> int:
    from finetune import continual, dataset

    return continual.wanted_anchors(job.settings, len(job.train) + len(dataset.load(ground.folder).earlier))


def _cache(ground: Ground) -> Path:
    return folders.root(ground.settings) / "general"


def _mix(ground: Ground, job: Job) -> tuple[int, int]:
    """New, replayed and general examples together; how many are replayed, and how many general.

    Raises NotEnoughData, OSError.
    """
    from finetune import continual, dataset
    from finetune import job as jobs

    settings, count = job.settings, _anchors_wanted(ground, job)
    anchors = continual.anchors(job.model_folder, count, settings.seed, _cache(ground)) if count else []
    mixed = continual.mix(job.train, dataset.load(ground.folder).earlier, anchors, settings, settings.seed)
    if not mixed:
        raise NotEnoughData("No example is left to learn from.")
    jobs.save(replace(job, train=tuple(mixed), anchors=tuple(anchors)))
    general = sum(each.why == "general" for each in mixed)
    return len(mixed) - len(job.train) - general, general


# What comes of it


def _registered(ground: Ground) -> Adapter:
    from finetune import dataset, promote

    made = next((ground.folder / name for name in MADE if (ground.folder / name).is_dir()), None)
    if made is None:
        raise TrainingFailed(f"What run {ground.number} made is not there any more. Begin a new one.")
    manifest = dataset.manifest_of(ground.folder)
    learned = {each for side in ("train", "validation", "earlier") for each in manifest.conversations.get(side, ())}
    conversations = {int(found[1]) for each in learned if (found := re.fullmatch(r"log:(\d+)", each))}
    training = ground.record.training
    if training is not None and training.continued_from:
        name, _, version = training.continued_from.partition("@")
        before = table.get(ground.store, name, int(version))
        assert before.id is not None, "a stored row has an id"
        conversations |= lineage.learned_from(ground.store, before.id)  # what that one knew, this one may know
    return promote.register(
        ground.settings, ground.store, ground.name, made, base_model(ground.settings), conversations
    )


def _timeout_s(settings: Settings) -> float:
    return settings.finetune.timeout_hours * 3600


REAL = Stages(prepare, train, evaluate, decide, promote, render)
