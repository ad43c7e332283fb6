"""vLLM's sleep mode: weights go to the machine's memory, the cache is dropped, and the GPU is free for something else.

The server must have been started with --enable-sleep-mode, on a GPU, and with VLLM_SERVER_DEV_MODE=1, or the three
paths do not exist (vllm/entrypoints/serve/dev/sleep). Adapters that are loaded stay so. `mode=wait` lets replies that
are under way end first; what comes meanwhile is sent back by engine.door, and waits where it came from.
"""

from __future__ import annotations

from typing import Any

import aiohttp

from engine.state import Address

TIMEOUT_S = 300.0  # replies end first, and a large model's weights take a while to go out and come in


class Refused(Exception):
    """It did not do so. The text says why."""


async def fall_asleep(session: aiohttp.ClientSession, address: Address) -> None:
    """Returns when the GPU's memory is free. Raises Refused."""
    await _call(session, address, "POST", "/sleep?level=1&mode=wait")
    if not (await _call(session, address, "GET", "/is_sleeping")).get("is_sleeping"):
        raise Refused("it says that it is awake")


async def wake_up(session: aiohttp.ClientSession, address: Address) -> None:
    """Returns when it can answer again. Raises Refused."""
    await _call(session, address, "POST", "/wake_up")
    if (await _call(session, address, "GET", "/is_sleeping")).get("is_sleeping") is not False:
        raise Refused("it says that it sleeps")


async def _call(session: aiohttp.ClientSession, address: Address, method: str, path: str) -> dict[str, Any]:
    key = {"Authorization": f"Bearer {address.api_key}"}
    limit = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with session.request(method, address.url + path, headers=key, timeout=limit) as response:
            if response.status != 200:
                raise Refused(f"{path} was answered with {response.status}: {(await response.text())[:300]}")
            answer: dict[str, Any] = await response.json()
            return answer
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise Refused(f"{path} was not answered ({type(error).__name__})") from error
