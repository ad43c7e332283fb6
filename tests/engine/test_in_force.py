"""What it takes to put an adapter in force where the engine is not ready for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.adapters import Adapters
from engine.errors import AdapterRefused, EngineFailed, UnknownModel
from engine.in_force import put_in_force, roll_back
from engine.process import LocalEngine
from engine.state import Address, State
from settings import Data, Engine, Settings
from store import adapters as table
from store.session import Store
from store.tables import Adapter
from tests.fakes.vllm import FakeConnection

ADDRESS = Address(url="http://127.0.0.1:1", api_key="", model="base", max_model_len=4096, lora=False)


class OurEngine(LocalEngine):
    """An engine of ours that runs without LoRA until it is renewed with an adapter to load."""

    def __init__(self, folder: Path, lora: str) -> None:
        super().__init__(Settings(data=Data(folder=folder), engine=Engine(lora=lora)))  # type: ignore[arg-type]
        self.renewed = 0
        self.with_lora = False
        self.adapters = Registered(folder)

    async def wait(self) -> AsyncIterator[State]:
        yield State(phase="loading", since=0)
        yield State(phase="ready", since=0, address=ADDRESS.model_copy(update={"lora": self.with_lora}))

    async def renew(self) -> None:
        self.renewed += 1
        self.with_lora = bool(self.adapters.marked)


class Registered:
    """Takes the place of engine.adapters.Adapters, which has tests of its own."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(f"sqlite:///{folder / 'familiar.db'}").open()
        table.register(self.store, "familiar", 1, "familiar/1", "", "", 1)
        table.activate(self.store, "familiar", 1)
        self.marked: list[str] = []
        self.in_force = "familiar@1"
        self.refusal: AdapterRefused | None = None

    def row(self, name: str, version: int) -> Adapter:
        return Adapter(name=name, version=version, folder="", base="", base_fingerprint="", rank=1)

    def before(self, name: str) -> Adapter:
        return self.row(name, 1)

    def mark_for_loading(self, name: str, version: int) -> None:
        self.marked.append(f"{name}@{version}")

    async def swap(self, address: Address, name: str, version: int) -> str:
        if self.refusal is not None:
            raise self.refusal
        if not address.lora:
            raise AdapterRefused("The engine runs without LoRA.")
        self.in_force = f"{name}@{version}"
        return self.in_force

    async def rollback(self, address: Address, name: str) -> str:
        return await self.swap(address, name, 0)


@pytest.fixture
def lora() -> str:
    return "auto"


@pytest.fixture
def engine(tmp_path: Path, lora: str) -> OurEngine:
    return OurEngine(tmp_path, lora)


async def test_an_engine_without_lora_is_started_anew_with_it_once(engine: OurEngine) -> None:
    phases: list[str] = []
    now = await put_in_force(engine, engine.adapters, "familiar", 2, lambda state: phases.append(state.phase))
    assert now == engine.adapters.in_force == "familiar@2"
    assert engine.renewed == 1
    assert phases == ["loading", "ready", "loading", "ready"]


@pytest.mark.parametrize("lora", ["off"])
async def test_where_lora_is_switched_off_that_is_told_and_nothing_is_restarted(engine: OurEngine) -> None:
    with pytest.raises(AdapterRefused, match="without LoRA"):
        await put_in_force(engine, engine.adapters, "familiar", 2, lambda _: None)
    assert engine.renewed == 0
    assert engine.adapters.marked == []


async def test_a_server_of_somebody_else_is_never_restarted(tmp_path: Path) -> None:
    adapters = Registered(tmp_path)
    with pytest.raises(AdapterRefused, match="without LoRA"):
        await put_in_force(FakeConnection(ADDRESS), adapters, "familiar", 2, lambda _: None)
    assert adapters.in_force == "familiar@1"


@pytest.mark.parametrize(("poisoned", "restarts"), [(True, 1), (False, 0)])
@pytest.mark.parametrize("change", ["put", "back"])
async def test_only_an_engine_that_an_adapter_has_spoilt_is_started_without_it(
    engine: OurEngine, change: str, poisoned: bool, restarts: int
) -> None:
    engine.with_lora, engine.adapters.refusal = True, AdapterRefused("NaN", engine_poisoned=poisoned)
    with pytest.raises(AdapterRefused, match="NaN"):
        if change == "put":
            await put_in_force(engine, engine.adapters, "familiar", 2, lambda _: None)
        else:
            await roll_back(engine, engine.adapters, "familiar", lambda _: None)
    assert engine.renewed == restarts


async def test_for_a_version_that_is_not_there_no_engine_is_started(tmp_path: Path) -> None:
    class Never(FakeConnection):
        async def wait(self) -> AsyncIterator[State]:
            raise AssertionError("it was waited for the engine")
            yield

    with Store(f"sqlite:///{tmp_path / 'familiar.db'}") as store, pytest.raises(UnknownModel, match="familiar@3"):
        await put_in_force(Never(ADDRESS), Adapters(store, tmp_path), "familiar", 3, lambda _: None)


async def test_an_engine_that_is_down_changes_nothing(tmp_path: Path) -> None:
    adapters, down = Registered(tmp_path), FakeConnection(ADDRESS, failure=EngineFailed("no memory"))
    for change in (
        put_in_force(down, adapters, "familiar", 2, lambda _: None),
        roll_back(down, adapters, "familiar", lambda _: None),
    ):
        with pytest.raises(EngineFailed, match="no memory"):
            await change
    assert adapters.in_force == "familiar@1"
