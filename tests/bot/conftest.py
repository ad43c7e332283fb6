"""An assistant with a real database and a real client; only the engine behind it is a fake."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bot.assistant import Assistant
from engine.client import EngineClient
from settings import Assistant as AssistantSettings
from settings import Example, Persona, Sampling, Settings
from store import conversations, people
from store.session import Store
from store.tables import Conversation, Person
from tests.fakes.vllm import FakeConnection

PERSONAS = (
    Persona(name="familiar", title="Familiar", system="Be brief."),
    Persona(
        name="classifier",
        title="Sentiment",
        system="Label the text.",
        examples=(Example(user="Awful.", assistant="negative"), Example(user="Great!", assistant="positive")),
        sampling=Sampling(temperature=0.0, max_tokens=4),
    ),
    Persona(name="diary", system="It is {weekday}, {date}; you talk to {user}."),
)


@pytest.fixture
def settings() -> Settings:
    return Settings(persona=PERSONAS, assistant=AssistantSettings(reply_reserve_tokens=16))


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "familiar.db"


@pytest.fixture
def store(database: Path) -> Iterator[Store]:
    with Store(f"sqlite:///{database}", busy_timeout_s=0.2) as opened:
        yield opened


@pytest.fixture
async def client(connection: FakeConnection) -> AsyncIterator[EngineClient]:
    async with EngineClient(
        connection, max_concurrent=16, first_token_timeout_s=5, between_tokens_timeout_s=5
    ) as opened:
        yield opened


@pytest.fixture
def assistant(store: Store, client: EngineClient, settings: Settings) -> Assistant:
    return Assistant(store, client, settings)


@pytest.fixture
def person(store: Store) -> Person:
    return people.person_for(store, "terminal", "ada", "Ada", "en")


@pytest.fixture
def conversation(store: Store, person: Person) -> Conversation:
    assert person.id is not None
    return conversations.start(store, person.id, "terminal", "familiar")
