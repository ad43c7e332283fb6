"""Updates that Telegram delivers by itself: only with the secret, each once, none taken before it is written down."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr

from bot.telegram import application
from store import inbox
from store.errors import StoreFull
from tests.bot.telegram.conftest import Talk
from tests.fakes.vllm import Hold, Reply, eventually
from tests.telegram_server.updates import SECRET_HEADER

SECRET = "a-secret_of-the-operator"


@pytest.fixture
def port() -> int:
    """One that nobody listens on."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


@pytest.fixture
def url(port: int) -> str:
    return f"http://127.0.0.1:{port}/telegram"


@pytest.fixture
def telegram(port: int, url: str) -> dict[str, Any]:
    return {"updates": "webhook", "webhook_url": url, "webhook_port": port, "webhook_secret": SecretStr(SECRET)}


async def post(url: str, body: str | dict[str, Any], secret: str | None = SECRET) -> int:
    """Call the webhook as anybody may, once somebody listens there; the status of the answer."""
    data = body if isinstance(body, str) else json.dumps(body)
    headers = {"Content-Type": "application/json"} | ({} if secret is None else {SECRET_HEADER: secret})
    async with asyncio.timeout(10), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.post(url, data=data.encode(), headers=headers) as answer:
                    return answer.status
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.01)


def update_saying(text: str, update_id: int = 1) -> dict[str, Any]:
    ada = {"id": 101, "first_name": "Ada"}
    message = {"message_id": 1, "date": 1, "chat": ada | {"type": "private"}, "from": ada | {"is_bot": False}}
    return {"update_id": update_id, "message": message | {"text": text}}


def asked(talk: Talk) -> list[str]:
    return [request.body["messages"][-1]["content"] for request in talk.vllm.chats]


async def test_a_message_that_is_delivered_by_webhook_is_answered(talk: Talk, url: str) -> None:
    assert talk.server.webhook is not None
    assert (talk.server.webhook["url"], talk.server.webhook["secret_token"]) == (url, SECRET)
    ada = talk.private()
    ada.send("Hello")
    await ada.wait_for(lambda: ada.last and ada.last.text == "Hello there!")
    assert not talk.server.pending
    assert not talk.server.calls_of("getUpdates")


async def test_reactions_and_the_native_stop_are_asked_for(talk: Talk) -> None:
    hold = Hold()
    talk.vllm.script(Reply("Kept", hold))
    ada = talk.private()
    ada.send("Hello")
    await ada.wait_for(lambda: ada.draft is not None and ada.draft.text == "Kept")
    ada.stop_generation()
    await ada.wait_for(lambda: ada.last and "stopped" in ada.last.text)
    assert ada.last is not None
    assert ada.react(ada.last, ["👍"]) is not None
    await ada.wait_for(lambda: ada.last and ada.last.keyboard[0][0].text != "👍")


@pytest.mark.parametrize("secret", [None, "", "guessed", SECRET[:-1], SECRET.upper()])
async def test_what_comes_without_the_secret_is_refused_and_not_kept(talk: Talk, url: str, secret: str | None) -> None:
    talk.private()
    assert await post(url, update_saying("Hello"), secret) == 403
    assert inbox.waiting(talk.store, "telegram") == []
    assert await post(url, update_saying("Hello again", 2)) == 200
    await eventually(lambda: asked(talk) == ["Hello again"])


class TestWithoutASecretInTheSettings:
    @pytest.fixture
    def telegram(self, telegram: dict[str, Any]) -> dict[str, Any]:
        return telegram | {"webhook_secret": SecretStr("")}

    async def test_one_is_made_up(self, talk: Talk, url: str) -> None:
        assert talk.server.webhook is not None
        secret = talk.server.webhook["secret_token"]
        assert len(secret) >= 32
        assert await post(url, update_saying("Hello"), None) == 403
        ada = talk.private()
        ada.send("Hello")
        await ada.wait_for(lambda: ada.last and ada.last.text == "Hello there!")
        await talk.restart()
        await eventually(lambda: (talk.server.webhook or {})["secret_token"] != secret)


async def test_an_update_that_is_delivered_twice_is_answered_once(talk: Talk, url: str) -> None:
    ada = talk.private()
    for _ in range(2):
        assert await post(url, update_saying("Hello")) == 200
    await ada.wait_for(lambda: ada.last)
    ada.send("More")
    await eventually(lambda: asked(talk)[-1:] == ["More"])
    await eventually(lambda: talk.channel.inbox.waiting == 0)
    assert asked(talk) == ["Hello", "More"]


@pytest.mark.parametrize(
    "body", ["[]", "{}", "null", "Hello", '{"update_id": "x"}', '{"update_id": 5, "message": 7}', ""]
)
async def test_what_is_no_update_stops_nothing(talk: Talk, url: str, body: str) -> None:
    assert await post(url, body) != 403
    ada = talk.private()
    ada.send("Hello")
    await ada.wait_for(lambda: ada.last and ada.last.text == "Hello there!")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "WEBHOOK_PATIENCE_S", 0.05)


async def test_what_cannot_be_written_down_is_not_taken_and_comes_again(
    impatient: None, talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise StoreFull("no room")

    ada = talk.private()
    with monkeypatch.context() as patched:
        patched.setattr(inbox, "receive", full)
        ada.send("Hello")
        await eventually(lambda: "500" in (talk.server.webhook or {}).get("last_error_message", ""))
        assert len(talk.server.pending) == 1
    await ada.wait_for(lambda: ada.last and ada.last.text == "Hello there!")
    assert not talk.server.pending
    assert asked(talk) == ["Hello"]


async def test_what_comes_while_it_is_away_is_delivered_after_the_next_start(talk: Talk) -> None:
    assert await talk.stop() == 0
    ada = talk.private()
    ada.send("Hello")
    await eventually(lambda: "Connection failed" in (talk.server.webhook or {}).get("last_error_message", ""))
    await talk.start()
    await ada.wait_for(lambda: ada.last and ada.last.text == "Hello there!")
    await eventually(lambda: talk.channel.inbox.waiting == 0)
    assert asked(talk) == ["Hello"]


async def test_when_polling_is_used_again_the_webhook_is_gone(talk: Talk) -> None:
    await talk.stop()
    ada = talk.private()
    ada.send("Hello")
    polling = talk.settings.telegram.model_copy(update={"updates": "polling"})
    talk.settings = talk.settings.model_copy(update={"telegram": polling})
    await talk.start()
    await ada.wait_for(lambda: ada.last and ada.last.text == "Hello there!")
    assert talk.server.webhook is None


class TestAPortThatSomebodyElseHas:
    @pytest.fixture
    def port(self) -> Iterator[int]:
        with closing(socket.socket()) as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            yield taken.getsockname()[1]

    async def test_ends_the_program(self, talk: Talk) -> None:
        assert talk.task is not None
        assert await talk.task == 1


class TestAnAddressThatTelegramDoesNotTake:
    @pytest.fixture
    def url(self) -> str:
        return "http://bot.example.org/telegram"

    async def test_ends_the_program(self, talk: Talk) -> None:
        assert talk.task is not None
        assert await talk.task == 1
