"""One turn: what the person sees, what the engine is asked, and what is in the log afterwards, however it ends."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import sqlite3
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from pathlib import Path

import pytest

from bot.assistant import Assistant, Origin
from bot.events import Event, Failed, Finished, Token, Waiting
from engine.client import EngineClient
from engine.errors import EngineFailed
from settings import Persona, Sampling
from store import adapters, conversations, inbox, people
from store.session import Store
from store.tables import Conversation, Message, Person
from tests.fakes.vllm import Cut, FakeVllm, Fault, Hold, Refusal, Reply, eventually


async def told(turn: AsyncGenerator[Event], so_far: list[Event] | None = None) -> list[Event]:
    """Every event of the turn; `so_far` can be watched while it goes on."""
    heard = [] if so_far is None else so_far
    async with aclosing(turn) as events:
        async for event in events:
            heard.append(event)
    return heard


async def finished(turn: AsyncGenerator[Event]) -> Finished:
    last = (await told(turn))[-1]
    assert isinstance(last, Finished), last
    return last


async def failed(turn: AsyncGenerator[Event]) -> Failed:
    last = (await told(turn))[-1]
    assert isinstance(last, Failed), last
    return last


def branch(store: Store, conversation: Conversation, person: Person) -> list[Message]:
    """The branch that is being continued, root to leaf."""
    head = conversations.get(store, conversation.id, person.id).head_id
    return [] if head is None else conversations.path(store, head)


def texts(messages: list[Message]) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in messages]


@contextmanager
def held_by_another_program(database: Path) -> Iterator[None]:
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.close()


# A turn that goes well


async def test_a_turn_shows_the_reply_as_it_comes_and_then_that_it_is_finished(assistant, conversation, person, vllm):
    vllm.script(Reply("Hel", "lo", "!", cached_tokens=5))
    *tokens, last = await told(assistant.turn(conversation, person, "Hi"))
    assert tokens == [Token("Hel"), Token("lo"), Token("!")]
    assert isinstance(last, Finished)
    assert (last.text, last.finish, last.model, last.adapter) == ("Hello!", "stop", "base", "")
    assert (last.prompt_tokens, last.cached_tokens, last.completion_tokens) == (14, 5, 3)
    assert last.siblings == 1
    assert last.ttft_s > 0


async def test_a_turn_is_logged_completely(assistant, conversation, person, store, vllm):
    vllm.script(Reply("Hel", "lo", cached_tokens=5))
    last = await finished(assistant.turn(conversation, person, "Hi"))
    asked, reply = branch(store, conversation, person)
    assert (asked.role, asked.content, asked.parent_id) == ("user", "Hi", None)
    assert (reply.id, reply.parent_id) == (last.message_id, asked.id)
    assert (reply.role, reply.content, reply.finish, reply.error) == ("assistant", "Hello", "stop", "")
    assert reply.prompt == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert reply.prompt == vllm.chats[0].body["messages"]
    assert reply.window_start_id == asked.id
    assert (reply.model, reply.adapter) == ("base", "")
    assert reply.sampling == {"max_tokens": 512}
    assert (reply.prompt_tokens, reply.cached_tokens, reply.completion_tokens) == (14, 5, 2)
    assert set(reply.timings) == {"queue", "ttft", "total"}
    assert 0 <= reply.timings["queue"] <= reply.timings["ttft"] <= reply.timings["total"]
    assert conversations.get(store, conversation.id, person.id).title == "Hi"


async def test_the_speed_is_that_after_the_first_token(assistant, conversation, person, vllm):
    slow, quick = Hold(), Hold()
    vllm.script(Reply(slow, "one", quick, " two", " three"))
    reading = asyncio.create_task(finished(assistant.turn(conversation, person, "Hi")))
    await slow.reached.wait()
    await asyncio.sleep(0.2)
    slow.release.set()
    await quick.reached.wait()
    await asyncio.sleep(0.1)
    quick.release.set()
    last = await reading
    assert last.ttft_s >= 0.2
    assert 0.5 < last.tokens_per_s <= 20, "two tokens in 0.1 s or, on a busy machine, more"


async def test_a_reply_of_one_token_has_no_speed(assistant, conversation, person, vllm):
    vllm.script(Reply("Yes"))
    assert (await finished(assistant.turn(conversation, person, "Hi"))).tokens_per_s == 0


async def test_the_engines_states_are_told_while_it_is_not_ready(assistant, conversation, person, connection):
    connection.passes_through("starting", "loading", "warming")
    events = await told(assistant.turn(conversation, person, "Hi"))
    assert [event.phase for event in events if isinstance(event, Waiting)] == ["starting", "loading", "warming"]
    assert isinstance(events[-1], Finished)


async def test_a_reply_cut_at_the_length_limit_says_so(assistant, conversation, person, store, vllm):
    vllm.script(Reply("and", " so", finish="length"))
    assert (await finished(assistant.turn(conversation, person, "Hi"))).finish == "length"
    assert branch(store, conversation, person)[-1].finish == "length"


async def test_an_empty_reply_is_logged_and_not_sent_again(assistant, conversation, person, store, vllm):
    vllm.script(Reply())
    last = await finished(assistant.turn(conversation, person, "One"))
    assert (last.text, last.finish) == ("", "stop")
    await finished(assistant.turn(conversation, person, "Two"))
    assert vllm.chats[1].body["messages"][1:] == [{"role": "user", "content": "One\n\nTwo"}]


# The prompt


async def test_a_prompt_begins_with_the_whole_one_before_it(assistant, conversation, person, vllm):
    vllm.script(Reply("First reply."), Reply("Second reply."))
    await finished(assistant.turn(conversation, person, "One"))
    await finished(assistant.turn(conversation, person, "Two"))
    first, second = (chat.body["messages"] for chat in vllm.chats)
    assert second == [*first, {"role": "assistant", "content": "First reply."}, {"role": "user", "content": "Two"}]


async def test_a_long_conversation_stays_within_the_model_and_moves_its_window_seldom(
    assistant, conversation, person, store, vllm, connection
):
    vllm.max_model_len = 200
    connection.address = vllm.address
    chance = random.Random(7)
    for _ in range(30):
        vllm.script(Reply(*["word "] * chance.randint(1, 15)))
        await finished(assistant.turn(conversation, person, "word " * chance.randint(1, 15)))
    replies = branch(store, conversation, person)[1::2]
    moves = 0
    for before, after in itertools.pairwise(replies):
        continued = [*before.prompt, {"role": "assistant", "content": before.content}]
        moved = after.window_start_id != before.window_start_id
        assert (after.prompt[: len(continued)] == continued) is not moved
        assert vllm.count(after.prompt) == after.prompt_tokens <= 200 - 16
        moves += moved
    assert 2 <= moves <= 15


async def test_a_few_shot_persona_sends_its_examples_and_its_sampling(assistant, conversation, person, store, vllm):
    conversations.configure(store, conversation.id, persona="classifier")
    await finished(assistant.turn(conversation, person, "Lovely."))
    body = vllm.chats[0].body
    assert [message["content"] for message in body["messages"]] == [
        "Label the text.",
        "Awful.",
        "negative",
        "Great!",
        "positive",
        "Lovely.",
    ]
    assert (body["temperature"], body["max_tokens"]) == (0.0, 4)


async def test_a_template_is_filled_in_for_the_day_on_which_the_conversation_began(
    assistant, conversation, person, store, vllm
):
    conversations.configure(store, conversation.id, persona="diary")
    await finished(assistant.turn(conversation, person, "Am I {user}?"))
    began = conversation.created_at.astimezone()
    system, newest = vllm.chats[0].body["messages"]
    assert system["content"] == f"It is {began:%A}, {began:%Y-%m-%d}; you talk to Ada."
    assert newest["content"] == "Am I {user}?"


async def test_a_persona_that_is_gone_gives_way_to_the_default_one(assistant, conversation, person, store, vllm):
    conversations.configure(store, conversation.id, persona="removed")
    await finished(assistant.turn(conversation, person, "Hi"))
    assert vllm.chats[0].body["messages"][0]["content"] == "Be brief."


async def test_the_models_own_sampling_gives_way_to_the_personas(
    store, client, conversation, person, settings, vllm, connection, tmp_path
):
    advised = '{"temperature": 0.2, "top_p": 0.9, "top_k": null, "transformers_version": "5.0"}'
    (tmp_path / "generation_config.json").write_text(advised)
    connection.address = vllm.address.model_copy(update={"model_folder": tmp_path})
    warm = Persona(name="familiar", system="Be brief.", sampling=Sampling(temperature=1.5, max_tokens=7))
    assistant = Assistant(store, client, settings.model_copy(update={"persona": (warm,)}))
    last = await finished(assistant.turn(conversation, person, "Hi"))
    expected = {"temperature": 1.5, "top_p": 0.9, "max_tokens": 7}
    assert conversations.message(store, last.message_id, person.id).sampling == expected
    assert expected.items() <= vllm.chats[0].body.items()


async def test_no_more_tokens_are_asked_for_than_the_model_has_left(assistant, conversation, person, vllm, connection):
    vllm.max_model_len = 100
    connection.address = vllm.address
    last = await finished(assistant.turn(conversation, person, "word " * 40))
    assert vllm.chats[0].body["max_tokens"] == 100 - last.prompt_tokens


async def test_an_overlong_message_is_refused_and_the_next_one_goes_through(
    assistant, conversation, person, store, vllm, connection
):
    vllm.max_model_len = 100
    connection.address = vllm.address
    last = await failed(assistant.turn(conversation, person, "word " * 100))
    assert last.kind == "prompt_too_long"
    assert "113" in last.detail
    assert vllm.chats == []
    assert (await finished(assistant.turn(conversation, person, "Short"))).text == "Hello there!"


# Adapters


@pytest.fixture
def adapter(store: Store, vllm: FakeVllm) -> str:
    """Version 1 of the adapter `familiar`, loaded and in force."""
    row = adapters.register(store, "familiar", 1, "familiar/1", "base", "0" * 32, 16)
    adapters.mark_loaded(store, row.id, True)
    adapters.activate(store, "familiar", 1)
    vllm.adapters["familiar@1"] = "familiar/1"
    return "familiar@1"


async def test_the_adapter_in_force_answers_and_is_named_in_the_log(
    assistant, conversation, person, store, vllm, adapter
):
    last = await finished(assistant.turn(conversation, person, "Hi"))
    assert vllm.chats[0].body["model"] == adapter
    assert (last.model, last.adapter) == ("base", adapter)
    reply = conversations.message(store, last.message_id, person.id)
    assert (reply.model, reply.adapter) == ("base", adapter)


async def test_a_conversation_can_ask_for_the_base_model(assistant, conversation, person, store, vllm, adapter):
    conversations.configure(store, conversation.id, adapter="base")
    assert (await finished(assistant.turn(conversation, person, "Hi"))).adapter == ""
    assert vllm.chats[0].body["model"] == "base"


async def test_a_persona_names_its_adapter_and_a_conversation_overrides_it(
    store, client, conversation, person, settings, vllm, adapter
):
    pinned = Persona(name="familiar", system="Be brief.", adapter="base")
    assistant = Assistant(store, client, settings.model_copy(update={"persona": (pinned,)}))
    assert (await finished(assistant.turn(conversation, person, "Hi"))).adapter == ""
    conversations.configure(store, conversation.id, adapter=adapter)
    assert (await finished(assistant.turn(conversation, person, "Hi"))).adapter == adapter


async def test_an_adapter_that_is_gone_is_told_by_its_name(assistant, conversation, person, store, vllm):
    conversations.configure(store, conversation.id, adapter="familiar@7")
    last = await failed(assistant.turn(conversation, person, "Hi"))
    assert last.kind == "unknown_model"
    assert "familiar@7" in last.detail
    assert texts(branch(store, conversation, person)) == [("user", "Hi")]


async def test_an_adapter_that_the_engine_lost_is_told_too(assistant, conversation, person, vllm, adapter):
    vllm.adapters.clear()
    assert (await failed(assistant.turn(conversation, person, "Hi"))).kind == "unknown_model"


# Branches


async def test_a_second_reply_stands_beside_the_first(assistant, conversation, person, store, vllm):
    vllm.script(Reply("One."), Reply("Two."))
    first = await finished(assistant.turn(conversation, person, "Hi"))
    asked = branch(store, conversation, person)[0]
    second = await finished(assistant.reply_to(conversation, person, asked.id))
    assert (first.siblings, second.siblings) == (1, 2)
    assert [reply.content for reply in conversations.siblings(store, first.message_id)] == ["One.", "Two."]
    assert texts(branch(store, conversation, person)) == [("user", "Hi"), ("assistant", "Two.")]
    assert vllm.chats[0].body["messages"] == vllm.chats[1].body["messages"]


async def test_a_message_can_branch_off_anywhere(assistant, conversation, person, store, vllm):
    first = await finished(assistant.turn(conversation, person, "One"))
    await finished(assistant.turn(conversation, person, "Two"))
    await finished(assistant.turn(conversation, person, "Other two", parent_id=first.message_id))
    assert [text for _, text in texts(branch(store, conversation, person))][::2] == ["One", "Other two"]
    await finished(assistant.turn(conversation, person, "Other one", parent_id=None))
    assert [text for _, text in texts(branch(store, conversation, person))][::2] == ["Other one"]
    assert vllm.chats[3].body["messages"][1:] == [{"role": "user", "content": "Other one"}]


# Stopping


async def test_a_stopped_reply_keeps_what_was_shown_and_ends_the_work(assistant, conversation, person, store, vllm):
    stop, shown = asyncio.Event(), []
    vllm.script(Reply("Once", " upon", Hold(), " a time"))
    reading = asyncio.create_task(told(assistant.turn(conversation, person, "Tell", stop=stop), shown))
    await eventually(lambda: shown == [Token("Once"), Token(" upon")])
    stop.set()
    last = (await reading)[-1]
    assert isinstance(last, Finished)
    assert (last.text, last.finish, last.completion_tokens, last.siblings) == ("Once upon", "stopped", 2, 1)
    reply = branch(store, conversation, person)[-1]
    assert (reply.id, reply.content, reply.finish, reply.prompt_tokens) == (last.message_id, "Once upon", "stopped", 14)
    assert set(reply.timings) == {"ttft", "total"}
    await eventually(lambda: vllm.aborted == vllm.chats)


async def test_a_stopped_reply_is_sent_again_as_it_stands(assistant, conversation, person, vllm):
    stop = asyncio.Event()
    vllm.script(Reply("Once", Hold()))
    async for event in assistant.turn(conversation, person, "Tell", stop=stop):
        if isinstance(event, Token):
            stop.set()
    await finished(assistant.turn(conversation, person, "Go on"))
    assert vllm.chats[1].body["messages"][2] == {"role": "assistant", "content": "Once"}


async def test_nothing_more_is_shown_once_it_is_stopped(assistant, conversation, person, store, vllm):
    stop = asyncio.Event()
    vllm.script(Reply(*["word "] * 50))
    shown = []
    async for event in assistant.turn(conversation, person, "Tell", stop=stop):
        if isinstance(event, Token):
            shown.append(event.text)
            stop.set()
            await asyncio.sleep(0.1)  # the rest of the reply arrives meanwhile
    assert shown == ["word "]
    assert branch(store, conversation, person)[-1].content == "word "


async def test_a_reply_stopped_before_its_first_token_is_not_logged(assistant, conversation, person, store, vllm):
    stop, hold = asyncio.Event(), Hold()
    vllm.script(Reply(hold, "Once"))
    reading = asyncio.create_task(told(assistant.turn(conversation, person, "Tell", stop=stop)))
    await hold.reached.wait()
    stop.set()
    events = await reading
    assert [(event.message_id, event.text, event.finish) for event in events] == [(0, "", "stopped")]
    assert texts(branch(store, conversation, person)) == [("user", "Tell")]
    await eventually(lambda: vllm.aborted == vllm.chats)


async def test_waiting_for_the_engine_can_be_stopped(assistant, conversation, person, store, connection, monkeypatch):
    async def never_ready() -> AsyncIterator[object]:
        await asyncio.Event().wait()
        yield

    monkeypatch.setattr(connection, "wait", never_ready)
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, stop.set)
    async with asyncio.timeout(5):
        last = await finished(assistant.turn(conversation, person, "Hi", stop=stop))
    assert (last.finish, last.message_id) == ("stopped", 0)


async def test_closing_a_turn_keeps_what_was_shown(assistant, conversation, person, store, vllm):
    vllm.script(Reply("Once", Hold()))
    async with aclosing(assistant.turn(conversation, person, "Tell")) as events:
        assert await anext(events) == Token("Once")
    reply = branch(store, conversation, person)[-1]
    assert (reply.content, reply.finish) == ("Once", "stopped")
    await eventually(lambda: vllm.aborted == vllm.chats)


async def test_cancelling_a_turn_keeps_what_was_shown(assistant, conversation, person, store, vllm):
    shown = []
    vllm.script(Reply("Once", " upon", Hold()))
    reading = asyncio.create_task(told(assistant.turn(conversation, person, "Tell"), shown))
    await eventually(lambda: shown == [Token("Once"), Token(" upon")])
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert branch(store, conversation, person)[-1].content == "Once upon"
    await eventually(lambda: vllm.aborted == vllm.chats)


async def test_cancelling_twice_keeps_it_as_well(assistant, conversation, person, store, vllm):
    shown, busy = [], threading.Event()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    vllm.script(Reply("Once", " upon", Hold()))
    reading = asyncio.create_task(told(assistant.turn(conversation, person, "Tell"), shown))
    await eventually(lambda: shown == [Token("Once"), Token(" upon")])
    other_work = asyncio.create_task(asyncio.to_thread(busy.wait, 10))  # the log has to wait for it
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.sleep(0.05)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    busy.set()
    await other_work
    await eventually(lambda: len(branch(store, conversation, person)) == 2)
    assert branch(store, conversation, person)[-1].content == "Once upon"


# What goes wrong


@pytest.mark.parametrize("step", [Fault(), Cut()], ids=["error in the stream", "broken connection"])
async def test_an_engine_lost_in_mid_reply_leaves_what_was_shown(assistant, conversation, person, store, vllm, step):
    vllm.script(Reply("Once", " upon", step))
    *tokens, last = await told(assistant.turn(conversation, person, "Tell"))
    assert tokens == [Token("Once"), Token(" upon")]
    assert isinstance(last, Failed)
    assert (last.kind, last.incident) == ("engine_lost", "")
    reply = branch(store, conversation, person)[-1]
    assert (reply.content, reply.finish, reply.completion_tokens) == ("Once upon", "error", 2)
    assert reply.error == last.detail != ""


async def test_a_refused_turn_keeps_the_message_and_can_be_retried(assistant, conversation, person, store, vllm):
    vllm.script(Refusal(503, "Too many requests."))
    assert (await failed(assistant.turn(conversation, person, "Hi"))).kind == "engine_busy"
    (asked,) = branch(store, conversation, person)
    last = await finished(assistant.reply_to(conversation, person, asked.id))
    assert last.siblings == 1
    assert texts(branch(store, conversation, person)) == [("user", "Hi"), ("assistant", "Hello there!")]


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (Refusal(401), "wrong_key"),
        (Refusal(400, "temperature must be positive"), "engine_refused"),
        (Refusal(400, "too long", param="input_tokens"), "prompt_too_long"),
        (Refusal(404, "The model `base` does not exist.", param="model"), "unknown_model"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_refusal_is_told_as_what_it_is(assistant, conversation, person, vllm, refusal, kind):
    vllm.script(refusal)
    assert (await failed(assistant.turn(conversation, person, "Hi"))).kind == kind


async def test_a_reply_that_stalls_is_given_up(connection, store, settings, conversation, person, vllm):
    vllm.script(Reply("Once", Hold()))
    patience = {"max_concurrent": 1, "first_token_timeout_s": 5, "between_tokens_timeout_s": 0.1}
    async with EngineClient(connection, **patience) as client:
        last = await failed(Assistant(store, client, settings).turn(conversation, person, "Tell"))
    assert last.kind == "reply_timeout"
    assert branch(store, conversation, person)[-1].content == "Once"


async def test_an_engine_that_is_down_is_told_with_its_log_noted(assistant, conversation, person, connection, caplog):
    connection.failure = EngineFailed("vLLM ended with code 1.", log_tail="RuntimeError: out of memory")
    last = await failed(assistant.turn(conversation, person, "Hi"))
    assert (last.kind, last.detail) == ("engine_failed", "vLLM ended with code 1.")
    assert len(last.incident) == 8
    assert last.incident in caplog.text
    assert "out of memory" in caplog.text


async def test_a_message_that_cannot_be_stored_is_told_and_not_answered(
    assistant, conversation, person, store, vllm, database
):
    with held_by_another_program(database):
        assert (await failed(assistant.turn(conversation, person, "Hi"))).kind == "store_locked"
    assert vllm.chats == []
    assert branch(store, conversation, person) == []


async def test_a_reply_that_cannot_be_stored_is_shown_all_the_same(
    assistant, conversation, person, store, vllm, database
):
    hold = Hold()
    vllm.script(Reply("Hello", hold))
    reading = asyncio.create_task(told(assistant.turn(conversation, person, "Hi")))
    await hold.reached.wait()
    with held_by_another_program(database):
        hold.release.set()
        *tokens, last = await reading
    assert tokens == [Token("Hello")]
    assert isinstance(last, Failed)
    assert last.kind == "reply_not_saved"
    assert str(database) in last.detail
    assert texts(branch(store, conversation, person)) == [("user", "Hi")]


async def test_a_part_that_cannot_be_stored_is_told_so(assistant, conversation, person, vllm, database):
    hold = Hold()
    vllm.script(Reply("Once", hold, Fault()))
    reading = asyncio.create_task(failed(assistant.turn(conversation, person, "Hi")))
    await hold.reached.wait()
    with held_by_another_program(database):
        hold.release.set()
        assert (await reading).kind == "reply_not_saved"


async def test_a_conversation_deleted_in_mid_reply_stays_deleted(assistant, conversation, person, store, vllm):
    hold = Hold()
    vllm.script(Reply("Hello", hold))
    reading = asyncio.create_task(failed(assistant.turn(conversation, person, "Hi")))
    await hold.reached.wait()
    people.forget(store, person.id)
    hold.release.set()
    assert (await reading).kind == "reply_not_saved"


async def test_what_nobody_expected_is_logged_under_the_number_that_is_told(
    assistant, conversation, person, store, caplog, monkeypatch
):
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setattr("bot.prompt.build", broken)
    last = await failed(assistant.turn(conversation, person, "Hi"))
    assert (last.kind, last.detail) == ("unexpected", "")
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.name == "familiar"
    assert last.incident in record.getMessage()
    assert "Traceback" in caplog.text
    monkeypatch.undo()
    assert (await finished(assistant.turn(conversation, person, "Again"))).text == "Hello there!"


async def test_nobody_can_take_a_turn_in_somebody_elses_conversation(assistant, conversation, store, vllm):
    eve = people.person_for(store, "terminal", "eve")
    assert (await failed(assistant.turn(conversation, eve, "Hi"))).kind == "not_found"
    assert (await failed(assistant.reply_to(conversation, eve, 1))).kind == "not_found"
    assert vllm.requests == []


# Several turns at once


async def test_two_turns_in_one_conversation_come_one_after_the_other(assistant, conversation, person, store, vllm):
    hold = Hold()
    vllm.script(Reply("First", hold), Reply("Second"))
    first = asyncio.create_task(finished(assistant.turn(conversation, person, "One")))
    await hold.reached.wait()
    second = asyncio.create_task(finished(assistant.turn(conversation, person, "Two")))
    await asyncio.sleep(0.1)
    assert len(vllm.chats) == 1
    hold.release.set()
    await asyncio.gather(first, second)
    assert texts(branch(store, conversation, person)) == [
        ("user", "One"),
        ("assistant", "First"),
        ("user", "Two"),
        ("assistant", "Second"),
    ]


async def test_turns_of_different_conversations_run_side_by_side(assistant, conversation, person, store, vllm):
    holds = [Hold(), Hold()]
    vllm.script(*(Reply("Hello", hold) for hold in holds))
    other = conversations.start(store, person.id, "terminal", "familiar")
    turns = [asyncio.create_task(finished(assistant.turn(each, person, "Hi"))) for each in (conversation, other)]
    async with asyncio.timeout(5):
        for hold in holds:
            await hold.reached.wait()
    for hold in holds:
        hold.release.set()
    assert [turn.text for turn in await asyncio.gather(*turns)] == ["Hello", "Hello"]


async def test_a_channel_that_is_slow_to_show_does_not_slow_the_engine(assistant, conversation, person, vllm):
    vllm.script(Reply(*["word "] * 20))
    shown = 0
    async for event in assistant.turn(conversation, person, "Hi"):
        shown += isinstance(event, Token)
        if shown == 1:
            await eventually(lambda: vllm.running == 0)
    assert shown == 20


async def test_what_a_message_is_understood_from_is_sent_but_not_taken_for_its_text(
    assistant, conversation, person, store, vllm
):
    origin = Origin(context='[In answer to Bo: "It rains."]')
    end = await finished(assistant.turn(conversation, person, "Really?", origin=origin))
    sent = '[In answer to Bo: "It rains."]\n\nReally?'
    assert vllm.chats[-1].body["messages"][-1]["content"] == sent
    asked = conversations.message(store, end.asked_id, person.id)
    assert (asked.content, asked.sent) == ("Really?", sent)
    await finished(assistant.turn(conversation, person, "And tomorrow?"))
    assert sent in [message["content"] for message in vllm.chats[-1].body["messages"]]


async def test_the_inbox_is_told_what_became_of_an_arrival(assistant, conversation, person, store, vllm):
    row = inbox.receive(store, "telegram", "1:7", {"text": "Hello"})
    hold = Hold()
    vllm.script(Reply("Hel", hold, "lo"))
    turn = asyncio.create_task(finished(assistant.turn(conversation, person, "Hello", origin=Origin(arrivals=(row,)))))
    await hold.reached.wait()
    (waiting,) = inbox.waiting(store, "telegram")
    assert conversations.message(store, waiting.message_id, person.id).content == "Hello"
    assert waiting.reply_id is None
    hold.release.set()
    end = await turn
    (waiting,) = inbox.waiting(store, "telegram")
    assert waiting.reply_id == end.message_id


async def test_a_reply_to_an_arrival_that_is_cut_short_by_a_shutdown_is_not_kept(
    assistant, conversation, person, store, vllm
):
    row = inbox.receive(store, "telegram", "1:7", {"text": "Hello"})
    hold = Hold()
    vllm.script(Reply("Hel", hold))
    turn = asyncio.create_task(finished(assistant.turn(conversation, person, "Hello", origin=Origin(arrivals=(row,)))))
    await hold.reached.wait()
    turn.cancel()
    await asyncio.gather(turn, return_exceptions=True)
    (waiting,) = inbox.waiting(store, "telegram")
    assert waiting.reply_id is None
    assert conversations.count_replies(store, waiting.message_id) == 0
