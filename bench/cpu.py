"""What the CPU build's settings do: start time, one stream, sixteen streams, and one stream beside a busy process.

    python -m bench.cpu [NAME ...]      all of VARIANTS, or those named

Each variant is a start of its own (half a minute or more). The first row is what `engine` does by default.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time

import psutil

from bench.running import Bench, heading, running
from engine.client import ChatRequest, Done
from settings import Persona

PERSONA = Persona(name="familiar", system="You are a helpful AI assistant named Familiar.")

# name: (environment, engine settings)
VARIANTS: dict[str, tuple[dict[str, str], dict[str, object]]] = {
    "default": ({}, {"lora": "off"}),
    "lora on": ({}, {"lora": "on"}),
    "one thread": ({}, {"lora": "off", "cpu_threads": 1}),
    "spin as libgomp does": ({"GOMP_SPINCOUNT": "300000"}, {"lora": "off"}),
    "spin 20000": ({"GOMP_SPINCOUNT": "20000"}, {"lora": "off"}),
    "spin 1000": ({"GOMP_SPINCOUNT": "1000"}, {"lora": "off"}),
    "worker in its own process": ({"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}, {"lora": "off"}),
    "compiled": ({}, {"lora": "off", "flags": ("--no-enforce-eager",)}),
}


async def tokens_per_s(bench: Bench, streams: int, tokens: int) -> float:
    async def ask(number: int) -> int:
        text = f"Tell me a long story about the number {number}{streams}{time.monotonic()}."
        messages = ({"role": "system", "content": PERSONA.system}, {"role": "user", "content": text})
        sampling = {"temperature": 0.7, "max_tokens": tokens, "ignore_eos": True}
        async for item in bench.client.stream(ChatRequest(messages, sampling, person=str(number))):
            if isinstance(item, Done):
                return item.completion_tokens
        raise AssertionError("a stream ends with Done")

    begun = time.monotonic()
    made = await asyncio.gather(*(ask(number) for number in range(streams)))
    return sum(made) / (time.monotonic() - begun)


def memory_gib(bench: Bench) -> float:
    group = int((bench.engine.files.folder / "group").read_text().split()[0])
    family = [psutil.Process(group), *psutil.Process(group).children(recursive=True)]
    return sum(process.memory_info().rss for process in family) / 2**30


def start_up(bench: Bench) -> str:
    """What the start's time went into, by the marks in vLLM's log (whole seconds)."""
    marks = {
        "API process imports": "non-default args",
        "core process imports": "Initializing a V1 LLM engine",
        "weights": "Loading weights took",
        "cache and warm-up": "init engine",
        "routes": "Starting vLLM server",
    }
    log = bench.engine.files.log.read_text(errors="replace")
    group = int((bench.engine.files.folder / "group").read_text().split()[0])
    told, before = [], psutil.Process(group).create_time()
    for name, mark in marks.items():
        found = re.search(rf"(\d\d-\d\d \d\d:\d\d:\d\d)[^\n]*{re.escape(mark)}", log)
        if found is None:
            continue
        at = time.mktime(time.strptime(f"{time.localtime().tm_year}-{found[1]}", "%Y-%m-%d %H:%M:%S"))
        told.append(f"{name} {at - before:.0f} s")
        before = at
    return ", ".join(told)


async def measure(environment: dict[str, str], engine: dict[str, object]) -> tuple[float, float, float, float, float]:
    """(seconds to start, one stream, sixteen streams, one stream beside a busy process, memory in GiB)."""
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        async with running((PERSONA,), **engine) as bench:
            if not environment and engine == {"lora": "off"}:
                print(f"Start of the default: {start_up(bench)}.\n")
            await tokens_per_s(bench, 1, 16)
            alone = max([await tokens_per_s(bench, 1, 96) for _ in range(2)])
            many = await tokens_per_s(bench, 16, 96)
            busy = await asyncio.create_subprocess_exec(sys.executable, "-c", "while True: pass")
            try:
                beside = await tokens_per_s(bench, 1, 32)
            finally:
                busy.kill()
                await busy.wait()
            return bench.start_s, alone, many, beside, memory_gib(bench)
    finally:
        os.environ.clear()
        os.environ.update(before)


async def main(names: list[str]) -> None:
    heading("Settings of the CPU build")
    base: tuple[float, ...] | None = None
    for name in names or VARIANTS:
        start_s, *speeds, memory = await measure(*VARIANTS[name])
        if base is None:
            base = tuple(speeds)
            print("Speeds in tokens/s, and to the first row's.\n")
            print(f"{'setting':26}  start    1 stream       16 streams     1 beside a busy process  memory")
        shown = "  ".join(f"{speed:>6.1f} ({speed / basic:.2f})" for speed, basic in zip(speeds, base, strict=True))
        print(f"{name:26}  {start_s:>3.0f} s  {shown}           {memory:>4.1f} GiB", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
