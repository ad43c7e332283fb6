"""The real stages: what each file of this package does, put one behind the other.

Imports stand in the functions: a process that only waits for a run's stages holds no model.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Literal

from engine.adapter_check import base_fingerprint
from engine.adapters import DEFAULT, served_name
from finetune import files, folders
from finetune.errors import DataRefused, MethodRefused, NotEnoughData, TrainingFailed
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
    in_force = _before(ground, base)
    methods.refuse(methods.way(settings.finetune.method), base, settings, offline=ground.offline)
    if ground.place and not ground.offline:
        _refuse_beside_a_whole_model(ground)
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
        in_force=in_force if in_force is not None and in_force.name == ground.name else None,
        told=ground.told,
    )


async def train(ground: Ground) -> Trained:
    from finetune import training

    job = await asyncio.to_thread(_job, ground)
    await _anchors(ground, job)
    replayed, general = await asyncio.to_thread(_mix, ground, job)
    await _in_a_process("train", ground)
    trained = await asyncio.to_thread(training.load_training, ground.folder)
    return Trained(trained, replayed, general, job.before_name)


async def evaluate(ground: Ground) -> tuple[str, ...]:
    await _in_a_process("evaluate", ground)
    return await asyncio.to_thread(_not_comparable, ground)


async def decide(ground: Ground) -> Decided:
    from pydantic_core import to_json

    from finetune import comparison, evaluate, foretold, gate, judge

    before, after = await asyncio.to_thread(evaluate.read, ground.folder)
    judged = await judge.compare(ground.settings.gate, before.replies, after.replies)
    to_go = await asyncio.to_thread(_is_to_go, ground)
    decision = await asyncio.to_thread(gate.decide, before, after, ground.settings.gate, judged, before_is_to_go=to_go)
    table = await asyncio.to_thread(gate.table, before, after, ground.settings.gate)
    text = to_json(decision, inf_nan_mode="strings", indent=1)
    await asyncio.to_thread(files.write, ground.folder / folders.DECISION, lambda file: file.write(text + b"\n"))
    base = await asyncio.to_thread(evaluate.read_base, ground.folder)
    counts = ground.record.data.taken_back if ground.record.data is not None else {}
    unlearned = await asyncio.to_thread(comparison.unlearned, before, after, base, counts, ground.settings.gate)
    liked = await asyncio.to_thread(foretold.foretold, ground.folder, before, after, ground.settings)
    samples = gate.samples(before, after, SAMPLES)
    return Decided(decision, (*table, *liked.rows), samples, unlearned, liked.notes)


def _is_to_go(ground: Ground) -> bool:
    """Whether what it is compared with learned from what was taken back since, and this one did not."""
    record = ground.record
    if record.training is not None and record.training.continued_from:
        return False  # from weights that knew it
    concerned = {each.adapter for each in lineage.to_leave_out(ground.store)}
    withdrawn = record.data is not None and bool(record.data.taken_back)
    return record.before in concerned or (record.before != "base" and withdrawn)


async def promote(ground: Ground) -> Promoted:
    """Raises EngineError, FinetuneError; then what was in force still is."""
    from engine.process import connect
    from finetune import promote

    adapter = await asyncio.to_thread(_registered, ground)
    await asyncio.to_thread(runs.note, ground.store, ground.number, version=adapter.version)
    decision = ground.record.decision
    shown_to_be_better = decision is not None and decision.verdict == "promoted"
    instead_of = ground.record.instead_of if shown_to_be_better else None
    connection = connect(ground.settings)
    return await promote.put(ground.settings, ground.store, connection, adapter, instead_of=instead_of)


def render(record: Record, folder: Path) -> None:
    from finetune.report import html

    text = html(record)
    files.write(folder / folders.REPORT, lambda file: file.write(text.encode()))


async def _in_a_process(stage: Literal["train", "evaluate", "anchors"], ground: Ground) -> None:
    """With room on a GPU, if there is one. Raises FinetuneError, EngineFailed."""
    from finetune import gpus, process

    state = "evaluating" if stage == "evaluate" else "training"
    base = await asyncio.to_thread(base_model, ground.settings)
    async with gpus.room(ground.settings, base, state, ground.told) as room:
        left_s = max(0.0, ground.until - time.monotonic())
        await process.run_stage(stage, ground.folder, told=ground.told, timeout_s=left_s, room=room)


# The job


def _job(ground: Ground) -> Job:
    """What the process that trains and the one that measures are to do; its examples are not mixed yet."""
    from finetune import dataset

    settings, base = ground.settings, base_model(ground.settings)
    loaded = dataset.load(ground.folder)
    before = _before(ground, base)
    root = settings.data.folder / "adapters"
    own = before is not None and before.name == ground.name  # a group does not go on from what private chats taught
    last = before if settings.finetune.start == "last" and own else None
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
    name, _, version = ground.record.instead_of.partition("@")
    if not version:
        return None
    row = table.get(ground.store, name, int(version))
    return row if row.base_fingerprint == base_fingerprint(base) else None


def _refuse_beside_a_whole_model(ground: Ground) -> None:
    """A group's adapter is served beside what answers everybody else. Raises MethodRefused."""
    from finetune import methods

    way = methods.way(ground.settings.finetune.method)
    if way.served == "model":
        raise MethodRefused(
            f"{way.title} leaves a whole model, which answers everybody, and this is to answer in a group alone. Use "
            f"finetune.method = 'lora', or give --offline to measure it."
        )
    everybodys = table.active(ground.store, DEFAULT)
    if everybodys is not None and everybodys.kind == "model":
        raise MethodRefused(
            f"{served_name(everybodys)}, which is in force, is a whole model, and no adapter can be served beside it. "
            f"Put an adapter in force for everybody first, or roll back."
        )


def _not_comparable(ground: Ground) -> tuple[str, ...]:
    in_force = ground.record.instead_of
    if in_force == "base" or _before(ground, base_model(ground.settings)) is not None:
        return ()
    return (f"{in_force} was made for another base model, so this was compared with the base model.",)


async def _anchors(ground: Ground, job: Job) -> None:
    """The base model's own replies to everyday prompts, made once for a base model."""
    if not (count := await asyncio.to_thread(_anchors_wanted, ground, job)):
        return
    wanted = {
        "model_folder": str(job.model_folder),
        "count": count,
        "seed": job.settings.seed,
        "cache": str(_cache(ground)),
    }
    await asyncio.to_thread(files.write_json, ground.folder / "anchors.json", wanted)
    await _in_a_process("anchors", ground)


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
    pairs = ground.settings.finetune.preferences != "off" and made.name == "adapter"  # a model has no such stage
    conversations = dataset.manifest_of(ground.folder).of_the_log(pairs=pairs)
    training = ground.record.training
    if training is not None and training.continued_from:
        name, _, version = training.continued_from.partition("@")
        before = table.get(ground.store, name, int(version))
        assert before.id is not None, "a stored row has an id"
        conversations |= lineage.learned_from(ground.store, before.id)  # what that one knew, this one may know
    return promote.register(
        ground.settings, ground.store, ground.name, made, base_model(ground.settings), conversations
    )


REAL = Stages(prepare, train, evaluate, decide, promote, render)
