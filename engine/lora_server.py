"""What a running vLLM says and does about adapters: its own words, in ours."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp

from engine import probe
from engine.errors import EngineLost, WrongKey
from engine.state import Address

LOAD_TIMEOUT_S = 120.0  # the engine loads between two steps of its replies
COUNTED_LOADS = re.compile(
    r'^http_requests_total\{(?=[^}]*handler="/v1/load_lora_adapter")(?=[^}]*status="2xx")[^}]*\} (\S+)$', re.MULTILINE
)


@dataclass(frozen=True)
class Loaded:
    """One adapter that the server has, whoever loaded it."""

    name: str  # as served, e.g. familiar@3
    path: str


@contextlib.asynccontextmanager
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=LOAD_TIMEOUT_S)) as session:
        yield session


async def loaded(session: aiohttp.ClientSession, address: Address) -> list[Loaded]:
    entries = await served(session, address)
    return [Loaded(entry["id"], str(entry.get("root"))) for entry in entries if entry.get("parent")]


async def served(session: aiohttp.ClientSession, address: Address) -> list[dict[str, Any]]:
    """/v1/models. Raises EngineLost, WrongKey."""
    try:
        return await probe.models(session, address)
    except aiohttp.ClientResponseError as error:
        if error.status == 401:
            raise WrongKey(f"{address.url} does not accept the API key.") from error
        raise EngineLost(f"{address.url} answers {error.status} to /v1/models.") from error
    except (aiohttp.ClientError, TimeoutError) as error:
        raise _lost(address, error) from error


async def loads_since_start(session: aiohttp.ClientSession, address: Address) -> int:
    """How many adapters the server has taken, unloaded ones included, by its own count; 0 where it does not count.

    Unloading only strikes out a name: the weights stay until there is no more room (vLLM evicts the least used ones).
    """
    try:
        async with session.get(f"{address.url}/metrics") as response:
            return sum(int(float(count)) for count in COUNTED_LOADS.findall(await response.text()))
    except (aiohttp.ClientError, TimeoutError) as error:
        raise _lost(address, error) from error


async def post(session: aiohttp.ClientSession, address: Address, path: str, body: dict[str, str]) -> tuple[int, str]:
    """The answer's status and, where it is an error, its words. Raises EngineLost, WrongKey."""
    key = {"Authorization": f"Bearer {address.api_key}"}
    try:
        async with session.post(address.url + path, json=body, headers=key) as response:
            status, text = response.status, await response.text()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise _lost(address, error) from error
    if status == 401:
        raise WrongKey(f"{address.url} does not accept the API key.")
    try:
        said = json.loads(text)
        return status, str(said["error"]["message"] if "error" in said else said["detail"])
    except (ValueError, KeyError, TypeError):
        return status, text[:300]


def _lost(address: Address, error: Exception) -> EngineLost:
    why = "does not answer" if isinstance(error, TimeoutError) else "cannot be reached or broke the connection"
    return EngineLost(f"The engine at {address.url} {why}. Is it running?")
