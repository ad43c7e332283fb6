"""Whole models in the base model's place: registered, started onto, rolled back, and left out when they are not fit."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine import whole_model
from engine.adapter_check import ORIGIN, base_fingerprint
from engine.adapters import Adapters, resolve
from engine.client import ChatRequest, Done, EngineClient
from engine.errors import AdapterRefused, UnknownModel
from engine.in_force import put_in_force, roll_back
from engine.process import LocalEngine, _as_environment
from engine.state import State
from settings import Data, Engine, Settings
from store import adapters as table
from store.session import Store
from store.tables import Adapter
from tests.engine.tiny import save_adapter, save_base
from tests.fakes.vllm import FakeConnection, FakeVllm

SUPERVISED = Path(__file__).with_name("supervised.py")
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_base(tmp_path_factory.mktemp("models") / "base")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder


def save_whole(
    folder: Path, base: Path, *, seed: int = 1, change: Callable[[dict[str, torch.Tensor]], None] | None = None
) -> Path:
    """A model made from the base by moving one of its weights."""
    shutil.copytree(base, folder)
    tensors = load_file(folder / WEIGHTS)
    (change or (lambda each: each["model.norm.weight"].add_(seed)))(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    origin = {"kind": "model", "way": "bitfit", "base_fingerprint": base_fingerprint(base)}
    (folder / ORIGIN).write_text(json.dumps(origin))
    return folder


@pytest.fixture
def made(base: Path, tmp_path: Path) -> Path:
    return save_whole(tmp_path / "made", base)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def store(data: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{data / 'familiar.db'}").open()
    yield store
    store.close()


@pytest.fixture
def adapters(store: Store, data: Path) -> Adapters:
    return Adapters(store, data / "adapters", max_cpu_loras=4)


# Into the registry


def test_a_whole_model_is_kept_as_the_next_version_and_cannot_be_changed(
    adapters: Adapters, made: Path, base: Path
) -> None:
    row = adapters.register_model("familiar", made, base)
    assert (row.kind, row.version, row.base_fingerprint) == ("model", 1, base_fingerprint(base))
    kept = adapters.root / row.folder
    assert {file.name for file in kept.iterdir()} == {file.name for file in made.iterdir()}
    assert all(not file.stat().st_mode & stat.S_IWUSR for file in kept.iterdir())
    assert not row.loaded
    assert not row.active


def test_the_same_model_again_is_the_version_that_it_is_already(adapters: Adapters, made: Path, base: Path) -> None:
    first = adapters.register_model("familiar", made, base)
    assert adapters.register_model("familiar", made, base).version == first.version


def test_programs_and_pickles_in_the_folder_are_not_kept(adapters: Adapters, made: Path, base: Path) -> None:
    for name in ("modeling_evil.py", "pytorch_model.bin"):
        (made / name).write_text("import os")
    row = adapters.register_model("familiar", made, base)
    assert not [file for file in (adapters.root / row.folder).iterdir() if file.suffix in (".py", ".bin")]


def test_only_the_adapter_that_answers_everybody_can_be_a_whole_model(
    adapters: Adapters, made: Path, base: Path
) -> None:
    with pytest.raises(AdapterRefused, match="can only be a version of familiar"):
        adapters.register_model("house", made, base)


def another_base(made: Path, base: Path) -> None:
    origin = json.loads((made / ORIGIN).read_text()) | {"base_fingerprint": "0" * 32}
    (made / ORIGIN).write_text(json.dumps(origin))


def cut_short(made: Path, base: Path) -> None:
    (made / WEIGHTS).write_bytes((made / WEIGHTS).read_bytes()[:-100])


def another_tokenizer(made: Path, base: Path) -> None:
    (made / "tokenizer.json").write_text('{"another": 1}')


def another_shape(made: Path, base: Path) -> None:
    config = json.loads((made / "config.json").read_text()) | {"num_attention_heads": 8}
    (made / "config.json").write_text(json.dumps(config))


def without_a_layer(made: Path, base: Path) -> None:
    tensors = load_file(made / WEIGHTS)
    del tensors["model.norm.weight"]
    save_file(tensors, made / WEIGHTS)


def not_a_number(made: Path, base: Path) -> None:
    tensors = load_file(made / WEIGHTS)
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, made / WEIGHTS)


def a_link(made: Path, base: Path) -> None:
    (made / WEIGHTS).unlink()
    (made / WEIGHTS).symlink_to(base / WEIGHTS)


def not_meant_to_be_served(made: Path, base: Path) -> None:
    origin = json.loads((made / ORIGIN).read_text()) | {"kind": "offline"}
    (made / ORIGIN).write_text(json.dumps(origin))


def no_origin(made: Path, base: Path) -> None:
    (made / ORIGIN).unlink()


def narrower_attention(made: Path, base: Path) -> None:
    tensors = load_file(made / WEIGHTS)
    name = "model.layers.0.self_attn.q_proj.weight"
    tensors[name] = tensors[name][:-2].clone()
    save_file(tensors, made / WEIGHTS)


UNFIT = {
    another_base: "another base model",
    cut_short: "damaged or was cut short",
    another_tokenizer: "tokenizer.json .* not the base model's",
    another_shape: "num_attention_heads",
    without_a_layer: "lacks model.norm.weight",
    not_a_number: "NaN",
    a_link: "symbolic link",
    no_origin: "no familiar.json",
    not_meant_to_be_served: "another base model",
    narrower_attention: "has the shape",
}


@pytest.mark.parametrize("fault", UNFIT, ids=lambda fault: fault.__name__)
def test_an_unfit_model_is_refused_with_the_reason_and_leaves_nothing(
    adapters: Adapters, made: Path, base: Path, fault: Callable[[Path, Path], None]
) -> None:
    fault(made, base)
    with pytest.raises(AdapterRefused, match=UNFIT[fault]):
        adapters.register_model("familiar", made, base)
    assert table.all_adapters(adapters.store) == []
    assert not list((adapters.root / "familiar").glob("*")) if adapters.root.exists() else True


def test_a_wider_feed_forward_layer_is_no_fault(made: Path, base: Path) -> None:
    tensors = load_file(made / WEIGHTS)
    for name in [each for each in tensors if ".mlp." in each]:
        tensors[name] = torch.nn.functional.pad(tensors[name], (0, 8) if "down" in name else (0, 0, 0, 8))
    save_file(tensors, made / WEIGHTS)
    config = json.loads((made / "config.json").read_text())
    (made / "config.json").write_text(json.dumps(config | {"intermediate_size": config["intermediate_size"] + 8}))
    assert whole_model.check(made, base) == base_fingerprint(base)


# Into the running engine


class FastEngine(LocalEngine):
    """A LocalEngine whose supervisor runs the stand-in for vLLM."""

    base: Path
    started: list[subprocess.Popen[bytes]]

    def _start_supervisor(self) -> subprocess.Popen[bytes]:
        self.files.make()
        environment = os.environ | _as_environment(self.settings) | {"FAKE_MODEL": str(self.base)}
        with self.files.supervisor_log.open("ab") as log:
            started = subprocess.Popen(
                [sys.executable, str(SUPERVISED)], env=environment, stdout=log, stderr=log, start_new_session=True
            )
        self.started.append(started)
        return started

    @property
    def log(self) -> str:
        return self.files.supervisor_log.read_text()


@pytest.fixture
async def engine(data: Path, base: Path) -> AsyncIterator[FastEngine]:
    made = FastEngine(Settings(data=Data(folder=data), engine=Engine(model="bundled", max_restarts=1)))
    made.base, made.started = base, []
    yield made
    await made.stop()
    for process in made.started:
        await asyncio.to_thread(process.wait, 30)


@pytest.fixture
async def client(engine: FastEngine) -> AsyncIterator[EngineClient]:
    async with EngineClient(engine, max_concurrent=16, first_token_timeout_s=60, between_tokens_timeout_s=30) as client:
        yield client


@pytest.fixture
def whole(adapters: Adapters, made: Path, base: Path) -> Adapter:
    return adapters.register_model("familiar", made, base)


@pytest.fixture
def lora(adapters: Adapters, base: Path, tmp_path: Path) -> Adapter:
    return adapters.register("familiar", save_adapter(tmp_path / "lora", base), base, max_rank=16)


async def ready(engine: LocalEngine) -> State:
    state: State | None = None
    async for state in engine.wait():
        pass
    assert state is not None
    return state


async def served(engine: LocalEngine) -> str:
    return (await ready(engine)).served().whole


async def put(engine: LocalEngine, adapters: Adapters, row: Adapter) -> str:
    return await put_in_force(engine, adapters, row.name, row.version, lambda _: None)


async def back(engine: LocalEngine, adapters: Adapters) -> str:
    return await roll_back(engine, adapters, "familiar", lambda _: None)


async def ask(client: EngineClient, adapter: str) -> tuple[str, Done]:
    return await client.complete(ChatRequest(({"role": "user", "content": "Who are you?"},), {}, "1", adapter))


async def test_the_engine_is_started_onto_the_model_and_rollback_brings_the_base_back(
    engine: FastEngine, adapters: Adapters, whole: Adapter, client: EngineClient, store: Store
) -> None:
    assert await put(engine, adapters, whole) == "familiar@1"
    assert resolve(store, "") == "familiar@1"
    said, done = await ask(client, resolve(store, ""))
    assert said == "I am 1"  # its folder's name
    assert done.adapter == "familiar@1"
    assert await back(engine, adapters) == ""
    assert resolve(store, "") == ""
    said, done = await ask(client, "")
    assert (said, done.adapter) == ("I am base", "")


async def test_a_turn_that_runs_or_waits_while_the_engine_restarts_is_answered_once(
    engine: FastEngine, adapters: Adapters, whole: Adapter, client: EngineClient, store: Store
) -> None:
    await ready(engine)
    running = asyncio.create_task(ask(client, resolve(store, "")))
    answers: list[tuple[str, Done]] = []

    async def keep_asking() -> None:
        while True:
            answers.append(await ask(client, resolve(store, "")))

    asking = [asyncio.create_task(keep_asking()) for _ in range(3)]
    await asyncio.sleep(0.1)
    assert await put(engine, adapters, whole) == "familiar@1"
    assert await back(engine, adapters) == ""
    final = await ask(client, resolve(store, ""))
    assert not [task for task in asking if task.done()]  # none has failed
    for task in asking:
        task.cancel()
    assert (await running)[0] == "I am base"
    assert final[0] == "I am base"
    assert {said for said, _ in answers} <= {"I am base", "I am 1"}
    for said, done in answers:  # and each knows who answered it
        assert done.adapter == ("familiar@1" if said == "I am 1" else "")


@pytest.mark.parametrize("wanted", ["familiar@7", ""])
async def test_what_waited_for_something_else_is_answered_by_the_whole_model(wanted: str) -> None:
    async with FakeVllm() as vllm:
        address = vllm.address.model_copy(update={"whole": "familiar@8", "wholes": ("familiar@8",)})
        async with EngineClient(
            FakeConnection(address), max_concurrent=1, first_token_timeout_s=9, between_tokens_timeout_s=9
        ) as client:
            _, done = await ask(client, wanted)
    assert vllm.chats[0].body["model"] == vllm.model
    assert done.adapter == "familiar@8"


async def test_what_waited_for_a_whole_model_that_is_gone_is_answered_by_the_base_and_adapters_as_before() -> None:
    async with FakeVllm() as vllm:
        vllm.adapters["familiar@7"] = "somewhere"
        address = vllm.address.model_copy(update={"wholes": ("familiar@8",)})
        async with EngineClient(
            FakeConnection(address), max_concurrent=1, first_token_timeout_s=9, between_tokens_timeout_s=9
        ) as client:
            assert (await ask(client, "familiar@8"))[1].adapter == ""
            assert (await ask(client, "familiar@7"))[1].adapter == "familiar@7"
            with pytest.raises(UnknownModel):
                await ask(client, "familiar@9")


async def test_the_model_in_force_is_served_after_the_machine_restarts(
    engine: FastEngine, adapters: Adapters, whole: Adapter
) -> None:
    await put(engine, adapters, whole)
    await engine.stop()
    assert await served(engine) == "familiar@1"


async def test_from_an_adapter_to_a_model_and_back_to_the_adapter(
    engine: FastEngine, adapters: Adapters, lora: Adapter, made: Path, base: Path, store: Store, client: EngineClient
) -> None:
    await put(engine, adapters, lora)
    whole = adapters.register_model("familiar", made, base)
    await put(engine, adapters, whole)
    assert (await ask(client, "familiar@1"))[0] == "I am 2"  # adapters of the base are not served beside it
    assert await back(engine, adapters) == "familiar@1"
    assert resolve(store, "") == "familiar@1"
    assert (await ask(client, "familiar@1"))[1].adapter == "familiar@1"
    assert await served(engine) == ""
    assert await put(engine, adapters, whole) == "familiar@2"
    assert await put(engine, adapters, lora) == "familiar@1"  # without rollback, too


async def test_an_adapter_made_for_the_base_is_refused_beside_a_whole_model(
    engine: FastEngine, adapters: Adapters, lora: Adapter, made: Path, base: Path, store: Store
) -> None:
    await put(engine, adapters, lora)
    await put(engine, adapters, adapters.register_model("familiar", made, base))
    with pytest.raises(AdapterRefused, match="serves the whole model familiar@2"):
        await adapters.load((await ready(engine)).served(), "familiar", lora.version)
    assert table.get(store, "familiar", lora.version).loaded  # it comes back with the base model


async def test_from_one_model_to_the_next_and_back(
    engine: FastEngine, adapters: Adapters, whole: Adapter, base: Path, tmp_path: Path, store: Store
) -> None:
    await put(engine, adapters, whole)
    second = adapters.register_model("familiar", save_whole(tmp_path / "second", base, seed=2), base)
    assert await put(engine, adapters, second) == await served(engine) == "familiar@2"
    assert [row.version for row in table.all_adapters(store) if row.active] == [2]
    assert await back(engine, adapters) == await served(engine) == "familiar@1"


@pytest.mark.parametrize("damage", ["missing", "cut", "not served by vLLM"])
async def test_at_a_start_a_model_that_cannot_be_served_gives_way_to_the_base_and_the_log_says_why(
    engine: FastEngine, adapters: Adapters, whole: Adapter, store: Store, damage: str
) -> None:
    await put(engine, adapters, whole)
    await engine.stop()
    folder = adapters.root / whole.folder
    folder.chmod(0o700)
    if damage == "missing":
        shutil.rmtree(folder)
    elif damage == "cut":
        (folder / WEIGHTS).chmod(0o600)
        os.truncate(folder / WEIGHTS, 1000)
    else:
        (folder / "will-not-start").touch()
    state = await ready(engine)
    assert state.served().whole == ""
    assert "familiar@1 is left out" in state.detail
    assert "familiar@1 is left out" in engine.log
    assert resolve(store, "") == ""
    assert table.active(store, "familiar") is None


async def test_a_model_that_will_not_start_is_told_and_what_was_in_force_still_is(
    engine: FastEngine, adapters: Adapters, whole: Adapter, base: Path, tmp_path: Path, store: Store
) -> None:
    await put(engine, adapters, whole)
    bad = adapters.register_model("familiar", save_whole(tmp_path / "second", base, seed=2), base)
    folder = adapters.root / bad.folder
    folder.chmod(0o700)
    (folder / "will-not-start").touch()
    with pytest.raises(AdapterRefused, match=r"could not be started onto familiar@2.*it ended while starting"):
        await put(engine, adapters, bad)
    assert await served(engine) == "familiar@1"
    assert resolve(store, "") == "familiar@1"
    (folder / "will-not-start").unlink()
    assert await put(engine, adapters, bad) == "familiar@2"  # repaired, it is tried again


async def test_a_folder_damaged_since_it_was_registered_is_refused_before_anything_is_restarted(
    engine: FastEngine, adapters: Adapters, whole: Adapter
) -> None:
    before = await ready(engine)
    weights = adapters.root / whole.folder / WEIGHTS
    weights.chmod(0o600)
    os.truncate(weights, 1000)
    with pytest.raises(AdapterRefused, match="cut short"):
        await put(engine, adapters, whole)
    assert (await ready(engine)).address == before.address


async def test_nothing_is_started_onto_a_model_while_a_group_has_an_adapter_of_its_own(
    engine: FastEngine, adapters: Adapters, whole: Adapter, base: Path, tmp_path: Path
) -> None:
    own = adapters.register("house", save_adapter(tmp_path / "house", base), base, max_rank=16)
    await put(engine, adapters, own)
    with pytest.raises(AdapterRefused, match=r"house@1 is in force.*Roll house back first"):
        await put(engine, adapters, whole)
    assert await served(engine) == ""


async def test_the_server_of_somebody_else_is_never_started_anew(adapters: Adapters, whole: Adapter) -> None:
    async with FakeVllm() as vllm:
        with pytest.raises(AdapterRefused, match="somebody else's"):
            await put_in_force(FakeConnection(vllm.address), adapters, "familiar", 1, lambda _: None)
    assert table.active(adapters.store, "familiar") is None


async def test_who_is_killed_before_the_restart_leaves_what_the_next_start_carries_out(
    engine: FastEngine, adapters: Adapters, whole: Adapter, store: Store
) -> None:
    await ready(engine)
    engine.files.ask_for("familiar@1")  # and put_in_force is killed here
    assert resolve(store, "") == ""  # the base model, which is what is served
    await engine.stop()
    assert await served(engine) == "familiar@1"
    assert resolve(store, "") == "familiar@1"


async def test_what_somebody_asked_for_who_was_killed_is_void_when_something_else_is_put_in_force(
    engine: FastEngine, adapters: Adapters, whole: Adapter, base: Path, tmp_path: Path
) -> None:
    await ready(engine)
    engine.files.ask_for("familiar@1")  # and put_in_force is killed here
    lora = adapters.register("familiar", save_adapter(tmp_path / "lora", base), base, max_rank=16)
    await put(engine, adapters, lora)
    await engine.stop()
    assert await served(engine) == ""
    assert resolve(adapters.store, "") == "familiar@2"


async def test_rollback_goes_back_step_by_step_over_models_and_adapters(
    engine: FastEngine, adapters: Adapters, lora: Adapter, made: Path, base: Path, tmp_path: Path, store: Store
) -> None:
    await put(engine, adapters, lora)
    await put(engine, adapters, adapters.register_model("familiar", made, base))
    await put(engine, adapters, adapters.register_model("familiar", save_whole(tmp_path / "next", base, seed=2), base))
    assert await back(engine, adapters) == await served(engine) == resolve(store, "") == "familiar@2"
    assert await back(engine, adapters) == resolve(store, "") == "familiar@1"
    assert await served(engine) == ""
    assert await back(engine, adapters) == resolve(store, "") == ""


async def test_another_base_model_in_the_settings_leaves_the_model_out(
    engine: FastEngine, adapters: Adapters, whole: Adapter, tmp_path: Path
) -> None:
    await put(engine, adapters, whole)
    await engine.stop()
    engine.base = save_base(tmp_path / "other", seed=3)
    state = await ready(engine)
    assert state.served().whole == ""
    assert "made from another base model" in state.detail


async def test_an_engine_that_crashes_on_the_model_again_and_again_goes_back_to_the_base(
    engine: FastEngine, adapters: Adapters, whole: Adapter
) -> None:
    await put(engine, adapters, whole)
    for _ in range(2):  # one restart is allowed
        state = await ready(engine)
        group = int((engine.files.folder / "group").read_text().split()[0])
        os.killpg(group, signal.SIGKILL)
        while (now := engine.state()).phase == "ready" and now.address == state.address:
            await asyncio.sleep(0.05)
    assert await served(engine) == ""
    assert "familiar@1 is left out" in engine.log
