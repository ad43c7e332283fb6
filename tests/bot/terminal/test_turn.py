"""The events of a turn on their way to the screen: waiting, tokens, the two kinds of interruption."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator
from itertools import pairwise

import pytest

from bot.errors import ChatError
from bot.events import Event, Finished, Token, Waiting
from bot.terminal.lines import terminal_console
from bot.terminal.region import Region, Size
from bot.terminal.reply import DrawnReply, PlainReply
from bot.terminal.status import about_reply
from bot.terminal.turn import Turn
from bot.terminal.waiting import PlainWaiting
from bot.texts import texts_for


def finished(**changes: object) -> Finished:
    given = {"message_id": 1, "text": "Hi", "finish": "stop", "model": "base", "adapter": "", "prompt_tokens": 200}
    given |= {
        "asked_id": 2,
        "cached_tokens": 150,
        "completion_tokens": 20,
        "ttft_s": 0.5,
        "tokens_per_s": 12.34,
        "siblings": 1,
    }
    return Finished(**(given | changes))  # type: ignore[arg-type]


def plain_turn() -> tuple[Turn, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    return Turn(PlainWaiting(err, texts_for("en")), PlainReply(out)), out, err


async def test_outside_a_terminal_a_reply_is_passed_on_as_it_is_and_its_last_line_ended():
    async def events() -> AsyncGenerator[Event]:
        for text in ("**bold** ", "\x1b[1m", "text"):
            yield Token(text)
        yield finished()

    turn, out, _ = plain_turn()
    assert await turn.show(events()) == finished()
    assert out.getvalue() == "**bold** \x1b[1mtext\n"


async def test_outside_a_terminal_each_phase_of_waiting_is_one_line():
    async def events() -> AsyncGenerator[Event]:
        for seconds in range(3):
            yield Waiting("starting", seconds)
        for seconds in range(3):
            yield Waiting("loading", seconds)
        yield Waiting("ready", 0)
        yield finished()

    turn, out, err = plain_turn()
    await turn.show(events())
    assert err.getvalue() == "Starting the engine… 0 s\nLoading the model… 0 s\n"
    assert out.getvalue() == ""


async def test_an_interruption_sets_the_stop_and_lets_the_turn_end_by_itself():
    turn, out, _ = plain_turn()

    async def events() -> AsyncGenerator[Event]:
        yield Token("so far")
        await turn.stop.wait()
        yield finished(finish="stopped")

    showing = asyncio.create_task(turn.show(events()))
    while not out.getvalue():
        await asyncio.sleep(0)
    turn.interrupt()
    assert await showing == finished(finish="stopped")


async def test_a_second_interruption_closes_a_turn_that_does_not_stop():
    turn, out, _ = plain_turn()
    closed = []

    async def events() -> AsyncGenerator[Event]:
        try:
            yield Token("so far")
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    showing = asyncio.create_task(turn.show(events()))
    while not out.getvalue():
        await asyncio.sleep(0)
    turn.interrupt()
    turn.interrupt()
    assert await showing is None
    assert closed
    assert out.getvalue() == "so far\n"


async def test_what_the_first_step_raises_is_raised():
    async def events() -> AsyncGenerator[Event]:
        raise ChatError("empty_text")
        yield finished()

    turn, _, _ = plain_turn()
    with pytest.raises(ChatError):
        await turn.show(events())


class SlowWriter(io.StringIO):
    """Counts its writes and makes each take longer than a redraw may."""

    def __init__(self, clock: list[float], cost_s: float) -> None:
        super().__init__()
        self.clock = clock
        self.cost_s = cost_s
        self.writes: list[float] = []

    def write(self, text: str) -> int:
        self.writes.append(self.clock[0])
        self.clock[0] += self.cost_s
        return super().write(text)


@pytest.mark.parametrize(("cost_s", "pause_s"), [(0.0, 0.1), (0.02, 0.4)])
async def test_a_reply_is_drawn_ten_times_a_second_at_most_and_less_often_where_drawing_is_slow(
    monkeypatch, cost_s, pause_s
):
    loop = asyncio.get_running_loop()
    clock = [1000.0]
    planned: list[tuple[float, object]] = []

    class Timer:
        def cancel(self) -> None:
            planned.clear()

    def call_at(when: float, call: object) -> Timer:
        planned.append((when, call))
        return Timer()

    monkeypatch.setattr(loop, "time", lambda: clock[0])
    monkeypatch.setattr(loop, "call_at", call_at)
    out = SlowWriter(clock, cost_s)
    reply = DrawnReply(terminal_console(io.StringIO(), terminal=True), Region(out, lambda: Size(80, 24)))
    for number in range(200):
        reply.feed(f"word{number} ")
        clock[0] += 0.01
        if planned and planned[0][0] <= clock[0]:
            planned.pop()[1]()  # type: ignore[operator]
    drawn = list(out.writes)
    assert len(drawn) > 3
    assert min(after - before for before, after in pairwise(drawn)) >= pause_s
    monkeypatch.undo()
    reply.close()
    assert "word199" in out.getvalue()


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (finished(), "200 + 20 tokens · 75% from cache · 12.3 tokens/s · base"),
        (
            finished(finish="length", cached_tokens=0),
            "cut at the length limit · 200 + 20 tokens · 12.3 tokens/s · base",
        ),
        (finished(finish="stopped", tokens_per_s=0.0, cached_tokens=0), "stopped · 200 + 20 tokens · base"),
        (
            finished(adapter="diary@2", siblings=3, cached_tokens=0),
            "reply 3 of 3 · 200 + 20 tokens · 12.3 tokens/s · base + diary@2",
        ),
    ],
)
def test_the_line_under_a_reply(reply, told):
    assert about_reply(reply, texts_for("en")) == told
