from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import web
from telegram.error import NetworkError, RetryAfter, TimedOut
from telegram.ext import ExtBot

from bot.telegram.limiter import ChatRateLimiter, Priority
from tests.fakes.virtual_time import in_virtual_time

HOUR = 3600.0


class Telegram:
    """What arrives there through the limiter, and when. `floods`: the waits it asks of a chat, one a call."""

    def __init__(self, **limits: Any) -> None:
        self.told: list[int | str] = []
        self.limiter = ChatRateLimiter(on_flood=self.told.append, **limits)
        self.sent: list[tuple[float, int | str | None, str]] = []
        self.tried: list[tuple[float, int | str | None, str]] = []
        self.floods: dict[int | str | None, list[float]] = {}

    async def post(
        self, chat: int | str | None, text: str, priority: Priority | None = None, endpoint: str = "sendMessage"
    ) -> Any:
        data = {"text": text} if chat is None else {"chat_id": chat, "text": text}
        return await self.limiter.process_request(self._call, (endpoint, data), {}, endpoint, data, priority)

    def later(self, chat: int | str | None, text: str, priority: Priority | None = None) -> asyncio.Task[Any]:
        return asyncio.create_task(self.post(chat, text, priority))

    async def _call(self, endpoint: str, data: dict[str, Any]) -> bool:
        call = asyncio.get_running_loop().time(), data.get("chat_id"), data["text"]
        self.tried.append(call)
        await asyncio.sleep(0)  # on its way
        if waits := self.floods.get(data.get("chat_id")):
            raise RetryAfter(timedelta(seconds=waits.pop(0)))
        self.sent.append(call)
        return True

    @property
    def texts(self) -> list[str]:
        return [text for _, _, text in self.sent]

    def times(self, chat: int | str | None) -> list[float]:
        return [round(time, 3) for time, where, _ in self.sent if where == chat]


def most_in(times: list[float], period: float) -> int:
    """The most of these within any period of this length. Two that lie a whole period apart are not in one."""
    return max(sum(1 for other in times if time <= other < time + period - 0.001) for time in times)


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


Scenario = Callable[[Telegram], Coroutine[Any, Any, None]]


def play(scenario: Scenario, **limits: Any) -> Telegram:
    telegram = Telegram(**limits)
    in_virtual_time(scenario(telegram))
    return telegram


# The limits


def test_a_chat_gets_three_messages_at_once_and_then_one_a_second() -> None:
    async def scenario(telegram: Telegram) -> None:
        await asyncio.gather(*(telegram.post(1, str(number)) for number in range(6)))

    telegram = play(scenario)
    assert telegram.times(1) == [0, 0, 0, 1, 2, 3]
    assert telegram.texts == list("012345")


def test_after_a_pause_a_chat_may_have_its_burst_again() -> None:
    async def scenario(telegram: Telegram) -> None:
        await asyncio.gather(*(telegram.post(1, "first") for _ in range(3)))
        await asyncio.sleep(10)
        await asyncio.gather(*(telegram.post(1, "then") for _ in range(4)))

    assert play(scenario).times(1) == [0, 0, 0, 10, 10, 10, 11]


@pytest.mark.parametrize("group", [-100123, "@chess", "-100123"])
def test_a_group_gets_twenty_messages_in_any_minute(group: int | str) -> None:
    async def scenario(telegram: Telegram) -> None:
        await asyncio.gather(*(telegram.post(group, str(number)) for number in range(60)))

    times = play(scenario).times(group)
    assert most_in(times, 60) == 20
    assert len([time for time in times if time < 60]) == 20
    assert times[-1] < 180


def test_a_private_chat_is_not_held_to_the_limit_of_groups() -> None:
    async def scenario(telegram: Telegram) -> None:
        await asyncio.gather(*(telegram.post(7, str(number)) for number in range(40)))

    assert play(scenario).times(7)[-1] == 37


def test_all_chats_together_get_thirty_messages_in_any_second() -> None:
    async def scenario(telegram: Telegram) -> None:
        await asyncio.gather(*(telegram.post(chat, "hello") for chat in range(1, 201)))

    telegram = play(scenario)
    times = [time for time, _, _ in telegram.sent]
    assert most_in(times, 1) == 30
    assert times[-1] == pytest.approx(6, abs=0.01)
    assert {chat for _, chat, _ in telegram.sent} == set(range(1, 201))


@pytest.mark.parametrize(
    "endpoint", ["sendChatAction", "answerCallbackQuery", "getFile", "getChatMember", "setMyCommands", "deleteMessage"]
)
def test_what_is_no_message_goes_at_once_and_counts_nowhere(endpoint: str) -> None:
    async def scenario(telegram: Telegram) -> None:
        await asyncio.gather(*(telegram.post(1, "other", endpoint=endpoint) for _ in range(100)))
        await asyncio.gather(*(telegram.post(1, "message") for _ in range(3)))

    telegram = play(scenario)
    assert telegram.times(1) == [0] * 103


@pytest.mark.parametrize(
    "endpoint",
    ["sendMessage", "sendDocument", "sendMessageDraft", "editMessageText", "copyMessage", "forwardMessages"],
)
def test_whatever_posts_or_changes_a_message_counts(endpoint: str) -> None:
    async def scenario(telegram: Telegram) -> None:
        await asyncio.gather(*(telegram.post(1, "message", endpoint=endpoint) for _ in range(4)))

    assert play(scenario).times(1) == [0, 0, 0, 1]


def test_the_same_chat_is_known_by_its_number_and_by_its_number_as_text() -> None:
    async def scenario(telegram: Telegram) -> None:
        await asyncio.gather(*(telegram.post(chat, "message") for chat in (5, "5", 5, "5")))

    assert [time for time, _, _ in play(scenario).sent] == [0, 0, 0, 1]


# Who goes first


def test_in_a_chat_the_final_message_overtakes_all_and_cosmetic_ones_come_last() -> None:
    async def scenario(telegram: Telegram) -> None:
        await asyncio.gather(*(telegram.post(1, "before") for _ in range(3)))
        calls: list[tuple[str, Priority | None]] = [
            ("c1", "cosmetic"),
            ("n1", None),
            ("c2", "cosmetic"),
            ("f1", "final"),
            ("n2", "normal"),
            ("f2", "final"),
        ]
        await asyncio.gather(*(telegram.post(1, text, priority) for text, priority in calls))

    assert play(scenario).texts[3:] == ["f1", "f2", "n1", "n2", "c1", "c2"]


def test_when_the_bot_has_no_budget_left_final_messages_of_all_chats_come_first() -> None:
    async def scenario(telegram: Telegram) -> None:
        await asyncio.gather(*(telegram.post(chat, "before") for chat in range(1, 6)))
        chats = range(10, 50)
        cosmetic = [telegram.later(chat, "cosmetic", "cosmetic") for chat in chats]
        normal = [telegram.later(chat, "normal") for chat in chats]
        final = [telegram.later(chat, "final", "final") for chat in chats]
        await asyncio.gather(*cosmetic, *normal, *final)

    texts = play(scenario, overall_limit=5).texts[5:]
    assert texts == ["final"] * 40 + ["normal"] * 40 + ["cosmetic"] * 40


def test_a_chat_with_many_messages_takes_no_more_than_its_turn_of_the_budget() -> None:
    async def scenario(telegram: Telegram) -> None:
        await telegram.post(99, "before")
        greedy = [telegram.later(1, "greedy") for _ in range(20)]
        modest = [telegram.later(chat, "modest") for chat in range(2, 5)]
        await asyncio.gather(*greedy, *modest)

    texts = play(scenario, overall_limit=1, chat_rate=100.0, chat_burst=100).texts[1:]
    assert texts[:4].count("modest") == 3
    assert len(texts) == 23


def test_a_chat_that_gets_one_more_message_to_wait_for_keeps_its_turn() -> None:
    async def scenario(telegram: Telegram) -> None:
        await telegram.post(99, "before")
        calls = [telegram.later(1, "a"), telegram.later(2, "b"), telegram.later(3, "c"), telegram.later(1, "a again")]
        await asyncio.gather(*calls)

    assert play(scenario, overall_limit=1).texts == ["before", "a", "b", "c", "a again"]


def test_streaming_leaves_a_chat_room_for_the_final_message() -> None:
    async def scenario(telegram: Telegram) -> None:
        streaming = asyncio.create_task(stream(telegram, 1))
        await asyncio.sleep(30.5)
        await telegram.post(1, "final", "final")
        streaming.cancel()

    telegram = play(scenario)
    assert (30.5, 1, "final") in telegram.sent
    assert len(telegram.sent) > 30  # and yet it streamed all the while


def test_streaming_leaves_a_group_room_for_the_final_messages_of_its_minute() -> None:
    async def scenario(telegram: Telegram) -> None:
        streaming = asyncio.create_task(stream(telegram, -5))
        for _ in range(6):
            await asyncio.sleep(19.5)
            await telegram.post(-5, f"final {asyncio.get_running_loop().time()}", "final")
        streaming.cancel()

    telegram = play(scenario)
    final = [(time, text) for time, _, text in telegram.sent if text.startswith("final")]
    assert len(final) == 6
    assert all(text == f"final {time}" for time, text in final)
    times = telegram.times(-5)
    assert most_in(times, 60) <= 20
    assert max(later - earlier for earlier, later in pairwise(times)) < 6  # never a long standstill


def test_streaming_in_many_chats_leaves_the_bot_room_for_a_final_message() -> None:
    async def scenario(telegram: Telegram) -> None:
        streaming = [asyncio.create_task(stream(telegram, chat)) for chat in range(1, 101)]
        for chat in range(1000, 1005):
            await asyncio.sleep(2.3)
            await telegram.post(chat, f"final {asyncio.get_running_loop().time()}", "final")
        for each in streaming:
            each.cancel()

    telegram = play(scenario)
    final = [(time, text) for time, _, text in telegram.sent if text.startswith("final")]
    assert len(final) == 5
    assert all(text == f"final {time}" for time, text in final)


async def stream(telegram: Telegram, chat: int) -> None:
    while True:
        await telegram.post(chat, "cosmetic", "cosmetic")


# 429


def test_a_flooded_chat_delays_no_other() -> None:
    async def scenario(telegram: Telegram) -> None:
        telegram.floods[1] = [30]
        flooded = [telegram.later(1, f"a{number}") for number in range(5)]
        await asyncio.gather(*(telegram.post(2, f"b{number}") for number in range(50)), *flooded)

    telegram = play(scenario)
    assert telegram.times(2) == [0, 0, 0, *range(1, 48)]
    assert most_in(telegram.times(2), 1) <= 3
    assert [time for time in telegram.times(1) if 0 < time < 30] == []
    assert sorted(text for text in telegram.texts if text.startswith("a")) == ["a0", "a1", "a2", "a3", "a4"]


def test_after_a_flood_a_chat_begins_with_the_call_that_met_it_and_one_message_a_second() -> None:
    async def scenario(telegram: Telegram) -> None:
        telegram.floods[1] = [30, 30, 30]
        await asyncio.gather(*(telegram.post(1, f"{number}") for number in range(5)))

    telegram = play(scenario)
    assert telegram.texts == ["0", "1", "2", "3", "4"]
    assert telegram.times(1) == [30.1, 31.1, 32.1, 33.1, 34.1]
    assert len(telegram.told) == 3


@pytest.mark.filterwarnings("ignore::telegram.warnings.PTBDeprecationWarning")
@pytest.mark.parametrize("meant_as", ["true", "false"])
def test_the_wait_is_understood_in_both_forms_that_the_library_gives_it(
    monkeypatch: pytest.MonkeyPatch, meant_as: str
) -> None:
    monkeypatch.setenv("PTB_TIMEDELTA", meant_as)

    async def scenario(telegram: Telegram) -> None:
        telegram.floods[1] = [12]
        await telegram.post(1, "message")

    assert play(scenario).times(1) == [12.1]


def test_a_final_message_is_tried_ten_times_more_and_a_normal_one_five() -> None:
    async def scenario(telegram: Telegram) -> None:
        telegram.floods = {1: [1] * 10, 2: [1] * 11, 3: [1] * 5, 4: [1] * 6}
        await telegram.post(1, "ten", "final")
        with pytest.raises(RetryAfter):
            await telegram.post(2, "eleven", "final")
        await telegram.post(3, "five")
        with pytest.raises(RetryAfter):
            await telegram.post(4, "six")

    telegram = play(scenario)
    assert telegram.texts == ["ten", "five"]
    assert Counter(telegram.told) == {1: 10, 2: 11, 3: 5, 4: 6}


def test_a_cosmetic_call_that_meets_a_flood_is_not_tried_again() -> None:
    async def scenario(telegram: Telegram) -> None:
        telegram.floods[1] = [30]
        with pytest.raises(RetryAfter):
            await telegram.post(1, "stale", "cosmetic")
        assert asyncio.get_running_loop().time() == 0
        await telegram.post(1, "last", "final")

    telegram = play(scenario)
    assert telegram.sent == [(pytest.approx(30.1), 1, "last")]


def test_a_cosmetic_call_to_a_flooded_chat_fails_at_once_with_the_wait_that_is_left() -> None:
    async def scenario(telegram: Telegram) -> None:
        telegram.floods[1] = [30]
        flooded = telegram.later(1, "message")
        await asyncio.sleep(10)
        with pytest.raises(RetryAfter) as refused:
            await telegram.post(1, "stale", "cosmetic")
        assert refused.value.retry_after == timedelta(seconds=21)
        assert asyncio.get_running_loop().time() == 10
        await flooded

    telegram = play(scenario)
    assert [text for _, _, text in telegram.tried] == ["message", "message"]
    assert telegram.told == [1]


def test_cosmetic_calls_that_wait_when_the_flood_comes_fail_with_it() -> None:
    async def scenario(telegram: Telegram) -> None:
        await asyncio.gather(*(telegram.post(1, "before") for _ in range(3)))
        telegram.floods[1] = [30]
        stale = [telegram.later(1, "stale", "cosmetic") for _ in range(3)]
        await settle()
        message = telegram.later(1, "message")
        assert [type(error) for error in await asyncio.gather(*stale, return_exceptions=True)] == [RetryAfter] * 3
        assert asyncio.get_running_loop().time() == 1  # when the message met the flood
        await message

    assert play(scenario).texts == ["before"] * 3 + ["message"]


def test_a_longer_flood_is_not_cut_short_by_a_shorter_one() -> None:
    async def scenario(telegram: Telegram) -> None:
        telegram.floods[1] = [60, 5]
        messages = telegram.later(1, "a"), telegram.later(1, "b")
        await asyncio.sleep(10)
        with pytest.raises(RetryAfter) as refused:
            await telegram.post(1, "stale", "cosmetic")
        assert refused.value.retry_after == timedelta(seconds=51)
        await asyncio.gather(*messages)

    assert play(scenario).times(1) == [60.1, 61.1]


@pytest.mark.parametrize("error", [TimedOut(), NetworkError("connection reset")])
def test_a_call_is_not_made_again_after_a_network_error(error: NetworkError) -> None:
    tries = 0

    async def lost() -> bool:
        nonlocal tries
        tries += 1
        raise error

    async def scenario(telegram: Telegram) -> None:
        with pytest.raises(NetworkError):
            await telegram.limiter.process_request(lost, (), {}, "sendMessage", {"chat_id": 1}, "final")

    play(scenario)
    assert tries == 1


def test_a_call_that_names_no_chat_is_answered_with_its_flood() -> None:
    async def scenario(telegram: Telegram) -> None:
        telegram.floods[None] = [30]
        with pytest.raises(RetryAfter):
            await telegram.post(None, "commands", endpoint="setMyCommands")
        await telegram.post(None, "commands", endpoint="setMyCommands")
        await telegram.post(1, "message")

    telegram = play(scenario)
    assert [time for time, _, _ in telegram.sent] == [0, 0]
    assert telegram.told == [""]


def test_a_flooded_deletion_is_made_later_and_a_flooded_chat_action_never() -> None:
    async def scenario(telegram: Telegram) -> None:
        telegram.floods = {1: [5], 2: [5]}
        await telegram.post(1, "deletion", endpoint="deleteMessage")
        with pytest.raises(RetryAfter):
            await telegram.post(2, "typing", endpoint="sendChatAction")

    assert play(scenario).sent == [(pytest.approx(5.1), 1, "deletion")]


# Coming and going


def test_a_call_that_is_cancelled_while_it_waits_takes_no_budget() -> None:
    async def scenario(telegram: Telegram) -> None:
        await asyncio.gather(*(telegram.post(1, "before") for _ in range(3)))
        calls = [telegram.later(1, text) for text in "abc"]
        await asyncio.sleep(0.5)
        calls[0].cancel()
        calls[1].cancel()
        await settle()
        assert telegram.limiter.waiting == 1
        await calls[2]
        assert telegram.limiter.waiting == 0

    telegram = play(scenario)
    assert telegram.texts == ["before"] * 3 + ["c"]
    assert telegram.times(1)[-1] == 1


@pytest.mark.parametrize("other", [1, 2])
@pytest.mark.parametrize("moment", [0.9999999999, 1.0], ids=["just before", "just after"])
def test_a_call_that_is_cancelled_as_its_turn_comes_gives_the_turn_back(other: int, moment: float) -> None:
    async def scenario(telegram: Telegram) -> None:
        await telegram.post(1, "before")
        first, second = telegram.later(1, "a"), telegram.later(other, "b")
        await settle()
        # In the same pass of the loop that lets the call go, and before the call has run.
        asyncio.get_running_loop().call_at(moment, first.cancel)
        await asyncio.gather(first, second, return_exceptions=True)
        assert first.cancelled()

    telegram = play(scenario, overall_limit=1, chat_burst=1)
    assert telegram.sent[1:] == [(pytest.approx(1), other, "b")]


@pytest.mark.parametrize(("priority", "limit", "due"), [("normal", 1, 60), ("cosmetic", 5, 20)])
def test_a_group_gets_the_turn_of_a_cancelled_call_back_too(priority: Priority, limit: int, due: float) -> None:
    async def scenario(telegram: Telegram) -> None:
        await telegram.post(-1, "before", priority)
        first, second = telegram.later(-1, "a", priority), telegram.later(-1, "b", priority)
        await settle()
        asyncio.get_running_loop().call_at(due, first.cancel)
        await asyncio.gather(first, second, return_exceptions=True)

    telegram = play(scenario, group_limit=limit)
    assert telegram.sent[1:] == [(pytest.approx(due), -1, "b")]


def test_a_flooded_call_that_is_cancelled_does_not_hold_up_its_chat() -> None:
    async def scenario(telegram: Telegram) -> None:
        telegram.floods[1] = [30]
        flooded = telegram.later(1, "flooded", "final")
        await settle()
        waiting = telegram.later(1, "waiting")
        await asyncio.sleep(10)
        flooded.cancel()
        await waiting

    assert play(scenario).sent == [(pytest.approx(30.1), 1, "waiting")]


def test_chats_that_nobody_waits_for_are_forgotten() -> None:
    async def scenario(telegram: Telegram) -> None:
        telegram.floods = {chat: [30] for chat in range(1, 20)}
        chats = [*range(1, 500), *range(-500, 0), *(f"@group{number}" for number in range(100))]
        await asyncio.gather(*(telegram.post(chat, "message") for chat in chats))
        assert telegram.limiter.chats > 0
        await asyncio.sleep(HOUR)
        assert telegram.limiter.chats == 0

    telegram = play(scenario)
    assert len(telegram.sent) == 1099


def test_a_chat_is_not_forgotten_while_what_it_took_still_counts() -> None:
    async def scenario(telegram: Telegram) -> None:
        for number in range(20):
            await telegram.post(-1, str(number))
        await asyncio.sleep(20)  # its pace has recovered, its minute has not
        await telegram.post(-1, "last")

    times = play(scenario).times(-1)
    assert times[-1] == 60


def test_shutting_down_ends_the_calls_that_wait_and_those_that_come_later() -> None:
    async def scenario(telegram: Telegram) -> None:
        telegram.floods[2] = [HOUR]
        calls = [telegram.later(1, str(number)) for number in range(5)] + [telegram.later(2, "flooded")]
        await asyncio.sleep(0.5)
        await telegram.limiter.shutdown()
        outcomes = await asyncio.gather(*calls, telegram.post(1, "late"), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [bool] * 3 + [asyncio.CancelledError] * 4
        await telegram.limiter.initialize()
        await telegram.post(1, "again")

    telegram = play(scenario)
    assert telegram.texts == ["0", "1", "2", "again"]
    assert telegram.limiter.chats == 1


def test_a_call_whose_flood_arrives_after_the_shutdown_ends_too() -> None:
    async def scenario(telegram: Telegram) -> None:
        async def answered_late() -> bool:
            await asyncio.sleep(1)
            raise RetryAfter(timedelta(seconds=5))

        request = telegram.limiter.process_request(answered_late, (), {}, "sendMessage", {"chat_id": 1}, "final")
        call = asyncio.create_task(request)
        await asyncio.sleep(0.5)
        await telegram.limiter.shutdown()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert telegram.limiter.chats == 0

    play(scenario)


@pytest.mark.parametrize("seed", range(20))
def test_no_limit_is_broken_and_no_call_is_lost_however_calls_come_and_go(seed: int) -> None:
    chance = random.Random(seed)
    chats: list[int] = [1, 2, 3, 4, -1, -2]
    outcomes: list[Any] = []

    async def scenario(telegram: Telegram) -> None:
        telegram.floods = {chat: [chance.randint(1, 20) for _ in range(chance.randint(0, 4))] for chat in chats}
        calls: list[asyncio.Task[Any]] = []
        for number in range(300):
            move = chance.random()
            if move < 0.7:
                priority = chance.choice((None, "final", "cosmetic", "normal"))
                calls.append(telegram.later(chance.choice(chats), str(number), priority))
            elif move < 0.85 and calls:
                chance.choice(calls).cancel()
            else:
                await asyncio.sleep(chance.choice((0, 0, 0.05, 0.3, 2)))
        outcomes.extend(await asyncio.gather(*calls, return_exceptions=True))
        await asyncio.sleep(HOUR)
        assert telegram.limiter.chats == 0

    telegram = play(scenario, overall_limit=5)
    assert {type(outcome) for outcome in outcomes} <= {bool, asyncio.CancelledError, RetryAfter}
    assert len(telegram.sent) >= outcomes.count(True) > 0
    assert len(set(telegram.texts)) == len(telegram.texts)
    assert most_in([time for time, _, _ in telegram.tried], 1) <= 5
    for chat in chats:
        times = [time for time, where, _ in telegram.tried if where == chat]
        assert most_in(times, 2.5) <= 5  # a burst of three, and what comes in two and a half seconds
        assert chat > 0 or most_in(times, 60) <= 20


def test_withdrawn_cosmetic_calls_leave_the_line_and_the_final_one_goes_at_once() -> None:
    async def scenario(telegram: Telegram) -> None:
        for number in range(2):
            await telegram.post(1, str(number), "cosmetic")
        stale = telegram.later(1, "stale", "cosmetic")
        await asyncio.sleep(0.1)
        telegram.limiter.withdraw_cosmetic(1)
        telegram.limiter.withdraw_cosmetic(2)
        with pytest.raises(RetryAfter):
            await stale
        await telegram.post(1, "final", "final")

    telegram = play(scenario)
    assert telegram.texts == ["0", "1", "final"]
    assert telegram.times(1)[-1] == 0.1
    assert telegram.told == []


# With the real library


async def test_a_bot_of_the_real_library_sends_again_after_its_flood_and_keeps_other_chats_going() -> None:
    """Here a second is a second: the server floods the first call to chat 1 for one."""
    arrived: list[tuple[int, str]] = []
    flooded = False

    async def answer(request: web.Request) -> web.Response:
        nonlocal flooded
        if request.match_info["method"] == "getMe":
            return _result({"id": 42, "is_bot": True, "first_name": "Familiar", "username": "familiar_bot"})
        given = await request.post()
        chat, text = int(str(given["chat_id"])), str(given["text"])
        if chat == 1 and not flooded:
            flooded = True
            refusal = {"ok": False, "error_code": 429, "description": "Too Many Requests: retry after 1"}
            return web.json_response({**refusal, "parameters": {"retry_after": 1}}, status=429)
        arrived.append((chat, text))
        return _result({"message_id": 1, "date": 0, "chat": {"id": chat, "type": "private"}, "text": text})

    app = web.Application()
    app.router.add_post("/bot{token}/{method}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    told: list[int | str] = []
    try:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/bot"
        async with ExtBot("42:TEST", url, rate_limiter=ChatRateLimiter(on_flood=told.append)) as bot:
            flooded_call = asyncio.create_task(bot.send_message(1, "你好 👋", rate_limit_args="final"))
            while not told:
                await asyncio.sleep(0.001)
            with pytest.raises(RetryAfter):
                await bot.send_message(1, "stale", rate_limit_args="cosmetic")
            for number in range(3):
                await bot.send_message(2, str(number))
            message = await asyncio.wait_for(flooded_call, 30)
    finally:
        await runner.cleanup()
    assert message.text == "你好 👋"
    assert arrived == [(2, "0"), (2, "1"), (2, "2"), (1, "你好 👋")]
    assert told == [1]


def _result(result: Any) -> web.Response:
    return web.Response(text=json.dumps({"ok": True, "result": result}), content_type="application/json")
