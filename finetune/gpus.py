"""On which GPUs a stage of a run works, and that the engine makes room where it needs the same ones.

GPUs that nobody uses are taken first, all of them; the engine notices nothing. Where there are none but the engine's,
as on a machine with one, finetune.gpu decides: the engine sleeps for as long as the stage takes, or training keeps to
the share of the memory that the engine has left for it. What fits beside the engine in any case does not make it sleep.
On a processor nothing of this is needed: training has the lowest priority.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from engine.hardware import GIB, Gpu, detect
from engine.process import LocalEngine
from engine.vllm import gpu_share
from finetune.job import Progress, Told
from settings import Engine, Settings

UNUSED = 0.9  # of its memory is free on a GPU that nobody uses
OUTSIDE_GIB = 2.0  # that two processes take of a GPU beside what they count: CUDA itself, and what lies between
SHARE = "FAMILIAR_GPU_SHARE"
SIZES = ("tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size")
SHORT = {"-tp": SIZES[0], "-pp": SIZES[1], "-dp": SIZES[2]}


@dataclass(frozen=True)
class Room:
    """Where a stage works, and how much it may take there. Without GPUs: on the processor."""

    gpus: tuple[Gpu, ...] = ()
    share: float = 1.0  # of each one's memory
    engine: Literal["", "beside", "sleep"] = ""  # what becomes of an engine that uses them, too
    held: int | None = None  # a descriptor that keeps the engine from them, for every process that works there

    def environment(self) -> dict[str, str]:
        of_each = {SHARE: f"{self.share:.3f}"} if self.share < 1 else {}
        if not self.gpus or not all(gpu.uuid for gpu in self.gpus):
            return of_each
        return of_each | {"CUDA_VISIBLE_DEVICES": ",".join(gpu.uuid for gpu in self.gpus)}


@contextlib.asynccontextmanager
async def room(settings: Settings, model_folder: Path, stage: str, told: Told) -> AsyncIterator[Room]:
    """Room for one stage, until its end. Raises EngineFailed when the engine does not give its GPU away."""
    from finetune.hardware import memory_needed

    gpus = visible((await asyncio.to_thread(detect)).gpus, os.environ)
    if not gpus:
        yield Room()
        return
    needed = await asyncio.to_thread(memory_needed, settings.finetune, model_folder, "float32")
    chosen = choose(settings, gpus, needed / GIB)
    if not chosen.engine:
        yield chosen
        return
    sleep = chosen.engine == "sleep"
    if sleep:
        told(Progress(stage, 0, 0, "waiting for the engine to finish its replies and to sleep"))
    async with LocalEngine(settings).lend_gpu(sleep=sleep) as held:
        yield replace(chosen, held=held)


def choose(settings: Settings, gpus: Sequence[Gpu], needed_gib: float) -> Room:
    """`gpus`: those that may be used, in the engine's order. `needed_gib`: what training takes of one, roughly."""
    mine = 0 if settings.engine.url else engine_takes(settings.engine)
    unused = tuple(gpu for gpu in gpus[mine:] if gpu.free_gib >= UNUSED * gpu.memory_gib)
    if unused or not mine:
        return Room(unused or tuple(gpus))
    gpus = tuple(gpus[:mine])
    smallest = min(gpu.memory_gib for gpu in gpus)
    left_gib = (1 - gpu_share(settings.engine, settings.finetune.gpu)) * smallest - OUTSIDE_GIB
    if settings.finetune.gpu == "sleep" and needed_gib > left_gib:
        return Room(gpus, engine="sleep")
    return Room(gpus, max(0.01, left_gib / smallest), "beside")


def engine_takes(settings: Engine) -> int:
    """How many GPUs the engine works on: one, unless vLLM's own flags say otherwise."""
    many, flags = 1, list(settings.flags)
    for number, flag in enumerate(flags):
        name, _, value = flag.partition("=")
        name = SHORT.get(name, name.removeprefix("--").replace("_", "-"))
        value = value or (flags[number + 1] if number + 1 < len(flags) else "")
        if name in SIZES and value.isdecimal():
            many *= max(1, int(value))
    return many


def visible(gpus: Sequence[Gpu], environment: Mapping[str, str]) -> tuple[Gpu, ...]:
    """Those that CUDA_VISIBLE_DEVICES leaves, by number or by uuid, in its order; all where it is not set."""
    wanted = environment.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return tuple(gpus)
    found: list[Gpu] = []
    for each in filter(None, (word.strip() for word in wanted.split(","))):
        by_number = [gpus[int(each)]] if each.isdecimal() and int(each) < len(gpus) else []
        by_uuid = [gpu for gpu in gpus if gpu.uuid and gpu.uuid.startswith(each)]
        if not (one := by_number or by_uuid):
            break  # as CUDA does: what stands behind one that is none does not count
        found += one[:1]
    return tuple(found)


def keep_to_share() -> None:
    """In the process that works: more than its share is refused it, so that the engine never goes without."""
    if not (share := os.environ.get(SHARE)):
        return
    import torch

    for number in range(torch.cuda.device_count()):
        torch.cuda.set_per_process_memory_fraction(float(share), number)
