"""vLLM through `engine`, against plain transformers, for people who arrive when they please.

    python -m bench.engines [--requests 32] [--every 1.0]

The same prompts of different lengths, asking for replies of different lengths, arrive at the same (Poisson) times:

    engine        vLLM through engine.client: whoever arrives joins the running batch
    loop          transformers.generate, one request after the other
    static batch  transformers.generate on up to 16 waiting requests at once, padded; who arrives meanwhile waits

TTFT counts from a request's arrival. Weights in bf16, greedy, every reply of exactly the length asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.running import heading, median, percentile, running
from engine.client import ChatRequest, Delta, Done
from settings import Persona

PERSONA = Persona(name="familiar", system="You are a helpful AI assistant named Familiar.")
BATCH = 16


@dataclass(frozen=True)
class Request:
    at_s: float
    messages: tuple[dict[str, str], ...]
    tokens: int


@dataclass(frozen=True)
class Result:
    ttft_s: float
    total_s: float
    tokens: int
    end_s: float  # since the first arrival


def arrivals(count: int, every_s: float, seed: int = 7) -> list[Request]:
    """Poisson arrivals; prompts of 30 to 400 tokens and replies of 8 to 160, most of them short."""
    draw, at_s, requests = random.Random(seed), 0.0, []
    filler = "The lighthouse stood on the rock and its keeper counted the ships that passed. "
    for number in range(count):
        text = f"({number}) " + filler * draw.choice((1, 1, 2, 4, 20)) + "What happens next?"
        messages = ({"role": "system", "content": PERSONA.system}, {"role": "user", "content": text})
        requests.append(Request(at_s, messages, draw.choice((8, 16, 40, 40, 80, 160))))
        at_s += draw.expovariate(1 / every_s)
    return requests


async def through_engine(requests: list[Request]) -> tuple[list[Result], Path]:
    async with running((PERSONA,), lora="off") as bench:
        heading("Engines, with people arriving at random", bench.address)
        sampling = {"temperature": 0.0, "repetition_penalty": 1.0, "ignore_eos": True}

        async def ask(request: Request, number: int) -> Result:
            await asyncio.sleep(begun + request.at_s - time.monotonic())
            arrived, ttft_s, tokens = time.monotonic(), 0.0, 0
            asked = ChatRequest(request.messages, sampling | {"max_tokens": request.tokens}, person=str(number))
            async for item in bench.client.stream(asked):
                if isinstance(item, Delta) and not ttft_s:
                    ttft_s = time.monotonic() - arrived
                if isinstance(item, Done):
                    tokens = item.completion_tokens
            return Result(ttft_s, time.monotonic() - arrived, tokens, time.monotonic() - begun)

        warm = ChatRequest(requests[0].messages, {"max_tokens": 4}, person="warm")
        await bench.client.complete(warm)
        begun = time.monotonic()
        results = await asyncio.gather(*(ask(request, number) for number, request in enumerate(requests)))
        assert bench.address.model_folder is not None
        return results, bench.address.model_folder.resolve()


class Plain:
    """transformers as its documentation shows it."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.torch = torch
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).to(self.device).eval()
        self.generate([Request(0, ({"role": "user", "content": "warm"},), 4)], lambda: None)

    def generate(self, batch: list[Request], first_token: Callable[[], None]) -> None:
        """Replies to the whole batch, as long as its longest; calls `first_token` when the first is there."""
        texts = [
            self.tokenizer.apply_chat_template(list(request.messages), add_generation_prompt=True, tokenize=False)
            for request in batch
        ]
        inputs = self.tokenizer(texts, return_tensors="pt", padding=True).to(self.device)
        seen: list[bool] = []

        def watch(tokens: Any, _: Any, **__: Any) -> Any:
            if not seen:
                seen.append(True)
                first_token()
            return self.torch.zeros(tokens.shape[0], dtype=self.torch.bool, device=tokens.device)

        longest = max(request.tokens for request in batch)
        self.model.generate(
            **inputs,
            do_sample=False,
            temperature=None,
            top_p=None,
            repetition_penalty=1.0,
            min_new_tokens=longest,
            max_new_tokens=longest,
            stopping_criteria=[watch],
        )


def through_transformers(plain: Plain, requests: list[Request], batch_size: int) -> list[Result]:
    waiting, results, begun = list(requests), [], time.monotonic()
    while waiting:
        now_s = time.monotonic() - begun
        if waiting[0].at_s > now_s:
            time.sleep(waiting[0].at_s - now_s)
        now_s = time.monotonic() - begun
        batch = [request for request in waiting if request.at_s <= now_s][:batch_size]
        del waiting[: len(batch)]
        first: list[float] = []
        plain.generate(batch, lambda first=first: first.append(time.monotonic() - begun))  # type: ignore[misc]
        end_s = time.monotonic() - begun
        results += [Result(first[0] - each.at_s, end_s - each.at_s, each.tokens, end_s) for each in batch]
    return results


def row(name: str, results: list[Result], base: list[Result] | None) -> None:
    speed = sum(result.tokens for result in results) / max(result.end_s for result in results)
    ratio = ""
    if base is not None:
        ratio = f"{sum(result.tokens for result in base) / max(result.end_s for result in base) / speed:.1f} times"
    ttft = [result.ttft_s for result in results]
    total = [result.total_s for result in results]
    print(
        f"{name:13} {speed:>9.1f}  {ratio:>12}  {median(ttft):>8.2f} s {percentile(ttft, 0.95):>8.2f} s "
        f"{median(total):>10.1f} s"
    )


async def main(count: int, every_s: float) -> None:
    requests = arrivals(count, every_s)
    engine, folder = await through_engine(requests)
    plain = Plain(folder)
    loop = through_transformers(plain, requests, 1)
    batch = through_transformers(plain, requests, BATCH)
    print(f"{count} requests, one every {every_s:g} s on average, {sum(each.tokens for each in requests)} tokens\n")
    print("way            tokens/s  engine faster  TTFT median      p95   whole reply")
    row("engine", engine, None)
    row("loop", loop, engine)
    row("static batch", batch, engine)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--every", type=float, default=0.3)
    options = parser.parse_args()
    asyncio.run(main(options.requests, options.every))
