"""Asking a vLLM server how it is: is it up, does it generate sane numbers, how much has it generated?"""

from __future__ import annotations

import math
from typing import Any

import aiohttp

from engine.state import Address


class Sick(Exception):
    """The server answers, or should, and what it says is wrong. The text says how."""


async def models(session: aiohttp.ClientSession, address: Address) -> list[dict[str, Any]]:
    """The server's entries of /v1/models: base model and loaded adapters. Raises aiohttp.ClientError."""
    async with session.get(f"{address.url}/v1/models", headers=_key(address)) as response:
        response.raise_for_status()
        entries: list[dict[str, Any]] = (await response.json())["data"]
        return entries


async def canary(session: aiohttp.ClientSession, address: Address, model: str = "", timeout_s: float = 60) -> None:
    """Have one token generated and look at its probability.

    /health stays 200 when weights hold NaN and every reply is empty, and when the engine hangs; this does not.
    Raises Sick, also for no answer within `timeout_s`.
    """
    body = {
        "model": model or address.model,
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": True,
    }
    limit = aiohttp.ClientTimeout(total=timeout_s)
    try:
        async with session.post(
            f"{address.url}/v1/chat/completions", json=body, headers=_key(address), timeout=limit
        ) as response:
            if response.status != 200:
                raise Sick(
                    f"a request for one token was answered with {response.status}: {(await response.text())[:300]}"
                )
            content = (await response.json())["choices"][0]["logprobs"]["content"]
    except (TimeoutError, aiohttp.ClientError) as error:
        raise Sick(f"a request for one token was not answered ({type(error).__name__})") from error
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise Sick("a request for one token was answered without a token") from error
    if not content or not math.isfinite(content[0]["logprob"]):
        raise Sick("a request for one token was answered with no usable probability")


async def metrics(session: aiohttp.ClientSession, address: Address) -> dict[str, float]:
    """/metrics, each name's samples summed over their labels, e.g. {"vllm:num_requests_running": 2.0, ...}.

    Raises aiohttp.ClientError.
    """
    async with session.get(f"{address.url}/metrics", headers=_key(address)) as response:
        response.raise_for_status()
        text = await response.text()
    sums: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith("#") or not line:
            continue
        sample, _, value = line.rpartition(" ")
        name = sample.partition("{")[0]
        sums[name] = sums.get(name, 0.0) + float(value)
    return sums


def _key(address: Address) -> dict[str, str]:
    return {"Authorization": f"Bearer {address.api_key}"}
