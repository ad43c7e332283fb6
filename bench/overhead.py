"""What the assistant costs: the same requests straight to vLLM, and through store, prompt, client and log.

    python -m bench.overhead [--rounds 3]

For each concurrency the two ways take turns, so that a busy spell of the machine meets both. Aim: throughput at least
0.97 of vLLM's own, and at most 10 ms added to the time to the first token.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp

from bench.running import Bench, heading, median, running
from bot.chat import Chat
from bot.events import Finished, Token
from settings import Persona, Sampling

# Replies of different lengths: people who began together do not end together.
PERSONAS = tuple(
    Persona(
        name="familiar" if tokens == 96 else f"up-to-{tokens}",
        system="You are a helpful AI assistant named Familiar.",
        sampling=Sampling(temperature=0.8, top_p=0.95, repetition_penalty=1.0, max_tokens=tokens),
    )
    for tokens in (96, 48, 128, 32, 80, 112, 64)
)
REQUESTS = {1: 7, 4: 21, 16: 70}  # concurrency: requests in a round


@dataclass(frozen=True)
class Reply:
    ttft_s: float
    tokens: int


@dataclass(frozen=True)
class Round:
    tokens_per_s: float
    ttft_s: float  # median
    cpu_s_per_token: float  # of this process, the client's side


Ask = Callable[[int], Awaitable[Reply]]


def persona_of(number: int) -> Persona:
    return PERSONAS[number % len(PERSONAS)]


def question(number: int) -> str:
    """Every one new, so that no way finds the other's prompts in the cache."""
    return f"Story {number}: tell me a very long story about a lighthouse keeper who lives for {number} years."


async def straight(bench: Bench, session: aiohttp.ClientSession) -> Ask:
    """A plain streaming client, as lean as one can be written."""

    async def ask(number: int) -> Reply:
        persona = persona_of(number)
        body = {
            "model": bench.address.model,
            "messages": [
                {"role": "system", "content": persona.system},
                {"role": "user", "content": question(number)},
            ],
            "stream": True,
            "stream_options": {"include_usage": True},
            **persona.sampling.model_dump(exclude_none=True),
        }
        headers = {"Authorization": f"Bearer {bench.address.api_key}"}
        begun, ttft_s, tokens = time.monotonic(), 0.0, 0
        async with session.post(f"{bench.address.url}/v1/chat/completions", json=body, headers=headers) as response:
            async for line in response.content:
                if not line.startswith(b"data: {"):
                    continue
                chunk = json.loads(line[6:])
                if not ttft_s and chunk["choices"] and chunk["choices"][0]["delta"].get("content"):
                    ttft_s = time.monotonic() - begun
                if chunk.get("usage"):
                    tokens = chunk["usage"]["completion_tokens"]
        return Reply(ttft_s, tokens)

    return ask


async def through_assistant(bench: Bench) -> Ask:
    """As a channel does it: people who stay, each question in a new conversation, the reply rendered to nothing."""
    idle: list[Chat] = []

    async def ask(number: int) -> Reply:
        chat = idle.pop() if idle else await Chat.open(bench.assistant, channel="bench", external_id=str(number))
        await chat.new(persona=persona_of(number).name)
        begun, ttft_s, end = time.monotonic(), 0.0, None
        async for event in chat.send(question(number)):
            if isinstance(event, Token) and not ttft_s:
                ttft_s = time.monotonic() - begun
            end = event
        assert isinstance(end, Finished), end
        idle.append(chat)
        return Reply(ttft_s, end.completion_tokens)

    return ask


async def one_round(ask: Ask, numbers: range, concurrency: int) -> Round:
    """`concurrency` people, each asking the next question as soon as their last is answered."""
    left, replies = iter(numbers), []

    async def person() -> None:
        for number in left:
            replies.append(await ask(number))

    begun, cpu_s = time.monotonic(), time.process_time()
    await asyncio.gather(*(person() for _ in range(concurrency)))
    seconds, cpu_s = time.monotonic() - begun, time.process_time() - cpu_s
    tokens = sum(reply.tokens for reply in replies)
    return Round(tokens / seconds, median([reply.ttft_s for reply in replies]), cpu_s / tokens)


async def main(rounds: int) -> None:
    async with running(PERSONAS, lora="off") as bench, aiohttp.ClientSession() as session:
        heading("Overhead of the assistant over vLLM itself", bench.address)
        ways = {"straight to vLLM": await straight(bench, session), "through Familiar": await through_assistant(bench)}
        number = 1
        for ask in ways.values():
            await one_round(ask, range(number, number := number + 4), 4)  # warm
        print("concurrency  way               tokens/s  ratio   TTFT     added  CPU/token")
        for concurrency, requests in REQUESTS.items():
            results: dict[str, list[Round]] = {name: [] for name in ways}
            for turn in range(rounds):
                for name in list(ways) if turn % 2 == 0 else list(ways)[::-1]:
                    numbers = range(number, number := number + requests)
                    results[name].append(await one_round(ways[name], numbers, concurrency))
            base = results["straight to vLLM"]
            for name, measured in results.items():
                speed = sum(each.tokens_per_s for each in measured) / rounds
                ratio = speed / (sum(each.tokens_per_s for each in base) / rounds)
                ttft_ms = 1000 * sum(each.ttft_s for each in measured) / rounds
                added_ms = ttft_ms - 1000 * sum(each.ttft_s for each in base) / rounds
                cpu_us = 1e6 * sum(each.cpu_s_per_token for each in measured) / rounds
                print(
                    f"{concurrency:>11}  {name:16} {speed:>9.1f}  {ratio:>5.3f} {ttft_ms:>5.0f} ms {added_ms:>+5.1f} ms"
                    f"  {cpu_us:>5.0f} µs"
                )
        print("\nAim: ratio at least 0.97, added at most 10 ms.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    asyncio.run(main(parser.parse_args().rounds))
