"""What the Telegram channel costs, and whether it loses anything: many chats at once, and a Telegram that is flooded.

    python -m bench.telegram_load [--chats 500] [--messages 4] [--flood 0.2]

The bot is a process of its own, with a database on the disk. This process is Telegram, the people and an engine that
says one word every 20 ms. Every message has a number, which the engine repeats in its reply, so that each reply can be
told from every other.

First the bot's own work: a message every so often, nothing refused, the bot's limiter open. A message's overhead is
the time from the delivery of its update to the arrival of the reply's final message, less the time that the engine
took. Nothing else is in it that the bot does not do itself, least of all the wait for Telegram's limits, which at 30
messages a second and 500 chats would be all there is to see.

Then the flood: everybody writes at once, always one message ahead of the replies, Telegram's limits hold, and a share
of what is sent is answered 429. The exit code is 1 when a message was lost, answered twice, or out of its order.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from aiohttp import web

from bench.running import heading, median, percentile
from engine.state import Address
from tests.telegram_server import Chat, Shown, TelegramServer
from tests.telegram_server.faults import posts
from tests.telegram_server.updates import Updates

RATES = (5, 10, 20, 30)  # messages a second
MESSAGES_A_RATE = 300
WORDS = 15
WORD_S = 0.02
SAMPLED_EVERY_S = 0.25
STUCK_AFTER_S = 120.0  # without any reply
NOBODYS = (0, 0)  # what stands for a text without a number, e.g. a problem that the bot tells of
NUMBERED = re.compile(r"message (\d+) of (\d+)")


@dataclass
class Watch:
    """When each message was delivered and answered, and how long the engine took. Keys are (person, number)."""

    delivered: dict[tuple[int, int], float] = field(default_factory=dict)
    engine_s: defaultdict[tuple[int, int], float] = field(default_factory=lambda: defaultdict(float))
    answered: dict[tuple[int, int], float] = field(default_factory=dict)
    newest: float = field(default_factory=time.monotonic)

    def overhead_s(self, message: tuple[int, int]) -> float:
        return self.answered[message] - self.delivered[message] - self.engine_s[message]


class TimedUpdates(Updates):
    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    async def poll(self, *given: Any) -> list[Any]:
        updates = await super().poll(*given)
        for update in updates:
            message = named_in(update.get("message", {}).get("text", ""))
            self._watch.delivered.setdefault(message, time.monotonic())
        return updates


class Person(Chat):
    """Somebody who writes numbered messages, and what came back, in its order."""

    def __init__(self, server: TelegramServer, number: int, watch: Watch) -> None:
        user = server.user(number, f"Person {number}", language_code="en")
        super().__init__(server, number, "private", person=user)
        server.chats[number] = self
        self.statuses[number] = "member"
        self.written = 0
        self.replies_to: list[int] = []
        self.to_write = 0  # messages, of which the next is written when the last but one is answered
        self._watch = watch

    def write(self) -> None:
        self.written += 1
        self.send(f"This is message {self.written} of {self.id}.")

    def add(self, shown: Shown) -> Shown:
        super().add(shown)
        if shown.sender == "bot":
            message = named_in(shown.text)
            self._watch.newest = time.monotonic()
            self._watch.answered.setdefault(message, self._watch.newest)
            self.replies_to.append(message[1])
            if self.written < self.to_write:
                self.write()
        return shown


class Engine:
    """Speaks as much of vLLM's protocol as the client needs, repeats the message, and counts its own time."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._app = web.Application()
        self._app.router.add_post("/v1/chat/completions", self._chat)
        self._app.router.add_post("/tokenize", self._tokenize)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Address]:
        runner = web.AppRunner(self._app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        yield Address(url=f"http://127.0.0.1:{port}", api_key="key", model="echo", max_model_len=4096)
        await runner.cleanup()

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        began = time.monotonic()
        asked = (await request.json())["messages"][-1]["content"]
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        words = [asked, *["and more"] * (WORDS - 1)]
        for word in words:
            await response.write(_event([{"index": 0, "delta": {"content": f"{word} "}, "finish_reason": None}]))
            await asyncio.sleep(WORD_S)
        await response.write(_event([{"index": 0, "delta": {}, "finish_reason": "stop"}]))
        usage = {"prompt_tokens": 100, "completion_tokens": WORDS, "total_tokens": 100 + WORDS}
        self._watch.engine_s[named_in(asked)] += time.monotonic() - began
        await response.write(_event([], usage=usage) + b"data: [DONE]\n\n")
        return response

    async def _tokenize(self, request: web.Request) -> web.Response:
        messages = (await request.json())["messages"]
        return web.json_response({"count": sum(len(each["content"]) for each in messages) // 4})


def _event(choices: list[Any], **more: Any) -> bytes:
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "echo", "choices": choices, **more}
    return f"data: {json.dumps(chunk)}\n\n".encode()


def named_in(text: str) -> tuple[int, int]:
    """The person and the number of the message that a text is or answers."""
    found = NUMBERED.search(text)
    return (int(found[2]), int(found[1])) if found else NOBODYS


@dataclass
class Town:
    """A bot, its Telegram, and the people."""

    server: TelegramServer
    people: list[Person]
    watch: Watch
    bot: psutil.Popen
    log: Path

    async def until_answered(self) -> None:
        """Returns when every message has a reply, or when no reply has come for a long time."""
        self.watch.newest = time.monotonic()
        while any(len(set(person.replies_to)) < max(person.written, person.to_write) for person in self.people):
            if self.bot.poll() is not None:
                sys.exit(f"the bot has ended: {self.log.read_text()}")
            if time.monotonic() - self.watch.newest > STUCK_AFTER_S:
                return
            await asyncio.sleep(0.1)

    def cpu_s(self) -> float:
        used = self.bot.cpu_times()
        return float(used.user + used.system)


@contextlib.asynccontextmanager
async def town(chats: int, limits: str) -> AsyncIterator[Town]:
    watch = Watch()
    async with TelegramServer(record_calls=False) as server, Engine(watch).running() as address:
        server.updates = TimedUpdates(watch)
        people = [Person(server, 1000 + number, watch) for number in range(chats)]
        with tempfile.TemporaryDirectory() as folder:
            setup = {"folder": folder, "address": address.model_dump(mode="json"), "token": server.token}
            setup |= {"api_url": server.url, "limits": limits}
            log = Path(folder) / "bot.log"
            with log.open("wb") as written:
                command = [sys.executable, "-m", "bench.telegram_bot", json.dumps(setup)]
                bot = psutil.Popen(command, stdout=written, stderr=written)
            try:
                while not server.counts["deletewebhook", 200]:  # the last thing before it asks for updates
                    if bot.poll() is not None:
                        sys.exit(f"the bot does not start: {log.read_text()}")
                    await asyncio.sleep(0.05)
                yield Town(server, people, watch, bot, log)
            finally:
                bot.terminate()
                await asyncio.to_thread(bot.wait)


async def own_work(chats: int) -> None:
    print("Own work of the bot for a message, the engine's time taken off:")
    print("messages/s     p50      p99   CPU")
    async with town(chats, "off") as here:
        await pace(here, 30, range(chats))  # everybody is known by then, and everything is loaded
        at = 0
        for rate in RATES:
            cpu_s, before = here.cpu_s(), set(here.watch.answered)
            await pace(here, rate, range(at, at := at + MESSAGES_A_RATE))
            cpu_ms = 1000 * (here.cpu_s() - cpu_s) / MESSAGES_A_RATE
            taken_ms = [1000 * here.watch.overhead_s(each) for each in set(here.watch.answered) - before - {NOBODYS}]
            p50, p99 = median(taken_ms), percentile(taken_ms, 0.99)
            print(f"{rate:>10} {p50:>5.0f} ms {p99:>5.0f} ms {cpu_ms:>4.0f} ms", flush=True)


async def pace(here: Town, rate: float, turns: range) -> None:
    """Messages at this rate, one person after the other; returns when all are answered."""
    began = time.monotonic()
    for number, turn in enumerate(turns):
        await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
        here.people[turn % len(here.people)].write()
    await here.until_answered()


@dataclass
class Memory:
    """Of a process, over time."""

    samples: list[float] = field(default_factory=list)  # MiB

    async def sample(self, process: psutil.Popen) -> None:
        while True:
            self.samples.append(process.memory_info().rss / 2**20)
            await asyncio.sleep(SAMPLED_EVERY_S)

    def quarter(self, number: int) -> float:
        """The median of the first, second, third or fourth quarter, counted from 0."""
        size = len(self.samples) // 4
        return median(self.samples[number * size : (number + 1) * size])


async def flood(chats: int, messages: int, share: float) -> bool:
    """Was everything answered once and in its order?"""
    async with town(chats, "real") as here:
        here.server.flood_share = share
        memory, began = Memory(), time.monotonic()
        sampling = asyncio.create_task(memory.sample(here.bot))
        for person in here.people:
            person.to_write = messages
            for _ in range(min(2, messages)):
                person.write()
        await here.until_answered()
        await asyncio.sleep(1)  # for what should not come any more
        sampling.cancel()
        seconds = time.monotonic() - began - 1
        counts = here.server.counts
        refused = sum(number for (_, status), number in counts.items() if status == 429)
        posted = sum(number for (method, _), number in counts.items() if posts(method))
    answers = [person.replies_to for person in here.people]
    lost = sum(messages - len(set(each) - {0}) for each in answers)
    twice = sum(len(each) - len(set(each) - {0}) for each in answers)  # or said without having been asked
    out_of_order = sum(later < earlier for each in answers for earlier, later in pairwise(each))
    print(f"\n{chats} chats at once, {messages} messages each, {share:.0%} of what is sent answered 429:")
    rate = chats * messages / seconds
    print(
        f"{rate:.1f} replies a second for {seconds:.0f} s; {posted} calls that send or edit, {refused} of them refused"
    )
    print(f"messages lost      {lost}")
    print(f"answered twice     {twice}")
    print(f"out of order       {out_of_order}")
    first, last = memory.quarter(0), memory.quarter(3)
    print(f"memory             {max(memory.samples):.0f} MiB at its peak")
    print(f"memory over time   {first:.0f} MiB in the first quarter, {last:.0f} in the last ({last / first:.2f})")
    return not (lost or twice or out_of_order)


async def main(chats: int, messages: int, share: float) -> bool:
    heading("The Telegram channel under load")
    await own_work(chats)
    return await flood(chats, messages, share)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chats", type=int, default=500)
    parser.add_argument("--messages", type=int, default=4)
    parser.add_argument("--flood", type=float, default=0.2)
    given = parser.parse_args()
    sys.exit(0 if asyncio.run(main(given.chats, given.messages, given.flood)) else 1)
