"""A follow-up that the model is to make a whole question of: whatever it writes, there is something to search for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from bot.assistant import Assistant
from bot.events import Event, Failed, Finished, Waiting
from bot.rewriting import rewritten
from engine.client import EngineClient
from engine.errors import EngineFailed
from knowledge.followup import LONGEST as LONGEST_SHOWN
from settings import Knowledge, Settings
from store.session import Store
from tests.fakes.finder import FakeFinder, passage
from tests.fakes.vllm import Cut, FakeConnection, Fault, Hold, KeepAlives, Raw, Refusal, Reply, eventually

BEFORE = ["When does the museum open?"]
FOLLOW_UP = "And on Sundays?"
WHOLE = "When does the museum open on Sundays?"
AS_ASKED = "When does the museum open? And on Sundays?"  # with the question that it leans on


async def searched_for(client: EngineClient, question: str = FOLLOW_UP, before: list[str] | None = None) -> str:
    return await rewritten(client, "1", question, before or BEFORE)


# What the model comes up with


@pytest.mark.parametrize(
    "steps",
    [
        (WHOLE,),
        ("When does ", "the museum open", " on Sundays?"),
        ("\n", "\n  ", WHOLE, "  "),
        (WHOLE, "\n", "Or so."),
        (f"{WHOLE}\r\nOr so.",),
    ],
)
async def test_the_first_line_of_what_it_writes_is_searched_for(client, vllm, steps) -> None:
    vllm.script(Reply(*steps))
    assert await searched_for(client) == WHOLE


async def test_a_question_in_chinese_is_rewritten_too(client, vllm) -> None:
    vllm.script(Reply("图书馆周日", "几点开门？"))
    assert await searched_for(client, "周日呢？", ["图书馆几点开门？"]) == "图书馆周日几点开门？"
    vllm.script(Reply(""))
    assert await searched_for(client, "周日呢？", ["图书馆几点开门？"]) == "图书馆几点开门？ 周日呢？"


async def test_what_follows_the_first_line_is_not_waited_for(client, vllm) -> None:
    vllm.script(Reply(WHOLE, "\n", Hold()))
    assert await searched_for(client) == WHOLE
    await eventually(lambda: vllm.running == 0)
    assert len(vllm.aborted) == 1


async def test_an_answer_without_end_is_not_waited_for(client, vllm) -> None:
    vllm.script(Reply(*["museum "] * 60, Hold()))
    assert await searched_for(client) == AS_ASKED
    await eventually(lambda: vllm.running == 0)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(),
        Reply(" \n", "\t\n "),
        Reply("x" * 301),
        Reply("When does " * 6, finish="length"),
        Reply("\n" * 64, finish="length"),
        Reply("<think>", "\n", "The person asks"),
        Reply("<think> The person asks", finish="length"),
        Reply(FOLLOW_UP),
        Reply(f" {FOLLOW_UP}\n{FOLLOW_UP}\n"),
    ],
    ids=["nothing", "blanks", "too long", "a loop", "lines", "thoughts", "a thought", "the same", "the same again"],
)
async def test_what_is_no_whole_question_is_not_searched_for(client, vllm, reply) -> None:
    vllm.script(reply)
    assert await searched_for(client) == AS_ASKED


async def test_the_longest_question_is_taken(client, vllm) -> None:
    vllm.script(Reply("x" * 300))
    assert await searched_for(client) == "x" * 300


async def test_a_follow_up_to_a_follow_up_is_searched_with_both(client, vllm) -> None:
    vllm.script(Reply())
    asked = ["Where is the bridge?", *BEFORE, FOLLOW_UP]
    assert await searched_for(client, "And on Mondays?", asked) == f"{AS_ASKED} And on Mondays?"


# What it is shown


async def test_of_a_pasted_page_before_it_neither_model_nor_search_gets_all(client, vllm) -> None:
    page = "Summarise this, please: " + "tide " * 100_000
    vllm.script(Reply(), Reply(WHOLE))
    assert len(await searched_for(client, FOLLOW_UP, [page])) <= LONGEST_SHOWN + len(FOLLOW_UP) + 1
    assert len(vllm.chats[0].body["messages"][-1]["content"]) <= LONGEST_SHOWN + len(FOLLOW_UP) + 1
    assert await searched_for(client, FOLLOW_UP, [page]) == WHOLE


async def test_it_may_write_no_more_than_a_question_and_without_chance(client, vllm) -> None:
    await searched_for(client)
    assert vllm.chats[0].body["temperature"] == 0
    assert vllm.chats[0].body["max_tokens"] <= 64


@pytest.mark.parametrize("odd", ["\ud83d", "And \x00 there?", "[1] <|im_end|> there?", "🏛️?"])
async def test_odd_characters_go_through(client, vllm, odd) -> None:
    vllm.script(Reply(WHOLE))
    assert await searched_for(client, odd) == WHOLE


# An engine that does not answer


@pytest.mark.parametrize(
    "answers",
    [
        [Refusal(503, "Too many requests.")],
        [Refusal(400, "too long", param="input_tokens")],
        [Refusal(401)],
        [Cut(), Cut()],
        [Reply("When does", Fault())],
        [Reply("When does", Cut())],
        [Reply(Raw(b"data: {not json\n\n"))] * 2,
    ],
    ids=["busy", "too long", "key", "cut off", "a fault", "cut in the middle", "nonsense"],
)
async def test_what_the_engine_refuses_or_breaks_off_is_searched_for_as_asked(client, vllm, answers, caplog) -> None:
    vllm.script(*answers)
    assert await searched_for(client) == AS_ASKED
    assert "could not be rewritten" in caplog.text
    vllm.script(Reply(WHOLE))
    assert await searched_for(client) == WHOLE


async def test_an_engine_that_is_down_is_not_waited_for(client, connection: FakeConnection) -> None:
    connection.failure = EngineFailed("vLLM ended with code 1.")
    assert await searched_for(client) == AS_ASKED


async def test_an_engine_that_starts_is_not_waited_for(client, vllm, connection: FakeConnection) -> None:
    connection.passes_through("starting", "loading")
    assert await searched_for(client) == AS_ASKED
    assert vllm.chats == []


@pytest.mark.parametrize("stalled", [Hold, KeepAlives], ids=["silent", "alive"])
@pytest.mark.parametrize("begin", [(), ("When does",)], ids=["at once", "in the middle"])
async def test_an_engine_that_stalls_is_given_up(client, vllm, monkeypatch, caplog, begin, stalled) -> None:
    monkeypatch.setattr("bot.rewriting.PATIENCE_S", 0.1)
    vllm.script(Reply(*begin, stalled()))
    assert await searched_for(client) == AS_ASKED
    assert "was not rewritten" in caplog.text
    await eventually(lambda: vllm.running == 0)


async def test_behind_the_requests_of_others_it_does_not_wait_for_long(connection, vllm, monkeypatch) -> None:
    hold = Hold()
    vllm.script(Reply(hold, WHOLE), Reply(WHOLE))
    async with EngineClient(
        connection, max_concurrent=1, first_token_timeout_s=5, between_tokens_timeout_s=5
    ) as client:
        other = asyncio.create_task(rewritten(client, "2", FOLLOW_UP, BEFORE))
        await hold.reached.wait()
        monkeypatch.setattr("bot.rewriting.PATIENCE_S", 0.1)
        assert await searched_for(client) == AS_ASKED
        monkeypatch.undo()
        hold.release.set()
        assert await other == WHOLE
        assert await searched_for(client) == WHOLE


# Within a turn


@pytest.fixture
def finder() -> FakeFinder:
    return FakeFinder([passage("The museum opens at ten on Sundays.", "Museum")])


@pytest.fixture
def assistant(store: Store, client: EngineClient, settings: Settings, finder: FakeFinder) -> Assistant:
    rewriting = settings.model_copy(update={"knowledge": Knowledge(follow_ups="rewrite")})
    return Assistant(store, client, rewriting, finder)


async def told(turn: AsyncGenerator[Event]) -> list[Event]:
    async with aclosing(turn) as events:
        return [event async for event in events]


async def test_when_the_engine_starts_again_the_person_sees_that_and_gets_a_reply(
    assistant, conversation, person, connection, vllm, finder
) -> None:
    await told(assistant.turn(conversation, person, BEFORE[0]))
    connection.passes_through("starting", "loading", "warming")
    *before, last = await told(assistant.turn(conversation, person, FOLLOW_UP))
    assert isinstance(last, Finished)
    assert [event.phase for event in before if isinstance(event, Waiting)] == ["loading", "warming"]
    assert finder.searched[1].question == AS_ASKED


async def test_an_engine_that_is_down_is_told_once_as_what_it_is(
    assistant, conversation, person, connection, finder
) -> None:
    await told(assistant.turn(conversation, person, BEFORE[0]))
    connection.failure = EngineFailed("vLLM ended with code 1.")
    *before, last = await told(assistant.turn(conversation, person, FOLLOW_UP))
    assert isinstance(last, Failed)
    assert (before, last.kind) == ([], "engine_failed")


async def test_a_turn_can_be_stopped_while_its_question_is_rewritten(
    assistant, conversation, person, vllm, finder
) -> None:
    await told(assistant.turn(conversation, person, BEFORE[0]))
    hold, stop = Hold(), asyncio.Event()
    vllm.script(Reply("When", hold))
    turn = asyncio.create_task(told(assistant.turn(conversation, person, FOLLOW_UP, stop=stop)))
    await hold.reached.wait()
    stop.set()
    (last,) = await turn
    assert isinstance(last, Finished)
    assert (last.finish, last.text, last.message_id) == ("stopped", "", 0)
    await eventually(lambda: vllm.running == 0)
    assert len(finder.searched) == 1
