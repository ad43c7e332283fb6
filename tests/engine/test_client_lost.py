from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from engine.client import Delta, EngineClient
from engine.errors import (
    EngineFailed,
    EngineLost,
)
from engine.state import State
from tests.fakes.talk import GENEROUS_S, all_of, asks, client_of, texts
from tests.fakes.vllm import (
    Cut,
    FakeConnection,
    FakeVllm,
    Fault,
    Hold,
    Raw,
    Refusal,
    Reply,
    eventually,
)

LOSSES = {
    "the connection breaks": Reply(Cut()),
    "the engine's core dies": Reply(Fault()),
    "the stream ends without its end mark": Reply(finish=None, usage=False, done=False),
    "the engine aborts": Reply(finish="abort"),
    "the stream has no finish reason": Reply(finish=None),
    "a line is not JSON": Reply(Raw(b"data: {\n\n")),
    "a line is no chunk": Reply(Raw(b"data: 7\n\n")),
}


def after(token: str, loss: Reply) -> Reply:
    return Reply(token, *loss.steps, finish=loss.finish, usage=loss.usage, done=loss.done)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
async def test_a_loss_before_the_first_token_is_not_noticed(vllm: FakeVllm, client: EngineClient, loss: Reply) -> None:
    vllm.script(loss, Reply("All", " well"))
    assert texts(await all_of(client, asks())) == ["All", " well"]
    assert len(vllm.chats) == 2


@pytest.mark.parametrize("loss", [Cut(), Refusal(500, "EngineCore died"), Refusal(502, "Bad gateway")])
async def test_a_loss_before_the_answer_begins_is_not_noticed(
    vllm: FakeVllm, client: EngineClient, loss: Cut | Refusal
) -> None:
    vllm.script(loss, Reply("All", " well"))
    assert texts(await all_of(client, asks())) == ["All", " well"]
    assert len(vllm.chats) == 2


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
async def test_a_loss_after_the_first_token_is_told_and_not_tried_again(
    vllm: FakeVllm, client: EngineClient, loss: Reply
) -> None:
    vllm.script(after("Half", loss))
    async with aclosing(client.stream(asks())) as pieces:
        assert await anext(pieces) == Delta("Half")
        with pytest.raises(EngineLost, match="middle of the reply"):
            await anext(pieces)
    assert len(vllm.chats) == 1


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
async def test_a_request_is_sent_twice_at_most(vllm: FakeVllm, client: EngineClient, loss: Reply) -> None:
    vllm.script(loss, loss, Reply("too late"))
    with pytest.raises(EngineLost, match="twice"):
        await client.complete(asks())
    assert len(vllm.chats) == 2


async def test_a_lost_request_leaves_no_slot_taken(vllm: FakeVllm, connection: FakeConnection) -> None:
    async with client_of(connection, max_concurrent=1) as client:
        vllm.script(Cut(), Cut(), Reply("a", Cut()))
        for _ in range(2):
            with pytest.raises(EngineLost):
                await client.complete(asks())
        assert (await asyncio.wait_for(client.complete(asks()), GENEROUS_S))[0] == "Hello there!"


async def test_the_second_sending_waits_until_the_engine_is_well(vllm: FakeVllm, client: EngineClient) -> None:
    vllm.healthy = False
    vllm.script(Reply(Fault()))
    task = asyncio.create_task(client.complete(asks()))
    await eventually(lambda: [request.path for request in vllm.requests].count("/health") >= 2)
    assert len(vllm.chats) == 1
    vllm.healthy = True
    text, _ = await asyncio.wait_for(task, GENEROUS_S)
    assert text == "Hello there!"


async def test_a_dead_engine_that_is_still_called_ready_is_waited_for_and_its_states_are_passed_on(
    vllm: FakeVllm,
) -> None:
    class Restarted(FakeConnection):
        """Notices the death late, then leads to a new process at another port."""

        async def wait(self) -> AsyncIterator[State]:
            if self.waits == 3:
                self.passes_through("restarting", "loading")
                vllm.port = 0
                await vllm.start()
                self.address = vllm.address
            async for state in super().wait():
                yield state

    connection = Restarted(vllm.address)
    await vllm.stop()
    async with client_of(connection) as client:
        pieces = await all_of(client, asks())
    assert [piece.phase for piece in pieces if isinstance(piece, State)] == ["restarting", "loading"]
    assert texts(pieces) == ["Hello", " there", "!"]


async def test_a_dead_engine_that_nobody_restarts_is_given_up(
    vllm: FakeVllm, client: EngineClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.client.RECOVERY_S", 0.5)
    await vllm.stop()
    with pytest.raises(EngineLost, match="does not answer"):
        await asyncio.wait_for(client.complete(asks()), GENEROUS_S)


async def test_an_engine_that_fails_while_it_is_waited_for_fails_the_request(
    vllm: FakeVllm, connection: FakeConnection, client: EngineClient
) -> None:
    hold = Hold()
    vllm.script(Reply(hold))
    task = asyncio.create_task(client.complete(asks()))
    await hold.reached.wait()
    connection.failure = EngineFailed("crashed 3 times")
    await vllm.stop()
    with pytest.raises(EngineFailed, match="crashed 3 times"):
        await asyncio.wait_for(task, GENEROUS_S)


async def test_leaving_the_client_ends_what_is_under_way(vllm: FakeVllm, connection: FakeConnection) -> None:
    vllm.script(Reply("a", Hold()))
    async with client_of(connection) as client:
        pieces = client.stream(asks())
        await anext(pieces)
    with pytest.raises(EngineLost):
        await anext(pieces)
    await eventually(lambda: len(vllm.aborted) == 1)


class Renewed(FakeConnection):
    """At the waits of `at` it leads to a new process at another port, after so many crashes."""

    vllm: FakeVllm
    at: tuple[int, ...]
    crashes = 0

    async def wait(self) -> AsyncIterator[State]:
        if self.waits in self.at:
            await self.vllm.stop()
            self.vllm.port = 0
            await self.vllm.start()
            self.address = self.vllm.address
            self.restarts += self.crashes
        self.waits += 1
        yield State(phase="ready", since=0, address=self.address, restarts=self.restarts)

    restarts = 0


async def test_an_engine_started_anew_on_purpose_is_not_lost_however_often(vllm: FakeVllm) -> None:
    connection = Renewed(vllm.address)
    connection.vllm, connection.at = vllm, (1, 2, 3)
    vllm.script(Cut(), Cut(), Cut(), Reply("All", " well"))
    async with client_of(connection) as client:
        assert texts(await all_of(client, asks())) == ["All", " well"]


async def test_an_engine_that_crashes_is_lost_at_the_second_time(vllm: FakeVllm) -> None:
    connection = Renewed(vllm.address)
    connection.vllm, connection.at, connection.crashes = vllm, (1, 2), 1
    vllm.script(Cut(), Cut(), Reply("too late"))
    async with client_of(connection) as client:
        with pytest.raises(EngineLost, match="twice"):
            await all_of(client, asks())
