"""What a test needs to talk to the engine through its client."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

from engine.client import ChatRequest, Delta, Done, EngineClient
from engine.state import Connection, State

GENEROUS_S = 30.0  # bounds what must happen; never decides a test that passes


def client_of(
    connection: Connection,
    *,
    max_concurrent: int = 16,
    first_token_timeout_s: float = GENEROUS_S,
    between_tokens_timeout_s: float = GENEROUS_S,
) -> EngineClient:
    return EngineClient(
        connection,
        max_concurrent=max_concurrent,
        first_token_timeout_s=first_token_timeout_s,
        between_tokens_timeout_s=between_tokens_timeout_s,
    )


def asks(text: str = "Hello?", person: str = "ann", adapter: str = "", **sampling: float) -> ChatRequest:
    return ChatRequest(({"role": "user", "content": text},), sampling, person, adapter)


async def all_of(client: EngineClient, request: ChatRequest) -> list[State | Delta | Done]:
    async with asyncio.timeout(GENEROUS_S), aclosing(client.stream(request)) as pieces:
        return [piece async for piece in pieces]


def texts(pieces: Sequence[State | Delta | Done]) -> list[str]:
    return [piece.text for piece in pieces if isinstance(piece, Delta)]
