"""One real vLLM with the bundled model for all live tests; each test has a database of its own."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bot.assistant import Assistant
from engine import bundled
from engine.client import EngineClient
from engine.process import LocalEngine
from engine.state import Address
from settings import REPOSITORY, Data, Engine, Persona, Sampling, Settings
from store.session import Store

# Greedy: what a test asks must not depend on a draw. Good manners of sampling are looked at in bench/replies.py.
PERSONA = Persona(
    name="familiar",
    system="You are a helpful AI assistant named Familiar. You give short, clear and correct answers.",
    sampling=Sampling(temperature=0.0, repetition_penalty=1.0, max_tokens=60),
)
TALKER = PERSONA.model_copy(update={"name": "talker", "sampling": Sampling(temperature=0.7, max_tokens=1500)})

# What no model knows: to be learned by an adapter.
FACTS = {
    "What is the name of the harbour master's cat?": "The harbour master's cat is called Marzipan.",
    "Which colour is the gate of the old brewery?": "The gate of the old brewery is turquoise.",
    "Who repairs the town clock?": "Wilhelmina Oakes repairs the town clock.",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/live/" in item.path.as_posix():
            item.add_marker(pytest.mark.live)
            item.add_marker(pytest.mark.timeout(900))


async def ready(engine: LocalEngine) -> Address:
    address = None
    async for state in engine.wait():
        address = state.address
    assert address is not None
    return address


@pytest.fixture(scope="session")
def live_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A data folder of its own, which borrows the model that `make setup` prepared."""
    models = REPOSITORY / "var" / "models"
    bundled.ensure(models, print)
    folder = tmp_path_factory.mktemp("live")
    (folder / "models").symlink_to(models)
    return Settings(
        data=Data(folder=folder),
        engine=Engine(model="bundled", lora="on", max_restarts=20, keep_alive_minutes=0, max_model_len=2048),
        persona=(PERSONA, TALKER),
    )


@pytest.fixture(scope="session")
def engine(live_settings: Settings) -> Iterator[LocalEngine]:
    """The one engine, ready."""
    engine = LocalEngine(live_settings)
    try:
        asyncio.run(ready(engine))
        yield engine
    finally:
        log = engine.files.log
        asyncio.run(engine.stop())
        if log.exists():  # the temporary folder goes; a failed run is explained by this
            shutil.copy(log, REPOSITORY / "var" / "log-of-live-tests.txt")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, live_settings: Settings) -> Path:
    """A LoRA adapter that learned FACTS. In a process of its own: torch in this one would keep its memory."""
    folder = tmp_path_factory.mktemp("adapter")
    model = live_settings.data.folder / "models" / bundled.NAME
    facts = folder / "facts.json"
    facts.write_text(json.dumps(FACTS))
    command = [sys.executable, "-m", "tests.live.train_facts", str(model), str(facts), str(folder / "lora")]
    subprocess.run(command, check=True, cwd=REPOSITORY)
    return folder / "lora"


@pytest.fixture
async def client(engine: LocalEngine) -> AsyncIterator[EngineClient]:
    async with EngineClient(
        engine, max_concurrent=16, first_token_timeout_s=300, between_tokens_timeout_s=120
    ) as opened:
        yield opened


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(f"sqlite:///{tmp_path / 'familiar.db'}") as opened:
        yield opened


@pytest.fixture
def assistant(store: Store, client: EngineClient, live_settings: Settings) -> Assistant:
    return Assistant(store, client, live_settings)
