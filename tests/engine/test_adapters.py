"""Adapters from a folder into a running server, with everything that goes wrong on the way."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import pytest
import torch
from aiohttp import web

from engine import adapter_folder
from engine.adapter_check import base_fingerprint
from engine.adapters import Adapters, resolve
from engine.errors import AdapterRefused, EngineLost, UnknownModel, WrongKey
from engine.lora_server import Loaded
from engine.state import Address
from store import adapters as table
from store.errors import StoreFull
from store.session import Store
from store.tables import Adapter
from tests.engine.tiny import rewrite_weights, save_adapter, save_base
from tests.fakes.vllm import FakeVllm, Hold, Refusal, Reply


class LoraServer(FakeVllm):
    """The fake engine with what a real one does about adapters: probabilities, NaN, and a count of loads."""

    def __init__(self) -> None:
        super().__init__()
        self.broken: set[str] = set()  # adapters whose numbers are NaN
        self.spoiling: set[str] = set()  # and after one request to these, everybody's are
        self.deadly: set[str] = set()  # adapters that kill the engine when it loads them
        self.spoilt = False
        self.loads = 0
        self.counts = True
        self.somebody_else_loads_first = False

    @property
    def loaded_in_order(self) -> list[str]:
        return [each.body["lora_name"] for each in self.requests if each.path == "/v1/load_lora_adapter"]

    @property
    def asked(self) -> list[str]:
        """The models that were asked for one token."""
        return [each.body["model"] for each in self.chats if each.body.get("logprobs")]

    async def restart(self) -> None:
        self.adapters, self.loads, self.spoilt, self.requests = {}, 0, False, []
        await self.stop()
        await self.start()

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if not body.get("logprobs"):
            return await super()._chat(request)
        if (unknown := self._unknown(body["model"])) is not None:
            return unknown.response()
        self.spoilt = self.spoilt or body["model"] in self.spoiling
        if self.spoilt or body["model"] in self.broken:
            return Refusal(400, "Out of range float values are not JSON compliant: nan").response()
        token = {"token": "Hi", "logprob": -0.5}
        return web.json_response({"choices": [{"message": {"content": "Hi"}, "logprobs": {"content": [token]}}]})

    async def _load_adapter(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body["lora_name"] in self.deadly:
            assert request.transport is not None
            request.transport.abort()
        if self.somebody_else_loads_first:
            self.adapters[body["lora_name"]] = body["lora_path"]
        response = await super()._load_adapter(request)
        self.loads += response.status == 200
        return response

    async def _metrics(self, request: web.Request) -> web.Response:
        response = await super()._metrics(request)
        label = 'handler="/v1/load_lora_adapter",method="POST",status='
        lines = [f'http_requests_total{{{label}"2xx"}} {float(self.loads)}', f'http_requests_total{{{label}"5xx"}} 9.0']
        return web.Response(text=(response.text or "") + "\n".join(lines) + "\n") if self.counts else response


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="session")
def other_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("models") / "sister", seed=1)


@pytest.fixture(scope="session")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four sound adapters."""
    return [save_adapter(tmp_path_factory.mktemp("trained"), base, seed=seed) for seed in range(4)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path / 'familiar.db'}").open()
    yield store
    store.close()


@pytest.fixture
def adapters(store: Store, tmp_path: Path) -> Adapters:
    return Adapters(store, tmp_path / "adapters", max_cpu_loras=4)


@pytest.fixture
def add(adapters: Adapters, trained: list[Path], base: Path) -> Callable[..., Adapter]:
    """Registers the first, second, ... of the sound adapters as the next version."""

    def register(which: int = 0, name: str = "familiar") -> Adapter:
        return adapters.register(name, trained[which], base, max_rank=16)

    return register


@pytest.fixture
async def server() -> AsyncIterator[LoraServer]:
    async with LoraServer() as server:
        yield server


@pytest.fixture
def address(server: LoraServer, base: Path) -> Address:
    return server.address.model_copy(update={"model_folder": base})


def row(store: Store, version: int, name: str = "familiar") -> Adapter:
    return table.get(store, name, version)


# Registering


def test_a_registered_adapter_is_a_read_only_copy(
    adapters: Adapters, trained: list[Path], base: Path, tmp_path: Path
) -> None:
    source = Path(shutil.copytree(trained[0], tmp_path / "source"))
    (source / "optimizer.pt").write_bytes(b"large")
    adapter = adapters.register("familiar", source, base, max_rank=16)
    kept = adapters.root / "familiar" / "1"
    assert (adapter.name, adapter.version, adapter.folder, adapter.base, adapter.rank) == (
        *("familiar", 1, "familiar/1", "base", 4),
    )
    assert adapter.base_fingerprint == base_fingerprint(base)
    assert (adapter.loaded, adapter.active) == (False, False)
    shutil.rmtree(source)
    assert {file.name for file in kept.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in kept.iterdir()} == {0o400}
    assert stat.S_IMODE(kept.stat().st_mode) == 0o500


def test_the_same_adapter_again_is_the_version_it_is_already(add: Callable[..., Adapter], store: Store) -> None:
    assert [add(which).version for which in (0, 1, 0, 1, 2)] == [1, 2, 1, 2, 3]
    assert len(table.all_adapters(store)) == 3


def test_the_same_adapter_under_another_name_counts_by_itself(add: Callable[..., Adapter]) -> None:
    assert (add(0).version, add(0, "legal").version) == (1, 1)


def test_a_damaged_copy_does_not_stand_for_the_adapter_any_more(
    add: Callable[..., Adapter], adapters: Adapters
) -> None:
    file = adapters.root / add(0).folder / "adapter_model.safetensors"
    file.chmod(0o600)
    os.truncate(file, 100)
    assert add(0).version == 2


@pytest.mark.parametrize("name", ["", "base", "Ärger", "a b", "../x", "-x", "a" * 33, "x@2", "x\n"])
def test_a_name_that_cannot_be_asked_for_is_refused(
    name: str, adapters: Adapters, trained: list[Path], base: Path
) -> None:
    with pytest.raises(AdapterRefused, match="cannot name an adapter"):
        adapters.register(name, trained[0], base, max_rank=16)


def test_a_refused_adapter_leaves_nothing_behind(adapters: Adapters, store: Store, base: Path, tmp_path: Path) -> None:
    unfit = save_adapter(tmp_path / "unfit", save_base(tmp_path / "deeper", layers=3))
    with pytest.raises(AdapterRefused, match="changes layer 2"):
        adapters.register("familiar", unfit, base, max_rank=16)
    assert table.all_adapters(store) == []
    assert list((adapters.root / "familiar").iterdir()) == []


def test_a_full_disk_is_told_and_leaves_nothing_behind(
    adapters: Adapters, add: Callable[..., Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(adapter_folder.shutil, "copyfileobj", full)
    with pytest.raises(AdapterRefused, match="No space left on device"):
        add(0)
    assert list((adapters.root / "familiar").iterdir()) == []


def test_a_folder_left_by_a_crash_is_not_taken_for_a_version(
    adapters: Adapters, add: Callable[..., Adapter], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StoreFull("full")

    with monkeypatch.context() as patched:
        patched.setattr(table, "register", full)
        with pytest.raises(StoreFull):
            add(0)
    (adapters.root / "familiar" / ".new-abc").mkdir()
    assert add(1).version == 2
    assert sorted(each.name for each in (adapters.root / "familiar").iterdir()) == ["1", "2"]
    assert [each.version for each in table.all_adapters(store)] == [2]


def test_several_that_register_at_once_get_a_version_each(
    adapters: Adapters, trained: list[Path], base: Path, tmp_path: Path
) -> None:
    def register(folder: Path) -> int:
        own_store = Store(f"sqlite:///{tmp_path / 'familiar.db'}").open()
        try:
            return Adapters(own_store, adapters.root).register("familiar", folder, base, max_rank=16).version
        finally:
            own_store.close()

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(register, trained)) == [1, 2, 3, 4]


# Loading and swapping


async def test_a_swap_loads_tries_and_puts_in_force(
    adapters: Adapters, add: Callable[..., Adapter], store: Store, server: LoraServer, address: Address
) -> None:
    add(0)
    assert resolve(store, "") == ""
    assert await adapters.swap(address, "familiar", 1) == "familiar@1"
    path = str(adapters.root / "familiar" / "1")
    assert await adapters.loaded(address) == [Loaded("familiar@1", path)]
    assert server.asked == ["base", "familiar@1"]
    assert resolve(store, "") == "familiar@1"
    assert row(store, 1).loaded


async def test_replies_of_the_version_before_go_on_through_a_swap(
    adapters: Adapters, add: Callable[..., Adapter], store: Store, server: LoraServer, address: Address
) -> None:
    add(0), add(1)
    await adapters.swap(address, "familiar", 1)
    hold = Hold()
    server.script(Reply("one", hold, "two"))
    body = {"model": "familiar@1", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    key = {"Authorization": f"Bearer {address.api_key}"}
    async with aiohttp.ClientSession() as session:

        async def reply() -> str:
            async with session.post(f"{address.url}/v1/chat/completions", json=body, headers=key) as response:
                return await response.text()

        under_way = asyncio.create_task(reply())
        await asyncio.wait_for(hold.reached.wait(), 5)
        await adapters.swap(address, "familiar", 2)
        hold.release.set()
        text = await under_way
    assert "two" in text
    assert "[DONE]" in text
    assert resolve(store, "") == "familiar@2"
    assert set(server.adapters) == {"familiar@1", "familiar@2"}


async def test_swapping_back_loads_nothing_again(
    adapters: Adapters, add: Callable[..., Adapter], server: LoraServer, address: Address
) -> None:
    add(0), add(1)
    for version in (1, 2, 1):
        await adapters.swap(address, "familiar", version)
    assert server.loaded_in_order == ["familiar@1", "familiar@2"]
    assert server.asked[-1] == "familiar@1"


async def test_somebody_else_may_load_it_in_the_same_moment(
    adapters: Adapters, add: Callable[..., Adapter], store: Store, server: LoraServer, address: Address
) -> None:
    add(0)
    server.somebody_else_loads_first = True
    await adapters.swap(address, "familiar", 1)
    assert resolve(store, "") == "familiar@1"


async def test_an_adapter_that_answers_with_nan_is_taken_out_again(
    adapters: Adapters, add: Callable[..., Adapter], store: Store, server: LoraServer, address: Address
) -> None:
    add(0), add(1)
    await adapters.swap(address, "familiar", 1)
    server.broken = {"familiar@2"}
    with pytest.raises(AdapterRefused, match="familiar@2 does not answer rightly and was unloaded") as refused:
        await adapters.swap(address, "familiar", 2)
    assert not refused.value.engine_poisoned
    assert set(server.adapters) == {"familiar@1"}
    assert resolve(store, "") == "familiar@1"
    assert not row(store, 2).loaded


async def test_an_adapter_that_spoils_the_engine_is_told_apart_and_left_out(
    adapters: Adapters, add: Callable[..., Adapter], store: Store, server: LoraServer, address: Address
) -> None:
    add(0), add(1)
    await adapters.swap(address, "familiar", 1)
    server.spoiling = {"familiar@2"}
    with pytest.raises(AdapterRefused, match="the engine must be restarted") as refused:
        await adapters.swap(address, "familiar", 2)
    assert refused.value.engine_poisoned
    await server.restart()
    restarted = address.model_copy(update={"url": server.url})
    assert await adapters.restore(restarted) == {}
    assert set(server.adapters) == {"familiar@1"}
    assert resolve(store, "") == "familiar@1"


async def test_an_adapter_is_not_blamed_for_an_engine_that_was_sick_before(
    adapters: Adapters, add: Callable[..., Adapter], store: Store, server: LoraServer, address: Address
) -> None:
    add(0)
    await adapters.swap(address, "familiar", 1)
    server.spoilt = True
    with pytest.raises(AdapterRefused, match="before familiar@1 was loaded") as refused:
        await adapters.load(address, "familiar", 1)
    assert refused.value.engine_poisoned
    assert row(store, 1).loaded
    assert row(store, 1).active


async def test_an_adapter_that_kills_the_engine_is_left_out(
    adapters: Adapters, add: Callable[..., Adapter], store: Store, server: LoraServer, address: Address
) -> None:
    add(0)
    adapters.mark_for_loading("familiar", 1)
    server.deadly = {"familiar@1"}
    with pytest.raises(AdapterRefused, match="lost while it loaded familiar@1") as refused:
        await adapters.load(address, "familiar", 1)
    assert refused.value.engine_poisoned
    assert not row(store, 1).loaded


async def test_files_damaged_since_never_reach_the_engine(
    adapters: Adapters, add: Callable[..., Adapter], server: LoraServer, address: Address
) -> None:
    kept = adapters.root / add(0).folder
    (kept / "adapter_model.safetensors").chmod(0o600)

    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        next(iter(tensors.values()))[0, 0] = float("nan")

    rewrite_weights(kept, spoil)
    with pytest.raises(AdapterRefused, match="holds NaN"):
        await adapters.swap(address, "familiar", 1)
    assert server.loaded_in_order == []


async def test_files_that_are_gone_are_told(
    adapters: Adapters, add: Callable[..., Adapter], server: LoraServer, address: Address
) -> None:
    shutil.rmtree(adapters.root / add(0).folder)
    with pytest.raises(AdapterRefused, match="cannot be read: No such file"):
        await adapters.swap(address, "familiar", 1)
    assert server.loaded_in_order == []


async def test_an_adapter_of_another_base_model_is_refused_and_stays_in_force_for_its_own(
    adapters: Adapters,
    add: Callable[..., Adapter],
    store: Store,
    server: LoraServer,
    address: Address,
    other_base: Path,
) -> None:
    add(0)
    await adapters.swap(address, "familiar", 1)
    await server.restart()
    sister = address.model_copy(update={"model_folder": other_base, "model": "sister"})
    server.model = "sister"
    refused = await adapters.restore(sister)
    assert "made for the base model base; the engine serves another one, sister" in str(refused["familiar@1"])
    assert resolve(store, "") == ""
    await server.restart()
    server.model = "base"
    assert await adapters.restore(address) == {}
    assert resolve(store, "") == "familiar@1"


@pytest.mark.parametrize("folder", ["../outside", "familiar/../../outside", "{outside}", "link", ".", "link/inside"])
async def test_nothing_outside_the_adapters_folder_is_ever_loaded(
    folder: str,
    adapters: Adapters,
    store: Store,
    server: LoraServer,
    address: Address,
    trained: list[Path],
    base: Path,
    tmp_path: Path,
) -> None:
    outside = Path(shutil.copytree(trained[0], tmp_path / "outside"))
    shutil.copytree(trained[0], outside / "inside")
    adapters.root.mkdir()
    (adapters.root / "link").symlink_to(outside)
    table.register(store, "familiar", 1, folder.format(outside=outside), "base", base_fingerprint(base), 4)
    with pytest.raises(AdapterRefused, match="nothing is loaded from elsewhere"):
        await adapters.load(address, "familiar", 1)
    assert server.loaded_in_order == []


async def test_the_engines_own_refusal_is_passed_on(
    adapters: Adapters, add: Callable[..., Adapter], store: Store, server: LoraServer, address: Address
) -> None:
    add(0)
    server.adapter_faults = {"familiar@1": Refusal(500, "LoRA rank 4 is greater than max_lora_rank 1.")}
    with pytest.raises(AdapterRefused, match=r"did not take familiar@1: LoRA rank 4 is greater than max_lora_rank 1\."):
        await adapters.swap(address, "familiar", 1)
    assert resolve(store, "") == ""


async def test_an_engine_without_lora_says_that_it_must_be_restarted(
    adapters: Adapters, add: Callable[..., Adapter], server: LoraServer, address: Address
) -> None:
    add(0)
    without = address.model_copy(update={"lora": False})
    with pytest.raises(AdapterRefused, match="must be restarted with LoRA"):
        await adapters.swap(without, "familiar", 1)
    assert server.requests == []


async def test_a_server_that_does_not_let_adapters_be_loaded_is_told_how(
    adapters: Adapters, add: Callable[..., Adapter], server: LoraServer, address: Address
) -> None:
    add(0)
    server.lora = False
    with pytest.raises(AdapterRefused, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"):
        await adapters.swap(address, "familiar", 1)


@pytest.mark.parametrize("counts", [True, False])
async def test_an_engine_is_not_given_more_than_it_keeps(
    counts: bool, adapters: Adapters, add: Callable[..., Adapter], store: Store, server: LoraServer, address: Address
) -> None:
    adapters.max_cpu_loras = 2
    server.counts = counts
    for which in range(3):
        add(which)
    await adapters.load(address, "familiar", 1)
    await adapters.load(address, "familiar", 2)
    await adapters.load(address, "familiar", 1)
    with pytest.raises(AdapterRefused, match=r"has taken 2 adapters since it started.*engine\.max_cpu_loras"):
        await adapters.load(address, "familiar", 3)
    assert set(server.adapters) == {"familiar@1", "familiar@2"}


async def test_an_unloaded_adapter_still_counts_until_the_engine_restarts(
    adapters: Adapters, add: Callable[..., Adapter], server: LoraServer, address: Address
) -> None:
    adapters.max_cpu_loras = 1
    add(0), add(1)
    await adapters.load(address, "familiar", 1)
    await adapters.unload(address, "familiar", 1)
    with pytest.raises(AdapterRefused, match="has taken 1 adapters"):
        await adapters.load(address, "familiar", 2)
    await server.restart()
    await adapters.load(address, "familiar", 2)
    assert set(server.adapters) == {"familiar@2"}


async def test_another_adapter_under_the_same_name_is_not_taken_for_ours(
    adapters: Adapters, add: Callable[..., Adapter], server: LoraServer, address: Address
) -> None:
    add(0)
    server.adapters["familiar@1"] = "/somewhere/else"
    with pytest.raises(AdapterRefused, match="another adapter under the name familiar@1"):
        await adapters.swap(address, "familiar", 1)


async def test_a_server_on_another_machine_must_name_the_same_base_model(
    adapters: Adapters, add: Callable[..., Adapter], server: LoraServer
) -> None:
    add(0)
    await adapters.load(server.address, "familiar", 1)
    await adapters.unload(server.address, "familiar", 1)
    server.model = "owner/other"
    with pytest.raises(AdapterRefused, match="made for the base model base, and the server says it serves owner/other"):
        await adapters.load(server.address, "familiar", 1)


async def test_an_unregistered_version_cannot_be_loaded(
    adapters: Adapters, add: Callable[..., Adapter], address: Address
) -> None:
    add(0)
    with pytest.raises(UnknownModel, match=r"no adapter familiar@7\. Registered: familiar@1\."):
        await adapters.load(address, "familiar", 7)


async def test_a_wrong_key_is_named(adapters: Adapters, address: Address) -> None:
    with pytest.raises(WrongKey):
        await adapters.loaded(address.model_copy(update={"api_key": "wrong"}))


async def test_an_engine_that_is_not_there_is_named(adapters: Adapters, server: LoraServer, address: Address) -> None:
    await server.stop()
    with pytest.raises(EngineLost, match="Is it running"):
        await adapters.loaded(address)


# After a restart


async def test_a_restart_brings_everything_back_the_one_in_force_first(
    adapters: Adapters, add: Callable[..., Adapter], store: Store, server: LoraServer, address: Address
) -> None:
    for which in range(3):
        add(which)
    await adapters.load(address, "familiar", 2)
    await adapters.swap(address, "familiar", 1)
    await server.restart()
    assert await adapters.restore(address) == {}
    assert server.loaded_in_order == ["familiar@1", "familiar@2"]
    assert resolve(store, "") == "familiar@1"


async def test_one_broken_adapter_does_not_hinder_the_others(
    adapters: Adapters, add: Callable[..., Adapter], store: Store, server: LoraServer, address: Address
) -> None:
    for which in range(3):
        add(which)
    for version in (1, 3, 2):
        await adapters.swap(address, "familiar", version)
    await server.restart()
    shutil.rmtree(adapters.root / "familiar" / "2")
    refused = await adapters.restore(address)
    assert list(refused) == ["familiar@2"]
    assert set(server.adapters) == {"familiar@1", "familiar@3"}
    assert resolve(store, "") == ""
    with pytest.raises(UnknownModel, match="familiar@2 is not loaded"):
        resolve(store, "familiar")


@pytest.mark.parametrize("fault", ["spoiling", "deadly"])
async def test_an_adapter_that_ruins_the_engine_does_so_once(
    fault: str, adapters: Adapters, add: Callable[..., Adapter], store: Store, server: LoraServer, address: Address
) -> None:
    add(0), add(1)
    await adapters.load(address, "familiar", 1)
    await adapters.swap(address, "familiar", 2)
    await server.restart()
    setattr(server, fault, {"familiar@2"})
    refused = await adapters.restore(address)
    assert list(refused) == ["familiar@2"]
    assert refused["familiar@2"].engine_poisoned
    await server.restart()
    assert await adapters.restore(address) == {}
    assert set(server.adapters) == {"familiar@1"}
    assert resolve(store, "") == ""


async def test_an_engine_lost_while_restoring_keeps_every_mark(
    adapters: Adapters, add: Callable[..., Adapter], store: Store, server: LoraServer, address: Address
) -> None:
    add(0), add(1)
    await adapters.load(address, "familiar", 1)
    await adapters.load(address, "familiar", 2)
    await server.stop()
    refused = await adapters.restore(address)
    assert len(refused) == 1
    assert all(refusal.engine_poisoned for refusal in refused.values())
    assert row(store, 1).loaded
    assert row(store, 2).loaded


async def test_a_start_without_lora_keeps_every_mark(
    adapters: Adapters, add: Callable[..., Adapter], store: Store, address: Address
) -> None:
    add(0)
    await adapters.swap(address, "familiar", 1)
    assert list(await adapters.restore(address.model_copy(update={"lora": False}))) == ["familiar@1"]
    assert row(store, 1).loaded
    assert row(store, 1).active


async def test_an_adapter_marked_while_the_engine_had_no_lora_is_there_after_the_restart(
    adapters: Adapters, add: Callable[..., Adapter], store: Store, server: LoraServer, address: Address
) -> None:
    add(0)
    adapters.mark_for_loading("familiar", 1)
    assert await adapters.restore(address) == {}
    assert set(server.adapters) == {"familiar@1"}
    assert resolve(store, "") == ""


# Back again


async def test_a_rollback_returns_to_the_version_that_was_in_force(
    adapters: Adapters, add: Callable[..., Adapter], store: Store, address: Address
) -> None:
    """Version 2 was registered and never put in force, so it was never loaded."""
    for which in range(3):
        add(which)
    await adapters.swap(address, "familiar", 1)
    await adapters.swap(address, "familiar", 3)
    assert await adapters.rollback(address, "familiar") == "familiar@1"
    assert resolve(store, "") == "familiar@1"


async def test_a_rollback_loads_a_version_that_was_unloaded(
    adapters: Adapters, add: Callable[..., Adapter], server: LoraServer, address: Address
) -> None:
    add(0), add(1)
    await adapters.swap(address, "familiar", 2)
    assert await adapters.rollback(address, "familiar") == "familiar@1"
    assert set(server.adapters) == {"familiar@1", "familiar@2"}


async def test_a_rollback_of_the_first_version_leaves_the_base_model(
    adapters: Adapters, add: Callable[..., Adapter], store: Store, address: Address
) -> None:
    add(0)
    await adapters.swap(address, "familiar", 1)
    assert await adapters.rollback(address, "familiar") == ""
    assert resolve(store, "") == ""
    with pytest.raises(AdapterRefused, match="nothing to roll back"):
        await adapters.rollback(address, "familiar")


async def test_an_unloaded_adapter_is_gone_and_stays_gone(
    adapters: Adapters, add: Callable[..., Adapter], store: Store, server: LoraServer, address: Address
) -> None:
    add(0), add(1)
    await adapters.swap(address, "familiar", 1)
    await adapters.swap(address, "familiar", 2)
    await adapters.unload(address, "familiar", 1)
    assert set(server.adapters) == {"familiar@2"}
    assert (adapters.root / "familiar" / "1").is_dir()
    await server.restart()
    await adapters.restore(address)
    assert set(server.adapters) == {"familiar@2"}
    await adapters.unload(address, "familiar", 1)


async def test_the_version_in_force_cannot_be_unloaded(
    adapters: Adapters, add: Callable[..., Adapter], server: LoraServer, address: Address
) -> None:
    add(0)
    await adapters.swap(address, "familiar", 1)
    with pytest.raises(AdapterRefused, match="is in force"):
        await adapters.unload(address, "familiar", 1)
    assert set(server.adapters) == {"familiar@1"}


# What a name stands for


async def test_what_each_way_of_asking_means(
    adapters: Adapters, add: Callable[..., Adapter], store: Store, address: Address
) -> None:
    add(0), add(1), add(2, "legal")
    await adapters.swap(address, "familiar", 1)
    await adapters.swap(address, "familiar", 2)
    await adapters.swap(address, "legal", 1)
    wanted = ["", "base", "familiar", "familiar@1", "familiar@2", "legal", "legal@1"]
    assert [resolve(store, each) for each in wanted] == [
        *("familiar@2", "", "familiar@2", "familiar@1", "familiar@2", "legal@1", "legal@1"),
    ]


@pytest.mark.parametrize(
    "wanted", ["nobody", "familiar@9", "familiar@0", "familiar@", "@1", "familiar@1@1", "familiar@" + "9" * 40, "a\0b"]
)
def test_what_is_not_registered_is_unknown(wanted: str, store: Store, add: Callable[..., Adapter]) -> None:
    add(0)
    with pytest.raises(UnknownModel, match=r"Registered: familiar@1\."):
        resolve(store, wanted)


def test_a_registered_adapter_that_is_not_loaded_cannot_answer(store: Store, add: Callable[..., Adapter]) -> None:
    add(0)
    with pytest.raises(UnknownModel, match="familiar@1 is not loaded"):
        resolve(store, "familiar@1")
    with pytest.raises(UnknownModel, match="No version of an adapter 'familiar' is in force"):
        resolve(store, "familiar")
