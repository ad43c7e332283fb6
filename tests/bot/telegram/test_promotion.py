"""/adapter as an admin sees it, with an engine that takes adapters behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from engine.errors import EngineFailed
from settings import Access as AccessSettings
from settings import Data, Settings
from store import adapters, canaries
from tests.bot.telegram.conftest import Talk
from tests.fakes.vllm import FakeConnection, FakeVllm, Refusal, eventually
from tests.telegram_server import Chat

OLGA = 1  # who runs the bot


class LoraVllm(FakeVllm):
    """Also answers when one token and its probability is asked for, as is done before an adapter is put in force."""

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        if not (await request.json()).get("logprobs"):
            return await super()._chat(request)
        token = {"token": "Hi", "logprob": -0.5}
        return web.json_response({"choices": [{"message": {"content": "Hi"}, "logprobs": {"content": [token]}}]})


@pytest.fixture
async def vllm() -> AsyncIterator[FakeVllm]:
    async with LoraVllm() as server:
        yield server


@pytest.fixture
def access() -> AccessSettings:
    return AccessSettings(mode="open", admins=(f"telegram:{OLGA}",), messages_per_minute=0)


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"data": Data(folder=tmp_path)})


@pytest.fixture
def olga(talk: Talk, tmp_path: Path) -> Chat:
    for version in (1, 2, 3):
        folder = tmp_path / "adapters" / "familiar" / str(version)
        folder.mkdir(parents=True)
        (folder / "adapter_config.json").touch()
        adapters.register(talk.store, "familiar", version, f"familiar/{version}", "base", "fingerprint", 4)
    return talk.private(OLGA, "Olga")


def loaded(talk: Talk, version: int) -> None:
    row = adapters.get(talk.store, "familiar", version)
    assert row.id is not None
    adapters.mark_loaded(talk.store, row.id, True)


def in_force(talk: Talk, version: int) -> None:
    """As after an earlier promotion."""
    loaded(talk, version)
    adapters.activate(talk.store, "familiar", version)


def now(talk: Talk) -> int:
    """The version in force; 0 is the base model."""
    row = adapters.active(talk.store, "familiar")
    return row.version if row else 0


async def said(chat: Chat, words: str) -> None:
    await chat.wait_for(lambda: words in chat.last.text)


async def test_the_list_shows_what_is_in_force_and_offers_the_rest(talk: Talk, olga: Chat) -> None:
    in_force(talk, 2)
    olga.send("/adapter")
    await said(olga, "Adapters, the newest first:")
    lines = olga.last.text.splitlines()[1:]
    assert [line.split(" · ")[:3] for line in lines] == [
        ["familiar@3", "registered", "for base"],
        ["familiar@2", "in force", "for base"],
        ["familiar@1", "registered", "for base"],
    ]
    assert [row[0].text for row in olga.last.keyboard] == [
        "Put familiar@3 in force",
        "Go back to the one before familiar@2",
        "Put familiar@1 in force",
    ]


async def test_without_adapters_the_base_model_is_named(talk: Talk) -> None:
    olga = talk.private(OLGA, "Olga")
    olga.send("/adapter")
    await said(olga, "No adapter is registered. The base model answers.")
    assert not olga.last.keyboard


async def test_an_adapter_is_put_in_force_by_its_button_and_answers_from_then_on(talk: Talk, olga: Chat) -> None:
    olga.send("/adapter")
    await said(olga, "The base model is in force.")
    listed = olga.last
    olga.press(listed, "Put familiar@2 in force")
    await said(olga, "familiar@2 is in force.")
    await olga.wait_for(lambda: "familiar@2 · in force" in listed.text)
    assert "Go back to the one before familiar@2" in [row[0].text for row in listed.keyboard]
    talk.private(2, "Bo").send("hello")
    await eventually(lambda: talk.vllm.chats[-1].body["model"] == "familiar@2")


async def test_an_adapter_is_put_in_force_by_its_name(talk: Talk, olga: Chat) -> None:
    olga.send("/adapter familiar@3")
    await said(olga, "familiar@3 is in force.")
    assert now(talk) == 3


async def test_going_back_twice_by_the_same_button_is_one_step(talk: Talk, olga: Chat) -> None:
    in_force(talk, 3)
    olga.send("/adapter")
    await said(olga, "Adapters")
    listed = olga.last
    button = "adapter:rollback:familiar@3"
    for _ in range(2):
        talk.server.pressed(olga, listed, button, talk.server.users[OLGA])
    await eventually(lambda: len(olga.answers) == 2)
    assert olga.answers[1][0].startswith("familiar@3 is not in force any more")
    assert now(talk) == 2


async def test_going_back_step_by_step_ends_at_the_base_model(talk: Talk, olga: Chat) -> None:
    in_force(talk, 2)
    olga.send("/adapter rollback")
    await said(olga, "familiar@1 is in force.")
    olga.send("/adapter rollback familiar")
    await said(olga, "The base model is in force.")
    assert now(talk) == 0
    olga.send("/adapter rollback")
    await said(olga, "That did not work. The base model answers; there is no version of familiar in force")


async def test_a_rollback_that_a_crash_interrupted_is_not_made_twice(talk: Talk, olga: Chat) -> None:
    in_force(talk, 3)
    held = talk.server.hold(method="sendMessage", chat_id=OLGA, times=1)
    olga.send("/adapter rollback")
    await held.reached.wait()
    adapters.activate(talk.store, "familiar", 2)  # it had come this far
    await talk.channel.lanes.close(0)
    held.release.set()
    await talk.restart()
    await said(olga, "familiar@3 is not in force any more")
    assert now(talk) == 2


async def test_going_back_while_a_version_is_on_trial_ends_the_trial_once(talk: Talk, olga: Chat) -> None:
    in_force(talk, 2)
    loaded(talk, 3)
    canary = canaries.begin(talk.store, "familiar", 3, 2, 1.0)
    olga.send("/adapter")
    await said(olga, "familiar@3 · on trial")
    listed = olga.last
    assert [row[0].text for row in listed.keyboard] == [
        "Go back to the one before familiar@3",
        "Put familiar@3 in force",
        "Put familiar@1 in force",
    ]
    for _ in range(2):
        talk.server.pressed(olga, listed, "adapter:rollback:familiar@3", talk.server.users[OLGA])
    await eventually(lambda: len(olga.answers) == 2)
    assert olga.answers[1][0].startswith("familiar@3 is not in force any more")
    await said(olga, "familiar@2 is in force.")
    assert now(talk) == 2
    ended = canaries.newest(talk.store, "familiar")
    assert ended is not None
    assert (ended.id, ended.outcome) == (canary.id, "rolled_back")
    assert not adapters.get(talk.store, "familiar", 3).loaded


async def test_what_was_left_is_not_loaded_again_and_no_later_step_back_returns_to_it(talk: Talk, olga: Chat) -> None:
    for version in (1, 2):
        loaded(talk, version)
    in_force(talk, 2)
    olga.send("/adapter rollback")
    await said(olga, "familiar@1 is in force.")
    assert not adapters.get(talk.store, "familiar", 2).loaded
    in_force(talk, 3)
    olga.send("/adapter rollback")
    await eventually(lambda: now(talk) == 1)


async def test_what_the_engine_refuses_is_told_and_the_old_one_stays(talk: Talk, olga: Chat) -> None:
    in_force(talk, 1)
    talk.vllm.adapter_faults["familiar@2"] = Refusal(400, "The weights are damaged.")
    olga.send("/adapter familiar@2")
    await said(olga, "That did not work.")
    assert "The weights are damaged." in olga.last.text
    assert now(talk) == 1


async def test_an_engine_that_is_down_is_told(talk: Talk, olga: Chat, connection: FakeConnection) -> None:
    connection.failure = EngineFailed("There is no more memory.")
    olga.send("/adapter familiar@2")
    await said(olga, "That did not work. There is no more memory.")
    assert now(talk) == 0


async def test_a_version_that_is_not_registered_is_told_with_those_that_are(talk: Talk, olga: Chat) -> None:
    olga.send("/adapter familiar@9")
    await said(olga, "There is no adapter familiar@9. Registered: familiar@1, familiar@2, familiar@3.")


@pytest.mark.parametrize(
    "given",
    [
        "familiar",
        "@2",
        "familiar@",
        "familiar@0",
        "familiar@x",
        "2",
        "适配器@2",
        "rollback a b",
        "rollback ../x",
        "x" * 3000,
    ],
)
async def test_what_names_no_version_is_answered_with_the_usage(talk: Talk, olga: Chat, given: str) -> None:
    in_force(talk, 1)
    olga.send(f"/adapter {given}")
    await said(olga, "It is used like this: /adapter [name@version|rollback]")
    assert now(talk) == 1
