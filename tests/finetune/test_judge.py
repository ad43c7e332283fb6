"""A judge model by URL: a real server on this machine that says what it is told to say."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from finetune import judge
from finetune.judge import Judgement, compare
from finetune.measurements import Reply
from settings import Gate

Answer = Callable[[str], "web.Response | str"]  # the newest message -> what the judge says


class Judge:
    def __init__(self) -> None:
        self.answer: Answer = lambda shown: "[[C]]"
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.slow_s = 0.0

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(body)
        self.keys.append(request.headers.get("Authorization"))
        await asyncio.sleep(self.slow_s)
        said = self.answer(body["messages"][-1]["content"])
        if isinstance(said, web.Response):
            return said
        return web.json_response({"choices": [{"message": {"role": "assistant", "content": said}}]})


@pytest.fixture
async def server() -> AsyncIterator[tuple[Judge, Gate]]:
    judging = Judge()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", judging.handle)
    async with TestServer(app) as running:
        url = str(running.make_url("/v1"))
        yield judging, Gate(judge_url=url, judge_model="big", judge_api_key=SecretStr("sk-judge"))


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "LONGEST_PAUSE_S", 0.0)


def reply(text: str, number: int = 0, reference: str = "") -> Reply:
    return Reply(f"reply {number}", f"log:{number}", f"Question {number}?", reference, text, 5, "stop")


def prefers(wanted: str) -> Answer:
    """The reply with this in it, wherever it stands."""

    def answer(shown: str) -> str:
        first = shown.index("<reply A>") < shown.index(wanted) < shown.index("</reply A>")
        return f"Reply {'A' if first else 'B'} is right.\n[[{'A' if first else 'B'}]]"

    return answer


async def test_the_better_reply_wins_wherever_it_stands(server: tuple[Judge, Gate]) -> None:
    judging, gate = server
    judging.answer = prefers("eleven")
    won, lost = await compare(
        gate, [reply("at nine"), reply("at eleven", 1)], [reply("at eleven"), reply("at nine", 1)]
    )
    assert (won.score, won.counted) == (1.0, True)
    assert (lost.score, lost.counted) == (-1.0, True)
    assert (won.conversation, lost.conversation) == ("log:0", "log:1")


async def test_a_judge_may_think_aloud_and_change_its_mind(server: tuple[Judge, Gate]) -> None:
    judging, gate = server
    right = prefers("eleven")
    judging.answer = lambda shown: f"Is it [[C]]? Or {'[[B]]' if '[[A]]' in right(shown) else '[[A]]'}?\n{right(shown)}"
    (judgement,) = await compare(gate, [reply("at nine")], [reply("at eleven")])
    assert judgement.score == 1.0


async def test_a_judge_that_likes_the_first_one_gives_nobody_a_point(server: tuple[Judge, Gate]) -> None:
    judging, gate = server
    judging.answer = lambda shown: "[[A]]"
    (judgement,) = await compare(gate, [reply("at nine")], [reply("at eleven")])
    assert judgement == Judgement("reply 0", "log:0", "before", "after")
    assert judgement.score == 0
    assert judgement.counted


async def test_each_pair_is_shown_in_both_orders_with_question_and_reference(server: tuple[Judge, Gate]) -> None:
    judging, gate = server
    await compare(gate, [reply("at nine", reference="At 11.")], [reply("at eleven")])
    shown = sorted(each["messages"][-1]["content"] for each in judging.asked)
    assert len(shown) == 2
    assert all("Question 0?" in each and "At 11." in each for each in shown)
    assert {each.index("at nine") < each.index("at eleven") for each in shown} == {True, False}
    assert {each["model"] for each in judging.asked} == {"big"}
    assert {each["temperature"] for each in judging.asked} == {0}
    assert set(judging.keys) == {"Bearer sk-judge"}


async def test_replies_that_are_the_same_are_equal_and_cost_nothing(server: tuple[Judge, Gate]) -> None:
    judging, gate = server
    (judgement,) = await compare(gate, [reply("at nine")], [reply("at nine")])
    assert (judgement.score, judgement.counted) == (0.0, True)
    assert judging.asked == []


@pytest.mark.parametrize(
    ("said", "score"),
    [
        ("[[ C ]]", 0.0),
        ("The first one.", None),
        ("", None),
        ("[[D]]", None),
    ],
)
async def test_what_is_not_one_of_the_letters_is_not_counted(
    server: tuple[Judge, Gate], said: str, score: float | None
) -> None:
    judging, gate = server
    judging.answer = lambda shown: said
    (judgement,) = await compare(gate, [reply("at nine")], [reply("at eleven")])
    assert judgement.counted == (score is not None)
    assert judgement.score == (score or 0.0)


@pytest.mark.parametrize(
    "body", ["no json", "{}", '{"choices": []}', '{"choices": [{"message": {"content": null}}]}', "[]", "null"]
)
async def test_an_answer_of_another_form_is_not_counted(server: tuple[Judge, Gate], body: str) -> None:
    judging, gate = server
    judging.answer = lambda shown: web.Response(text=body, content_type="application/json")
    (judgement,) = await compare(gate, [reply("at nine")], [reply("at eleven")])
    assert not judgement.counted


async def test_a_busy_judge_is_asked_again(server: tuple[Judge, Gate]) -> None:
    judging, gate = server
    right = prefers("eleven")
    judging.answer = lambda shown: web.Response(status=503) if len(judging.asked) <= 2 else right(shown)
    (judgement,) = await compare(gate, [reply("at nine")], [reply("at eleven")])
    assert judgement.score == 1.0
    assert len(judging.asked) == 4


async def test_a_judge_that_stays_busy_leaves_the_pair_uncounted(
    server: tuple[Judge, Gate], caplog: pytest.LogCaptureFixture
) -> None:
    judging, gate = server
    judging.answer = lambda shown: web.Response(status=500)
    (judgement,) = await compare(gate, [reply("at nine")], [reply("at eleven")])
    assert not judgement.counted
    assert len(judging.asked) == 2 * judge.TRIES
    assert "status 500" in caplog.text


async def test_a_refused_key_ends_it_at_once_and_is_not_in_the_log(
    server: tuple[Judge, Gate], caplog: pytest.LogCaptureFixture
) -> None:
    judging, gate = server
    judging.answer = lambda shown: web.Response(status=401, text="bad key sk-judge")
    caplog.set_level(logging.DEBUG, "familiar")
    judgements = await compare(
        gate, [reply("at nine", n) for n in range(30)], [reply("at eleven", n) for n in range(30)]
    )
    assert len(judgements) == 30
    assert not any(each.counted for each in judgements)
    assert len(judging.asked) <= judge.AT_ONCE
    assert "gate.judge_url" in caplog.text
    assert "sk-judge" not in caplog.text


async def test_a_judge_that_does_not_answer_in_time_is_given_up(
    server: tuple[Judge, Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    judging, gate = server
    monkeypatch.setattr(judge, "WITHIN_S", 0.1)
    judging.slow_s = 5
    (judgement,) = await compare(gate, [reply("at nine")], [reply("at eleven")])
    assert not judgement.counted


async def test_nobody_at_the_address_is_no_failure() -> None:
    gate = Gate(judge_url="http://127.0.0.1:9/v1", judge_model="big")
    (judgement,) = await compare(gate, [reply("at nine")], [reply("at eleven")])
    assert not judgement.counted


async def test_without_a_judge_nobody_is_asked() -> None:
    assert await compare(Gate(), [reply("at nine")], [reply("at eleven")]) == []


async def test_a_reply_without_a_partner_is_not_compared(server: tuple[Judge, Gate]) -> None:
    _, gate = server
    assert len(await compare(gate, [reply("a"), reply("b", 1)], [reply("c", 1), reply("d", 2)])) == 1
