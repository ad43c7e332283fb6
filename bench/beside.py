"""What people notice while a model learns: replies alone, and beside a run that trains.

    python -m bench.beside [--questions 20] [--alone 60]

One person asks, waits for the whole reply and asks again: first with nothing else going on; then, when a training by
the defaults has made steps with nobody talking, beside it. The training is the process that a run starts, on
conversations of OASST from FAMILIAR_DATA (else ../shared/data), and is ended when the questions are answered.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from bench import finetune as data
from bench.running import Bench, heading, median, percentile, running
from engine.client import ChatRequest, Delta, Done
from finetune import continual, job, process
from finetune.examples import Example, Source
from finetune.job import Job, Progress
from settings import Finetune, Persona

PERSONA = Persona(name="familiar", system="You are a helpful AI assistant named Familiar.")
TOKENS = 48  # of a reply
SETTLED = 3  # steps, before anything is measured


@dataclass(frozen=True)
class Answered:
    ttft_s: float
    tokens_per_s: float  # from the first to the last


@dataclass
class Learning:
    """Its steps, by time.monotonic()."""

    steps: list[float] = field(default_factory=list)

    def heard(self, progress: Progress) -> None:
        if progress.stage == "training":
            self.steps.append(time.monotonic())

    def rate(self, since: float, until: float) -> float:
        """Steps a second between the first and the last that ended in this time."""
        inside = [each for each in self.steps if since <= each <= until]
        return (len(inside) - 1) / (inside[-1] - inside[0]) if len(inside) > 1 else float("nan")


async def ask(bench: Bench, number: int) -> Answered:
    text = f"Tell me a long story about the number {number}."
    messages = ({"role": "system", "content": PERSONA.system}, {"role": "user", "content": text})
    sampling = {"temperature": 0.7, "max_tokens": TOKENS, "ignore_eos": True}
    begun, first = time.monotonic(), 0.0
    async for item in bench.client.stream(ChatRequest(messages, sampling, person="reader")):
        if isinstance(item, Delta) and not first:
            first = time.monotonic()
        if isinstance(item, Done):
            return Answered(first - begun, (item.completion_tokens - 1) / (time.monotonic() - first))
    raise AssertionError("a stream ends with Done")


async def talk(bench: Bench, first: int, questions: int) -> list[Answered]:
    return [await ask(bench, number) for number in range(first, first + questions)]


@contextlib.asynccontextmanager
async def learning(bench: Bench) -> AsyncIterator[Learning]:
    """A training that goes on for as long as it is looked at, past its first steps."""
    folder, model_folder = bench.settings.data.folder / "run", bench.address.model_folder
    assert model_folder is not None
    settings = Finetune(epochs=1000)
    learnt = tuple(
        Example(tuple(messages), (0.0,) * (len(messages) - 1) + (1.0,), "imported", Source(f"file:oasst:{number}"))
        for number, messages in enumerate(data.conversations(model_folder, 64))
    )
    count = continual.wanted_anchors(settings, len(learnt))
    own = continual.anchors(model_folder, count, settings.seed, Path(folder) / "anchors")
    job.save(Job(model_folder, folder, settings, learnt, (), tuple(own)))
    seen = Learning()
    training = asyncio.create_task(process.run_stage("train", folder, told=seen.heard))
    try:
        while len(seen.steps) < SETTLED and not training.done():
            await asyncio.sleep(0.5)
        if training.done():
            await training
        yield seen
    finally:
        training.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await training


async def main(questions: int, alone_s: float) -> None:
    async with running((PERSONA,), lora="on") as bench:
        heading("Replies beside a training", bench.address)
        await talk(bench, 0, 2)  # warm
        before = await talk(bench, 100, questions)
        async with learning(bench) as seen:
            begun = time.monotonic()
            await asyncio.sleep(alone_s)
            by_itself = seen.rate(begun, time.monotonic())
            begun = time.monotonic()
            beside = await talk(bench, 1000, questions)
            with_talk = seen.rate(begun, time.monotonic())
    print("                      TTFT median     TTFT 90%       tokens/s")
    base = before
    for name, answered in (("replies alone", before), ("beside the training", beside)):
        row = f"{name:20}"
        waited, usual = ([each.ttft_s for each in some] for some in (answered, base))
        for now, then in (
            (median(waited), median(usual)),
            (percentile(waited, 0.9), percentile(usual, 0.9)),
        ):
            row += f"  {now:>5.2f} s (x{now / then:.1f})"
        speed, alone = (median([each.tokens_per_s for each in some]) for some in (answered, base))
        print(f"{row}  {speed:>6.1f} (x{speed / alone:.2f})")
    print(f"\nTraining beside replies makes {with_talk / by_itself:.2f} of the steps that it makes alone.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--alone", type=float, default=60, help="seconds in which the training has the machine")
    given = parser.parse_args()
    asyncio.run(main(given.questions, given.alone))
