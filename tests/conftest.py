"""Fixtures that more than one package's tests use."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.client import EngineClient
from tests.fakes.talk import client_of
from tests.fakes.vllm import FakeConnection, FakeVllm


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the bundled embedding model is, converted once for all tests. They read it and change nothing."""
    from knowledge.embedding import bundled

    return bundled.ensure(tmp_path_factory.mktemp("prepared"), lambda line: None).parent


@pytest.fixture
def data(tmp_path: Path, models: Path) -> Path:
    """An empty data folder, in which nothing has to be converted."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "models").symlink_to(models)
    return folder


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
