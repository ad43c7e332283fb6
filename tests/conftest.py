"""Fixtures that more than one package's tests use."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from engine.client import EngineClient
from tests.fakes.talk import client_of
from tests.fakes.vllm import FakeConnection, FakeVllm


@pytest.fixture
async def vllm() -> AsyncIterator[FakeVllm]:
    """A running fake engine."""
    async with FakeVllm() as server:
        yield server


@pytest.fixture
def connection(vllm: FakeVllm) -> FakeConnection:
    """The way to it, ready at once."""
    return FakeConnection(vllm.address)


@pytest.fixture
async def client(connection: FakeConnection) -> AsyncIterator[EngineClient]:
    """The real client, talking to it."""
    async with client_of(connection) as client:
        yield client
