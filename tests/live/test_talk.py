"""A real conversation with the real model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from bot.assistant import Assistant
from bot.chat import Chat
from bot.events import Event, Finished, Token
from engine.client import ChatRequest, EngineClient
from engine.process import LocalEngine
from engine.tokenizer import PromptTokenizer
from store import conversations
from store.session import Store
from tests.live.conftest import ready


async def said(turn: AsyncIterator[Event]) -> Finished:
    """The turn's end, which must be a finished reply."""
    event: Event | None = None
    async for event in turn:
        pass
    assert isinstance(event, Finished), event
    return event


async def test_it_knows_the_capital_of_france(assistant: Assistant, store: Store) -> None:
    chat = await Chat.open(assistant, channel="terminal", external_id="ada")
    reply = await said(chat.send("What is the capital of France?"))
    assert "Paris" in reply.text
    logged = conversations.message(store, reply.message_id, chat.person.id or 0)
    assert logged.content == reply.text
    assert logged.prompt[-1] == {"role": "user", "content": "What is the capital of France?"}
    assert logged.completion_tokens == reply.completion_tokens > 0


async def test_it_remembers_the_name_given_two_turns_before(assistant: Assistant) -> None:
    chat = await Chat.open(assistant, channel="terminal", external_id="ada")
    await said(chat.send("My name is Bruno and I live in Berlin."))
    await said(chat.send("Tell me a fact about cats."))
    assert "Bruno" in (await said(chat.send("What is my name?"))).text


async def test_the_second_turn_finds_most_of_its_prompt_in_the_cache(assistant: Assistant) -> None:
    chat = await Chat.open(assistant, channel="terminal", external_id="ada")
    long = "Here is a story. " + "The old lighthouse keeper climbed the stairs to light the lamp. " * 30
    await said(chat.send(long))
    second = await said(chat.send("Who climbed the stairs?"))
    assert second.cached_tokens >= 0.9 * second.prompt_tokens


async def test_our_token_count_is_the_engines(client: EngineClient, engine: LocalEngine) -> None:
    address = await ready(engine)
    assert address.model_folder is not None
    tokenizer = PromptTokenizer(address.model_folder)
    for text in ("Hello!", "你好,世界", "def f(x):\n    return x * 2\n", "👩‍👩‍👧 " * 20, "a" * 3000):
        messages = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": text})
        _, done = await client.complete(ChatRequest(messages=messages, sampling={"max_tokens": 1}, person="ada"))
        assert tokenizer.count(messages) == done.prompt_tokens


async def test_a_stopped_reply_is_aborted_in_the_engine_and_kept(
    assistant: Assistant, client: EngineClient, store: Store
) -> None:
    chat = await Chat.open(assistant, channel="terminal", external_id="ada")
    await chat.new(persona="talker")
    stop, shown, end = asyncio.Event(), "", None
    async for event in chat.send("Write a very long story about a lighthouse keeper, with many chapters.", stop):
        if isinstance(event, Token):
            shown += event.text
            if len(shown) > 40:
                assert (await client.metrics())["vllm:num_requests_running"] >= 1
                stop.set()
        end = event
    assert isinstance(end, Finished)
    assert end.finish == "stopped"
    await until_idle(client)
    generated = (await client.metrics())["vllm:generation_tokens_total"]
    await asyncio.sleep(1.5)
    after = await client.metrics()
    # Nothing runs on; the supervisor may have asked for the one token of its probe meanwhile.
    assert after["vllm:generation_tokens_total"] <= generated + 1
    assert after["vllm:num_requests_running"] == 0
    logged = conversations.message(store, end.message_id, chat.person.id or 0)
    assert logged.content.startswith(shown)
    assert logged.finish == "stopped"


async def test_a_cancelled_turn_is_aborted_in_the_engine(assistant: Assistant, client: EngineClient) -> None:
    chat = await Chat.open(assistant, channel="terminal", external_id="ada")
    await chat.new(persona="talker")
    begun = asyncio.Event()

    async def talk() -> None:
        async for event in chat.send("Write a very long story about a lighthouse keeper, with many chapters."):
            if isinstance(event, Token):
                begun.set()

    task = asyncio.create_task(talk())
    await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await until_idle(client)


async def until_idle(client: EngineClient) -> None:
    await until(lambda numbers: numbers["vllm:num_requests_running"] == 0, client)


async def until(condition: Callable[[dict[str, float]], bool], client: EngineClient) -> None:
    for _ in range(100):
        if condition(await client.metrics()):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the engine's numbers did not come to this within 10 s")
