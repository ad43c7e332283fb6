from __future__ import annotations

import asyncio
import json
from contextlib import aclosing

import pytest

from engine.client import Delta, Done, EngineClient
from engine.errors import (
    EngineBusy,
    EngineFailed,
    EngineRefused,
    PromptTooLong,
    ReplyTimeout,
    UnknownModel,
    WrongKey,
)
from engine.state import Phase, State
from tests.fakes.talk import GENEROUS_S, all_of, asks, client_of, texts
from tests.fakes.vllm import (
    FakeConnection,
    FakeVllm,
    Fault,
    Hold,
    KeepAlives,
    Raw,
    Refusal,
    Reply,
    Split,
    Together,
    eventually,
)

# What is sent, and what comes back


async def test_a_reply_comes_piece_by_piece_and_ends_with_done(vllm: FakeVllm, client: EngineClient) -> None:
    vllm.script(Reply("Good", " ", "morning", cached_tokens=3))
    *deltas, done = await all_of(client, asks("Say good morning"))
    assert deltas == [Delta("Good"), Delta(" "), Delta("morning")]
    assert isinstance(done, Done)
    assert (done.finish, done.model) == ("stop", "base")
    assert (done.prompt_tokens, done.cached_tokens, done.completion_tokens) == (10, 3, 3)
    assert done.queue_s >= 0
    assert 0 < done.ttft_s <= done.total_s


async def test_messages_sampling_and_key_are_sent_and_a_stream_with_usage_is_asked_for(
    vllm: FakeVllm, client: EngineClient
) -> None:
    await client.complete(asks("Hi", temperature=0.5, max_tokens=7, stream=False))
    (request,) = vllm.chats
    assert request.headers["Authorization"] == "Bearer key"
    assert request.body == {
        "model": "base",
        "messages": [{"role": "user", "content": "Hi"}],
        "temperature": 0.5,
        "max_tokens": 7,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_an_adapter_is_asked_for_by_its_name(vllm: FakeVllm, client: EngineClient) -> None:
    vllm.adapters["tone@2"] = "adapters/tone/2"
    _, done = await client.complete(asks(adapter="tone@2"))
    assert vllm.chats[0].body["model"] == "tone@2"
    assert done.model == "tone@2"


async def test_a_reply_cut_at_its_length_says_so(vllm: FakeVllm, client: EngineClient) -> None:
    vllm.script(Reply("Once upon", finish="length"))
    assert (await client.complete(asks()))[1].finish == "length"


async def test_a_reply_without_a_word_is_complete(vllm: FakeVllm, client: EngineClient) -> None:
    vllm.script(Reply())
    text, done = await client.complete(asks())
    assert text == ""
    assert done.ttft_s == done.total_s


async def test_a_server_that_counts_no_tokens_is_not_an_error(vllm: FakeVllm, client: EngineClient) -> None:
    vllm.script(Reply("Hi", usage=False))
    text, done = await client.complete(asks())
    assert (text, done.prompt_tokens, done.completion_tokens) == ("Hi", 0, 0)


async def test_reasoning_and_tool_calls_are_not_shown(vllm: FakeVllm, client: EngineClient) -> None:
    def chunk(delta: dict[str, object]) -> Raw:
        data = {"model": "base", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        return Raw(f"data: {json.dumps(data)}\n\n".encode())

    vllm.script(
        Reply(chunk({"reasoning": "Hm."}), "Yes", chunk({"tool_calls": [{"index": 0}]}), chunk({"content": None}))
    )
    assert texts(await all_of(client, asks())) == ["Yes"]


# However the network cuts the stream


@pytest.mark.parametrize("size", [1, 2, 3, 7])
async def test_lines_and_characters_cut_by_the_network_come_whole(
    vllm: FakeVllm, client: EngineClient, size: int
) -> None:
    vllm.script(Reply(Split("你好👩‍👩‍👧", size), Split("é", size)))
    assert texts(await all_of(client, asks())) == ["你好👩‍👩‍👧", "é"]


async def test_several_tokens_in_one_piece_come_one_by_one(vllm: FakeVllm, client: EngineClient) -> None:
    vllm.script(Reply(Together(("a", "b", "c")), "d"))
    assert texts(await all_of(client, asks())) == ["a", "b", "c", "d"]


async def test_a_token_longer_than_any_buffer_comes_whole(vllm: FakeVllm, client: EngineClient) -> None:
    long = "长" * 300_000
    vllm.script(Reply(long, "!"))
    assert texts(await all_of(client, asks())) == [long, "!"]


async def test_comments_and_line_ends_of_another_system_are_passed_over(vllm: FakeVllm, client: EngineClient) -> None:
    data = {"model": "base", "choices": [{"index": 0, "delta": {"content": "b"}, "finish_reason": None}]}
    crlf = f"event: message\r\ndata:{json.dumps(data)}\r\n\r\n".encode()
    vllm.script(Reply("a", Raw(b": keep-alive\n\n"), Raw(crlf), Raw(b"\n\n"), "c"))
    assert texts(await all_of(client, asks())) == ["a", "b", "c"]


async def test_sixteen_replies_at_once_do_not_mix(vllm: FakeVllm, client: EngineClient) -> None:
    vllm.script(*(Reply(*(Split(f"{n}:{i} ", 20) for i in range(10))) for n in range(16)))
    replies = await asyncio.gather(*(client.complete(asks(person=f"person {n}")) for n in range(16)))
    assert sorted(text for text, _ in replies) == sorted("".join(f"{n}:{i} " for i in range(10)) for n in range(16))


# Stopping


async def test_closing_the_stream_aborts_the_request(vllm: FakeVllm, client: EngineClient) -> None:
    vllm.script(Reply("a", Hold()))
    pieces = client.stream(asks())
    assert await anext(pieces) == Delta("a")
    await pieces.aclose()
    await eventually(lambda: len(vllm.aborted) == 1)


async def test_leaving_the_loop_aborts_the_request(vllm: FakeVllm, client: EngineClient) -> None:
    vllm.script(Reply("a", Hold()))
    async with aclosing(client.stream(asks())) as pieces:
        async for _ in pieces:
            break
    await eventually(lambda: len(vllm.aborted) == 1)


@pytest.mark.parametrize("shown", [(), ("a", "b")], ids=["before the first token", "in mid-stream"])
async def test_cancelling_the_task_aborts_the_request(
    vllm: FakeVllm, client: EngineClient, shown: tuple[str, ...]
) -> None:
    hold = Hold()
    vllm.script(Reply(*shown, hold))
    task = asyncio.create_task(client.complete(asks()))
    await hold.reached.wait()
    task.cancel()
    await asyncio.wait([task], timeout=GENEROUS_S)
    assert task.cancelled()
    await eventually(lambda: len(vllm.aborted) == 1)


async def test_a_finished_reply_is_not_an_abort_and_its_connection_serves_the_next(
    vllm: FakeVllm, client: EngineClient
) -> None:
    for _ in range(5):
        await client.complete(asks())
    assert vllm.aborted == []
    assert len(vllm.peers) == 1


async def test_a_stopped_reply_frees_its_slot(vllm: FakeVllm, connection: FakeConnection) -> None:
    async with client_of(connection, max_concurrent=1) as client:
        vllm.script(Reply("a", Hold()))
        pieces = client.stream(asks())
        await anext(pieces)
        await pieces.aclose()
        assert (await asyncio.wait_for(client.complete(asks()), GENEROUS_S))[0] == "Hello there!"


async def test_a_listener_who_is_slow_to_leave_holds_no_slot_after_the_reply(connection: FakeConnection) -> None:
    async with client_of(connection, max_concurrent=1) as client, aclosing(client.stream(asks())) as pieces:
        async for piece in pieces:
            if isinstance(piece, Done):
                assert (await asyncio.wait_for(client.complete(asks()), GENEROUS_S))[0] == "Hello there!"


# Waiting


async def test_states_are_passed_on_until_the_engine_is_ready(connection: FakeConnection, client: EngineClient) -> None:
    connection.passes_through("starting", "loading", "warming")
    pieces = await all_of(client, asks())
    phases: list[Phase] = [piece.phase for piece in pieces if isinstance(piece, State)]
    assert phases == ["starting", "loading", "warming"]
    assert texts(pieces[3:]) == ["Hello", " there", "!"]


async def test_a_failed_engine_fails_the_request(connection: FakeConnection, client: EngineClient) -> None:
    connection.failure = EngineFailed("out of memory", "the log's end")
    with pytest.raises(EngineFailed, match="out of memory") as failure:
        await all_of(client, asks())
    assert failure.value.log_tail == "the log's end"


async def test_no_more_requests_than_allowed_are_with_the_server(vllm: FakeVllm, connection: FakeConnection) -> None:
    holds = [Hold() for _ in range(4)]
    vllm.script(*(Reply("a", hold) for hold in holds))
    async with client_of(connection, max_concurrent=2) as client:
        tasks = [asyncio.create_task(client.complete(asks(person=f"person {n}"))) for n in range(4)]
        await asyncio.gather(holds[0].reached.wait(), holds[1].reached.wait())
        assert len(vllm.chats) == 2
        for hold in holds:
            hold.release.set()
        done = [done for _, done in await asyncio.gather(*tasks)]
    assert len(vllm.chats) == 4
    assert min(done[2].queue_s, done[3].queue_s) > max(done[0].queue_s, done[1].queue_s)


async def test_fifty_requests_of_one_person_do_not_hold_up_another(vllm: FakeVllm, connection: FakeConnection) -> None:
    hold = Hold()
    vllm.script(Reply("a", hold))
    async with client_of(connection, max_concurrent=1) as client:
        many = [asyncio.create_task(client.complete(asks("many", "ann"))) for _ in range(50)]
        await hold.reached.wait()
        one = asyncio.create_task(client.complete(asks("one", "bob")))
        await eventually(lambda: client.waiting == 50)
        hold.release.set()
        await asyncio.gather(one, *many)
    order = [request.body["messages"][0]["content"] for request in vllm.chats]
    assert order.index("one") <= 2
    assert len(order) == 51


# Errors


async def test_a_wrong_key_is_told(vllm: FakeVllm, client: EngineClient) -> None:
    vllm.api_key = "another"
    with pytest.raises(WrongKey, match=r"engine\.api_key"):
        await client.complete(asks())
    assert len(vllm.chats) == 1


async def test_a_prompt_too_long_is_told_in_the_servers_words(vllm: FakeVllm, client: EngineClient) -> None:
    vllm.max_model_len = 10
    with pytest.raises(PromptTooLong, match="maximum context length is 10 tokens") as refusal:
        await client.complete(asks("a b c d e f g"))
    assert "parameter=" not in str(refusal.value)


async def test_an_adapter_that_is_not_loaded_is_named(client: EngineClient) -> None:
    with pytest.raises(UnknownModel, match="tone@3"):
        await client.complete(asks(adapter="tone@3"))


async def test_a_full_server_is_busy(vllm: FakeVllm, client: EngineClient) -> None:
    vllm.script(Refusal(503, "The engine has reached its queue limit.", "Service Unavailable"))
    with pytest.raises(EngineBusy, match="try again"):
        await client.complete(asks())
    assert len(vllm.chats) == 1


async def test_another_refusal_is_passed_on_and_not_longer_than_a_paragraph(
    vllm: FakeVllm, client: EngineClient
) -> None:
    vllm.script(Refusal(400, "temperature must be non-negative, got -1.0 " + "x" * 5000))
    with pytest.raises(EngineRefused, match="temperature must be non-negative") as refusal:
        await client.complete(asks())
    assert len(str(refusal.value)) <= 300


async def test_a_refusal_inside_the_stream_is_a_refusal(vllm: FakeVllm, client: EngineClient) -> None:
    vllm.script(Reply(Fault("Not like this.", 400)))
    with pytest.raises(EngineRefused, match="Not like this"):
        await client.complete(asks())
    assert len(vllm.chats) == 1


async def test_a_reply_that_does_not_begin_is_given_up_and_aborted(vllm: FakeVllm, connection: FakeConnection) -> None:
    vllm.script(Reply(Hold(), "too late"))
    async with client_of(connection, first_token_timeout_s=0.2) as client:
        with pytest.raises(ReplyTimeout, match="begin"):
            await client.complete(asks())
        await eventually(lambda: len(vllm.aborted) == 1)
    assert len(vllm.chats) == 1


async def test_a_reply_that_stalls_is_given_up_and_aborted(vllm: FakeVllm, connection: FakeConnection) -> None:
    vllm.script(Reply("a", Hold(), "too late"))
    async with client_of(connection, between_tokens_timeout_s=0.2) as client:
        pieces = client.stream(asks())
        assert await anext(pieces) == Delta("a")
        with pytest.raises(ReplyTimeout, match="stalled"):
            await anext(pieces)
        await eventually(lambda: len(vllm.aborted) == 1)


async def test_keep_alive_comments_are_no_tokens(vllm: FakeVllm, connection: FakeConnection) -> None:
    vllm.script(Reply(KeepAlives()))
    async with client_of(connection, first_token_timeout_s=0.2) as client:
        with pytest.raises(ReplyTimeout):
            await asyncio.wait_for(client.complete(asks()), GENEROUS_S)


async def test_a_slow_listener_is_not_a_stall(vllm: FakeVllm, connection: FakeConnection) -> None:
    vllm.script(Reply("a", "b", "c"))
    shown = []
    async with client_of(connection, between_tokens_timeout_s=0.1) as client, aclosing(client.stream(asks())) as pieces:
        async for piece in pieces:
            shown.append(piece)
            await asyncio.sleep(0.15)
    assert texts(shown) == ["a", "b", "c"]


# Else


async def test_the_address_tells_what_is_served(vllm: FakeVllm, client: EngineClient) -> None:
    assert (await client.address()).max_model_len == 4096


async def test_the_engines_metrics_are_summed_over_their_labels(vllm: FakeVllm, client: EngineClient) -> None:
    hold = Hold()
    vllm.script(Reply("a", hold))
    task = asyncio.create_task(client.complete(asks()))
    await hold.reached.wait()
    metrics = await client.metrics()
    hold.release.set()
    await task
    assert metrics["vllm:num_requests_running"] == 1
    assert metrics["vllm:num_requests_waiting"] == 0
