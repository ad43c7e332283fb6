"""Who can use the real server: whoever has the key, and only for adapters of our own folder."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from engine.process import LocalEngine
from tests.live.conftest import ready


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/load_lora_adapter"),
        ("POST", "/invocations"),
        ("POST", "/adapters"),
        ("POST", "/tokenize"),
        ("GET", "/v1/models"),
        ("GET", "/metrics"),
    ],
)
async def test_without_the_key_nothing_is_served(engine: LocalEngine, method: str, path: str) -> None:
    address = await ready(engine)
    async with aiohttp.ClientSession() as session:
        async with session.request(method, address.url + path, json={"model": address.model}) as response:
            assert response.status == 401
        wrong = {"Authorization": "Bearer guess"}
        async with session.request(method, address.url + path, json={}, headers=wrong) as response:
            assert response.status == 401


async def test_only_folders_of_the_registry_can_be_loaded(engine: LocalEngine, tmp_path: Path) -> None:
    address = await ready(engine)
    headers = {"Authorization": f"Bearer {address.api_key}"}
    body = {"lora_name": "stranger", "lora_path": str(tmp_path)}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{address.url}/v1/load_lora_adapter", json=body) as response,
    ):
        assert response.status == 403


def test_the_key_is_on_no_command_line(engine: LocalEngine) -> None:
    key = asyncio.run(ready(engine)).api_key
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert key.encode() not in file.read_bytes()
        except OSError:
            continue  # it ended meanwhile
