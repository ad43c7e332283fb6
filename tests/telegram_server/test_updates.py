"""How updates reach the bot: by polls, and by a webhook."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from telegram import (
    Bot,
)
from telegram.error import BadRequest, Conflict, NetworkError

from tests.fakes.vllm import eventually
from tests.telegram_server import Chat, TelegramServer
from tests.telegram_server.updates import SECRET_HEADER

GENEROUS_S = 30


async def test_an_update_comes_again_until_a_higher_offset_confirms_it(
    bot: Bot, server: TelegramServer, chat: Chat
) -> None:
    first, second = chat.send("one"), chat.send("two")
    for _ in range(2):
        assert [u.message.text for u in await bot.get_updates()] == ["one", "two"]
    assert server.acknowledged == 0
    assert [u.message.text for u in await bot.get_updates(offset=first.update_id + 1)] == ["two"]
    assert server.acknowledged == first.update_id
    assert [update["update_id"] for update in server.pending] == [second.update_id]


async def test_a_negative_offset_forgets_all_but_the_newest(bot: Bot, server: TelegramServer, chat: Chat) -> None:
    for text in "abc":
        chat.send(text)
    assert [u.message.text for u in await bot.get_updates(offset=-1)] == ["c"]
    assert len(server.pending) == 1


async def test_a_poll_brings_no_more_than_its_limit(bot: Bot, chat: Chat) -> None:
    for text in "abc":
        chat.send(text)
    assert [u.message.text for u in await bot.get_updates(limit=2)] == ["a", "b"]


async def test_a_long_poll_ends_as_soon_as_somebody_writes(bot: Bot, server: TelegramServer, chat: Chat) -> None:
    poll = asyncio.create_task(bot.get_updates(timeout=GENEROUS_S))
    await eventually(lambda: bool(server.calls_of("getUpdates")))
    assert not poll.done()
    chat.send("there")
    assert [u.message.text for u in await poll] == ["there"]


async def test_a_poll_without_news_ends_empty_after_its_timeout(bot: Bot) -> None:
    assert await bot.get_updates(timeout=1) == ()


async def test_the_newer_of_two_polls_wins(bot: Bot, server: TelegramServer, chat: Chat) -> None:
    older = asyncio.create_task(bot.get_updates(timeout=GENEROUS_S))
    await eventually(lambda: len(server.calls_of("getUpdates")) == 1)
    async with Bot(server.token, base_url=f"{server.url}/bot") as another:
        newer = asyncio.create_task(another.get_updates(timeout=GENEROUS_S))
        with pytest.raises(Conflict, match="terminated by other getUpdates request"):
            await older
        chat.send("for the newer")
        assert len(await newer) == 1


async def test_kinds_that_were_not_asked_for_are_never_delivered(bot: Bot, chat: Chat) -> None:
    message = chat.send("hi")
    assert chat.react(message, ["👍"]) is None
    await bot.get_updates(allowed_updates=["message_reaction"])
    await bot.get_updates()  # what was allowed last stays allowed
    assert chat.react(message, ["👍"]) is not None
    assert chat.send("not wanted now").update_id is None
    await bot.get_updates(allowed_updates=[])
    assert chat.send("wanted by default").update_id is not None


async def test_a_stalled_poll_answers_only_when_it_is_released(bot: Bot, server: TelegramServer, chat: Chat) -> None:
    server.stall_polls = True
    chat.send("hello")
    with pytest.raises(NetworkError):
        await bot.get_updates(timeout=0, read_timeout=0.2)
    server.stall_polls = False
    assert len(await bot.get_updates()) == 1


async def test_a_raw_update_gets_the_next_id(bot: Bot, server: TelegramServer, chat: Chat) -> None:
    first = chat.send("a").update_id
    assert server.push({"no_such_kind": {"x": 1}}) == first + 1
    assert (await bot.get_updates())[1].api_kwargs == {"no_such_kind": {"x": 1}}


class Receiver:
    """Takes what is posted, with the statuses in `answers` first."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.posts: list[tuple[str | None, dict[str, Any]]] = []

    async def take(self, request: web.Request) -> web.Response:
        self.posts.append((request.headers.get(SECRET_HEADER), await request.json()))
        return web.Response(status=self.answers.pop(0) if self.answers else 200)


@pytest.fixture
async def receive() -> AsyncIterator[Callable[[Receiver], Any]]:
    runners = []

    async def started(receiver: Receiver) -> str:
        app = web.Application()
        app.router.add_post("/hook", receiver.take)
        runners.append(web.AppRunner(app, shutdown_timeout=0.05))
        await runners[0].setup()
        await web.TCPSite(runners[0], "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runners[0].addresses[0][1]}/hook"

    yield started
    for runner in runners:
        await runner.cleanup()


async def test_a_webhook_gets_every_update_in_order_with_the_secret_until_it_takes_it(
    bot: Bot, server: TelegramServer, chat: Chat, receive: Callable[[Receiver], Any]
) -> None:
    receiver = Receiver(500, 403)
    await bot.set_webhook(await receive(receiver), secret_token="s3cret", allowed_updates=["message"])
    for text in "ab":
        chat.send(text)
    await eventually(lambda: not server.pending)
    assert [update["message"]["text"] for _, update in receiver.posts] == ["a", "a", "a", "b"]
    assert {secret for secret, _ in receiver.posts} == {"s3cret"}
    info = await bot.get_webhook_info()
    assert (info.url, info.pending_update_count) == (server.webhook["url"], 0)
    assert info.last_error_message == "Wrong response from the webhook: 403 Forbidden"


async def test_a_webhook_and_polling_exclude_each_other(bot: Bot, server: TelegramServer, chat: Chat) -> None:
    poll = asyncio.create_task(bot.get_updates(timeout=GENEROUS_S))
    await eventually(lambda: bool(server.calls_of("getUpdates")))
    await bot.set_webhook("https://127.0.0.1:9/none")
    with pytest.raises(Conflict, match="terminated by setWebhook request"):
        await poll
    with pytest.raises(Conflict, match="webhook is active"):
        await bot.get_updates()
    chat.send("waits")
    await bot.delete_webhook()
    assert len(await bot.get_updates()) == 1
    await bot.delete_webhook(drop_pending_updates=True)
    assert server.pending == []


@pytest.mark.parametrize(("url", "secret"), [("http://example.org/", "a"), ("https://example.org/", "no spaces")])
async def test_a_webhook_needs_https_and_a_plain_secret(bot: Bot, url: str, secret: str) -> None:
    with pytest.raises(BadRequest):
        await bot.set_webhook(url, secret_token=secret)
