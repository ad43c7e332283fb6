"""One GPU for replies and for training: the engine sleeps meanwhile, or both stay (finetune.gpu), beside each other.

    python -m bench.sharing [--epochs 8]      on a machine with an NVIDIA GPU

One person asks, waits for the whole reply and asks again: first with nothing else going on, then from before a training
begins until after it has ended. With "sleep" a question waits until the training is over, and with "share" it is
answered meanwhile. Printed for each: the first word's time alone and during the training, how long the training took,
and how long the engine took to fall asleep and to answer again. Aim: no question fails in either.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import dataclass, field
from typing import Literal

from bench.running import Bench, heading, median, percentile, running
from engine import hardware
from engine.client import ChatRequest, Delta, Done
from engine.hardware import Gpu
from engine.vllm import LEFT_FOR_TRAINING
from finetune import continual, job
from finetune.examples import Example, Source
from finetune.gpus import OUTSIDE_GIB, Room
from finetune.job import Job
from finetune.process import run_stage
from finetune.training import load_training
from settings import Finetune, Persona

PERSONA = Persona(name="familiar", system="You are a helpful AI assistant named Familiar.")
TOKENS = 48  # of a reply
ALONE = 20  # questions

Way = Literal["sleep", "share"]


@dataclass
class Measured:
    way: Way
    alone: list[float] = field(default_factory=list)  # seconds to the first word
    during: list[float] = field(default_factory=list)
    asleep_s: float = 0.0  # from wanting the GPU until it was free
    awake_s: float = 0.0  # from the end of the training until a question was answered
    training_s: float = 0.0  # that process alone, its start and end included
    tokens_per_s: float = 0.0


async def ask(bench: Bench, number: int) -> float:
    """Seconds to the first word."""
    text = f"Tell me a long story about the number {number}."
    messages = ({"role": "system", "content": PERSONA.system}, {"role": "user", "content": text})
    sampling = {"temperature": 0.7, "max_tokens": TOKENS, "ignore_eos": True}
    begun, first = time.monotonic(), 0.0
    async for item in bench.client.stream(ChatRequest(messages, sampling, person="reader")):
        if isinstance(item, Delta) and not first:
            first = time.monotonic()
        if isinstance(item, Done):
            return first - begun
    raise AssertionError("a stream ends with Done")


async def measure(way: Way, gpu: Gpu, epochs: float) -> Measured:
    found = Measured(way)
    async with running((PERSONA,), gpu=way, lora="on") as bench:
        heading(f"finetune.gpu = {way!r}", bench.address)
        for number in range(2):  # warm
            await ask(bench, number)
        found.alone = [await ask(bench, 100 + number) for number in range(ALONE)]
        prepare(bench, epochs)
        over = asyncio.Event()
        asking = asyncio.create_task(_ask_until(bench, found, over))
        await train(bench, way, gpu, found)
        ended = time.monotonic()
        await ask(bench, 9999)
        found.awake_s = time.monotonic() - ended
        over.set()
        await asking
    return found


async def train(bench: Bench, way: Way, gpu: Gpu, found: Measured) -> None:
    begun, folder = time.monotonic(), bench.settings.data.folder / "run"
    share = 1.0 if way == "sleep" else LEFT_FOR_TRAINING - OUTSIDE_GIB / gpu.memory_gib
    async with bench.engine.lend_gpu(sleep=way == "sleep") as held:
        found.asleep_s = time.monotonic() - begun
        begun = time.monotonic()
        await run_stage("train", folder, room=Room((gpu,), share, held=held))
        found.training_s = time.monotonic() - begun
    training = load_training(folder)
    found.tokens_per_s = training.tokens / training.seconds


def prepare(bench: Bench, epochs: float) -> None:
    """What is to be learnt: a paragraph each, as if somebody had asked for it."""
    assert bench.address.model_folder is not None
    learnt = tuple(
        Example(
            (
                {"role": "user", "content": f"Tell me something, number {number}."},
                {"role": "assistant", "content": text},
            ),
            (0.0, 1.0),
            "imported",
            Source(f"file:general:{number}"),
        )
        for number, text in enumerate(continual.general_text())
    )
    settings = Finetune(epochs=epochs, kl=0, general=0)
    job.save(Job(bench.address.model_folder, bench.settings.data.folder / "run", settings, learnt, ()))


async def _ask_until(bench: Bench, found: Measured, over: asyncio.Event) -> None:
    number = 1000
    while not over.is_set():
        found.during.append(await ask(bench, number))
        number += 1


def table(ways: list[Measured]) -> None:
    print("                                  " + "".join(f"{each.way:>12}" for each in ways))
    rows = (
        ("first word alone, median", [median(each.alone) for each in ways], "s"),
        ("  while a model learns, median", [median(each.during) for each in ways], "s"),
        ("  90% are faster than", [percentile(each.during, 0.9) for each in ways], "s"),
        ("  the longest wait", [max(each.during) for each in ways], "s"),
        ("questions answered meanwhile", [float(len(each.during)) for each in ways], ""),
        ("until the GPU was free", [each.asleep_s for each in ways], "s"),
        ("from its end until an answer", [each.awake_s for each in ways], "s"),
        ("the training", [each.training_s for each in ways], "s"),
        ("tokens it learnt a second", [each.tokens_per_s for each in ways], ""),
    )
    for name, values, unit in rows:
        print(f"{name:34}" + "".join(f"{value:>10.{2 if unit else 0}f}{unit:>2}" for value in values))


async def main(epochs: float) -> None:
    gpus = hardware.detect().gpus
    if not gpus:
        raise SystemExit("No GPU answers to nvidia-smi; there is nothing to share.")
    table([await measure(way, gpus[0], epochs) for way in ("sleep", "share")])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=float, default=8, help="of the training; more of them take longer")
    asyncio.run(main(parser.parse_args().epochs))
