"""The middleware in front of vLLM's routes. tests/live/test_door.py knocks at the real server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.door import Door, Message, Receive, Send


async def inside(scope: Message, receive: Receive, send: Send) -> None:
    """The server behind the door: says what it got."""
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"inside " + body})


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Door:
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    monkeypatch.setenv("FAMILIAR_ADAPTER_ROOT", str(tmp_path / "adapters"))
    return Door(inside)


async def knock(door: Door, path: str, *, key: str | None = "secret", body: bytes = b"", pieces: int = 1) -> Any:
    """(status, body) of the answer."""
    size = -(-len(body) // pieces) or 1
    parts = [body[at : at + size] for at in range(0, max(len(body), 1), size)]
    incoming = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)} for number, part in enumerate(parts, 1)
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return incoming.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [] if key is None else [(b"authorization", f"Bearer {key}".encode())]
    await door({"type": "http", "path": path, "headers": headers}, receive, send)
    return sent[0]["status"], sent[1]["body"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/metrics", "/tokenize", "/invocations", "/adapters", "/"])
@pytest.mark.parametrize("key", [None, "", "wrong", "secret "])
async def test_nobody_enters_without_the_key(door: Door, path: str, key: str | None) -> None:
    status, body = await knock(door, path, key=key)
    assert status == 401
    assert b"inside" not in body


async def test_with_the_key_requests_pass_unchanged(door: Door) -> None:
    assert await knock(door, "/v1/chat/completions", body=b"{}") == (200, b"inside {}")


async def test_health_needs_no_key(door: Door) -> None:
    assert (await knock(door, "/health", key=None))[0] == 200


@pytest.mark.parametrize("path", ["/adapters", "/adapters/x", "/invocations", "/invocations/"])
async def test_other_ways_to_generate_or_load_are_closed(door: Door, path: str) -> None:
    assert (await knock(door, path))[0] == 404


@pytest.mark.parametrize("pieces", [1, 3])
async def test_adapters_of_our_folder_can_be_loaded(door: Door, tmp_path: Path, pieces: int) -> None:
    body = json.dumps({"lora_name": "a@1", "lora_path": str(tmp_path / "adapters" / "a" / "1")}).encode()
    assert await knock(door, "/v1/load_lora_adapter", body=body, pieces=pieces) == (200, b"inside " + body)


@pytest.mark.parametrize("path", ["/etc", "adapters/a", "{root}/../elsewhere", "{root}/link", "", None, 3])
async def test_no_other_folder_can_be_loaded(door: Door, tmp_path: Path, path: str | None) -> None:
    root = tmp_path / "adapters"
    root.mkdir()
    (root / "link").symlink_to("/etc")
    asked = path.format(root=root) if isinstance(path, str) else path
    body = json.dumps({"lora_name": "a@1", "lora_path": asked}).encode()
    assert (await knock(door, "/v1/load_lora_adapter", body=body))[0] == 403


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b"x" * 70_000])
async def test_a_load_request_that_is_none_is_refused(door: Door, body: bytes) -> None:
    assert (await knock(door, "/v1/load_lora_adapter", body=body))[0] in (403, 413)


# Asleep


@pytest.mark.parametrize(
    "path", ["/collective_rpc", "/server_info", "/reset_prefix_cache", "/update_weights", "/pause", "/resume"]
)
async def test_of_the_development_server_nothing_but_sleep_mode_is_open(door: Door, path: str) -> None:
    assert (await knock(door, path))[0] == 404


@pytest.mark.parametrize("path", ["/sleep", "/wake_up", "/is_sleeping"])
async def test_sleep_mode_needs_the_key(door: Door, path: str) -> None:
    assert (await knock(door, path, key="guess"))[0] == 401
    assert (await knock(door, path))[0] == 200


async def test_who_comes_while_it_sleeps_is_sent_back_at_once(door: Door) -> None:
    await knock(door, "/sleep")
    status, body = await knock(door, "/v1/chat/completions")
    assert status == 500
    assert b"sleeps" in body
    assert (await knock(door, "/health", key=None))[0] == (await knock(door, "/metrics"))[0] == 200
    await knock(door, "/wake_up")
    assert (await knock(door, "/v1/chat/completions"))[0] == 200


async def test_an_engine_that_did_not_fall_asleep_or_wake_up_is_as_it_was(door: Door) -> None:
    async def fails(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    works, door.app = door.app, fails
    await knock(door, "/sleep")
    assert not door.asleep
    door.app = works
    await knock(door, "/sleep")
    door.app = fails
    await knock(door, "/wake_up")
    assert door.asleep


async def test_nobody_comes_in_while_it_is_just_falling_asleep(door: Door) -> None:
    """Replies under way may take a while to end, and what came meanwhile would wait inside."""
    seen = []

    async def slow(scope: Message, receive: Receive, send: Send) -> None:
        seen.append(door.asleep)
        await inside(scope, receive, send)

    door.app = slow
    await knock(door, "/sleep")
    assert seen == [True]
