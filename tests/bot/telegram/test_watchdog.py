from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from aiohttp import web
from telegram import Update
from telegram.error import NetworkError
from telegram.ext import ExtBot, Updater

from bot.telegram.watchdog import Watchdog, WatchedRequest, fresh_updater
from tests.fakes.virtual_time import in_virtual_time

HOUR = 3600.0
GENEROUS_S = 30.0  # bounds what must happen; never decides a test that passes


class Restarts:
    """When polling was restarted. `failures`: what the next restarts end with."""

    def __init__(self, *failures: Exception, then: Callable[[], None] = lambda: None) -> None:
        self.at: list[float] = []
        self._failures = list(failures)
        self._then = then

    async def __call__(self) -> None:
        self.at.append(asyncio.get_running_loop().time())
        if self._failures:
            raise self._failures.pop(0)
        self._then()


def watched_for(
    seconds: float, watchdog: Watchdog, restarts: Restarts, polls: list[float] | None = None
) -> list[float]:
    """When polling was restarted, in that time in which polls were answered at those moments."""

    async def scenario() -> None:
        running = asyncio.create_task(watchdog.run(restarts))
        for moment in polls or []:
            asyncio.get_running_loop().call_at(moment, watchdog.seen)
        await asyncio.sleep(seconds)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    in_virtual_time(scenario())
    return restarts.at


def test_polls_that_are_answered_are_left_alone() -> None:
    polls = [float(moment) for moment in range(0, 3600, 25)]
    assert watched_for(3600, Watchdog(90), Restarts(), polls) == []


def test_polling_is_restarted_when_no_poll_was_answered_for_long_enough(caplog: pytest.LogCaptureFixture) -> None:
    assert watched_for(200, Watchdog(90), Restarts(), polls=[25, 50]) == [140]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_the_watchdog_counts_from_its_own_start() -> None:
    restarts = Restarts()

    async def scenario() -> None:
        watchdog = Watchdog(90)
        await asyncio.sleep(HOUR)
        running = asyncio.create_task(watchdog.run(restarts))
        await asyncio.sleep(100)
        running.cancel()

    in_virtual_time(scenario())
    assert restarts.at == [HOUR + 90]


def test_restarts_that_do_not_help_come_ever_more_seldom_but_never_end() -> None:
    at = watched_for(6000, Watchdog(90), Restarts())
    pauses = [round(later - earlier) for earlier, later in zip([0, *at], at, strict=False)]
    assert pauses[:6] == [90, 180, 360, 720, 720, 720]
    assert len(at) > 6


def test_after_a_restart_that_helped_the_next_stall_is_noticed_as_soon_as_the_first() -> None:
    polls = [100.0, 125.0, 150.0, 175.0, 200.0, 225.0, 250.0, 275.0, 300.0]
    assert watched_for(400, Watchdog(90), Restarts(), polls) == [90, 390]


def test_a_restart_that_fails_is_logged_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    failures = [NetworkError("no route to host"), RuntimeError("surprise"), *[NetworkError("again")] * 8]
    at = watched_for(400, Watchdog(90), Restarts(*failures))
    assert at == [90, 91, 93, 97, 105, 121, 153, 213, 273, 333, 393]
    told = [record for record in caplog.records if "did not start" in record.getMessage()]
    assert len(told) == 10
    assert [bool(record.exc_info) for record in told[:3]] == [False, True, False]  # a traceback only for a surprise


# With the real Updater


class Server:
    """A Bot API server whose polls can be made to get stuck. `polls` counts those that arrived."""

    def __init__(self) -> None:
        self.polls = 0
        self.stuck_polls = 0
        self.updates: list[dict[str, Any]] = []
        self.stuck: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.match_info["method"] == "getMe":
            return _result({"id": 42, "is_bot": True, "first_name": "Familiar", "username": "familiar_bot"})
        if request.match_info["method"] != "getUpdates":
            return _result(True)
        self.polls += 1
        if self.stuck is not None:
            self.stuck_polls += 1
            return await self.stuck(request)
        offset = int(str((await request.post()).get("offset", 0)))
        await asyncio.sleep(0.01)
        return _result([update for update in self.updates if update["update_id"] >= offset])

    def heal(self) -> None:
        self.stuck = None


async def silent(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def dribbling(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.005)


async def not_found(request: web.Request) -> web.StreamResponse:
    return web.json_response({"ok": False, "error_code": 404, "description": "Not Found"}, status=404)


async def told_to_wait(request: web.Request) -> web.StreamResponse:
    """The Updater then sleeps, and stopping it waits for the end of that."""
    refusal = {"ok": False, "error_code": 429, "description": "Too Many Requests: retry after 3600"}
    return web.json_response({**refusal, "parameters": {"retry_after": 3600}}, status=429)


def _result(result: Any) -> web.Response:
    return web.Response(text=json.dumps({"ok": True, "result": result}), content_type="application/json")


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_post("/bot{token}/{method}", server.answer)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/bot"
    yield server
    await runner.cleanup()


@asynccontextmanager
async def bot_of(server: Server, seen: Callable[[], None]) -> AsyncIterator[ExtBot[None]]:
    polls = WatchedRequest(seen, connection_pool_size=1, read_timeout=HOUR)
    async with ExtBot("42:TEST", server.url, get_updates_request=polls) as bot:
        yield bot


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(GENEROUS_S):
        while not holds():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("stuck", [silent, dribbling, not_found, told_to_wait])
async def test_updates_come_again_after_polling_got_stuck(
    server: Server, stuck: Callable[[web.Request], Awaitable[web.StreamResponse]], caplog: pytest.LogCaptureFixture
) -> None:
    watchdog = Watchdog(0.2)
    received: asyncio.Queue[object] = asyncio.Queue()
    async with bot_of(server, watchdog.seen) as bot:
        updater = Updater(bot, received)
        await updater.initialize()
        await updater.start_polling(timeout=0)
        await until(lambda: server.polls > 2)
        server.stuck = stuck
        await until(lambda: server.stuck_polls > 0)

        async def restart() -> None:
            nonlocal updater
            updater = await fresh_updater(updater, within_s=0.1)
            server.heal()
            await updater.start_polling(timeout=0)

        running = asyncio.create_task(watchdog.run(restart))
        server.updates.append({"update_id": 7, "message": _message("hello again")})
        try:
            update = await asyncio.wait_for(received.get(), GENEROUS_S)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            if updater.running:
                await updater.stop()
    assert isinstance(update, Update)
    assert update.message is not None
    assert update.message.text == "hello again"
    assert any("polling is restarted" in record.getMessage() for record in caplog.records)


async def test_an_updater_that_was_replaced_polls_no_more(server: Server) -> None:
    async with bot_of(server, lambda: None) as bot:
        stuck = Updater(bot, asyncio.Queue())
        await stuck.initialize()
        await stuck.start_polling(timeout=0)
        await until(lambda: server.polls > 2)
        server.stuck = silent
        await until(lambda: server.stuck_polls > 0)
        fresh = await fresh_updater(stuck, within_s=0.1)
        server.heal()
        assert not stuck.running
        assert not fresh.running
        assert "Updater:start_polling:polling_task" not in {task.get_name() for task in asyncio.all_tasks()}


async def test_an_updater_is_replaced_though_its_sleep_and_its_last_poll_must_both_be_cut(server: Server) -> None:
    async with bot_of(server, lambda: None) as bot:
        stuck = Updater(bot, asyncio.Queue())
        await stuck.initialize()
        server.stuck = told_to_wait
        await stuck.start_polling(timeout=0)
        await until(lambda: server.stuck_polls > 0)
        server.stuck = silent
        fresh = await asyncio.wait_for(fresh_updater(stuck, within_s=0.1), GENEROUS_S)
        server.heal()
        polls = server.polls
        await fresh.start_polling(timeout=0)
        await until(lambda: server.polls > polls)
        await fresh.stop()


async def test_an_updater_that_is_well_is_replaced_without_a_word(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    server.updates.append({"update_id": 7, "message": _message("hello")})
    received: asyncio.Queue[object] = asyncio.Queue()
    async with bot_of(server, lambda: None) as bot:
        updater = Updater(bot, received)
        await updater.initialize()
        await updater.start_polling(timeout=0)
        await asyncio.wait_for(received.get(), GENEROUS_S)
        fresh = await fresh_updater(updater)
        fresh = await fresh_updater(fresh)  # one that never ran
        assert fresh.update_queue is received
        assert fresh.bot is bot
        await fresh.start_polling(timeout=0)
        await fresh.stop()
    assert caplog.records == []


@pytest.mark.parametrize(("answer", "seen"), [(None, True), (not_found, True), (told_to_wait, True), (silent, False)])
async def test_each_answer_to_a_poll_is_seen_whatever_it_is_and_nothing_else(
    server: Server, answer: Callable[[web.Request], Awaitable[web.StreamResponse]] | None, seen: bool
) -> None:
    answers: list[None] = []
    async with bot_of(server, lambda: answers.append(None)) as bot:
        await bot.get_me()
        await bot.delete_webhook()
        assert answers == []
        server.stuck = answer
        poll = asyncio.create_task(bot.get_updates())
        await until(lambda: poll.done() if seen else server.polls == 1)
        poll.cancel()
        await asyncio.gather(poll, return_exceptions=True)
    assert len(answers) == int(seen)


def _message(text: str) -> dict[str, Any]:
    chat = {"id": 1, "type": "private", "first_name": "Ann"}
    return {
        "message_id": 1,
        "date": 0,
        "chat": chat,
        "from": {"id": 1, "is_bot": False, "first_name": "Ann"},
        "text": text,
    }
