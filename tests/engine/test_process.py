"""A vLLM server that somebody else runs, by URL; and what vLLM is started with."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import SecretStr

from engine import vllm as command_line
from engine.errors import EngineFailed, WrongKey
from engine.hardware import Gpu, Hardware
from engine.process import LocalEngine, RemoteEngine, connect
from engine.state import Address
from settings import Data, Engine, Settings
from tests.fakes.vllm import FakeVllm

LAPTOP = Hardware(gpus=(), cores=2, memory_gib=24)
SERVER = Hardware(gpus=(Gpu("H100", 80),), cores=16, memory_gib=128)


def remote(url: str, key: str = "", model: str = "auto") -> RemoteEngine:
    return RemoteEngine(Settings(engine=Engine(url=url, api_key=SecretStr(key), model=model)))


async def address_of(engine: RemoteEngine) -> Address:
    states = [state async for state in engine.wait()]
    assert [state.phase for state in states] == ["ready"]
    assert states[0].address is not None
    return states[0].address


async def test_a_server_by_url_is_used_as_it_is(vllm: FakeVllm) -> None:
    found = await address_of(remote(vllm.address.url, vllm.address.api_key))
    assert found.model == vllm.address.model
    assert found.url == vllm.address.url


async def test_a_url_may_end_in_v1(vllm: FakeVllm) -> None:
    assert (await address_of(remote(vllm.address.url + "/v1/", vllm.address.api_key))).url == vllm.address.url


async def test_a_wrong_key_is_told_as_such(vllm: FakeVllm) -> None:
    with pytest.raises(WrongKey, match=r"engine\.api_key"):
        await address_of(remote(vllm.address.url, "guess"))


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://no-such-host.invalid:8000", "nonsense"])
async def test_a_server_out_of_reach_is_told_with_its_setting(url: str) -> None:
    with pytest.raises(EngineFailed, match=r"engine\.url"):
        await address_of(remote(url))


def test_the_url_decides_whether_anything_is_started(tmp_path: Path) -> None:
    assert isinstance(connect(Settings(data=Data(folder=tmp_path))), LocalEngine)
    assert isinstance(connect(Settings(engine=Engine(url="http://127.0.0.1:8000"))), RemoteEngine)
    assert not (tmp_path / "engine").exists()


def launch(
    hardware: Hardware,
    folder: Path,
    *,
    lora: bool = False,
    training: Literal["sleep", "share"] = "sleep",
    **engine: object,
) -> command_line.Launch:
    (folder / "config.json").write_text('{"max_position_embeddings": 2048}')
    settings = Engine(**engine)  # type: ignore[arg-type]
    return command_line.launch(
        settings,
        folder,
        "smol",
        hardware,
        port=4242,
        api_key="secret",
        lora=lora,
        adapters=folder / "adapters",
        training=training,
    )


def test_the_key_goes_by_the_environment_and_the_server_listens_on_loopback_alone(tmp_path: Path) -> None:
    made = launch(LAPTOP, tmp_path)
    assert "secret" not in made.command
    assert made.environment["VLLM_API_KEY"] == "secret"
    assert made.command[made.command.index("--host") + 1] == "127.0.0.1"


def test_nothing_is_fetched_or_reported_and_without_a_gpu_dev_mode_is_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_SERVER_DEV_MODE", "1")
    environment = launch(LAPTOP, tmp_path).environment
    assert environment["HF_HUB_OFFLINE"] == environment["VLLM_NO_USAGE_STATS"] == environment["DO_NOT_TRACK"] == "1"
    assert "VLLM_SERVER_DEV_MODE" not in environment


def test_adapters_can_be_loaded_only_where_lora_is_on(tmp_path: Path) -> None:
    off, on = launch(LAPTOP, tmp_path), launch(LAPTOP, tmp_path, lora=True, max_lora_rank=32)
    assert "--enable-lora" not in off.command
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" not in off.environment
    assert on.command[on.command.index("--max-lora-rank") + 1] == "32"
    assert on.environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"


def test_the_context_is_never_longer_than_the_models(tmp_path: Path) -> None:
    assert launch(LAPTOP, tmp_path, max_model_len=4096).max_model_len == 2048
    assert launch(LAPTOP, tmp_path, max_model_len=1024).max_model_len == 1024


def test_the_operators_flags_come_last_and_verbatim(tmp_path: Path) -> None:
    assert launch(SERVER, tmp_path, flags=("--quantization", "fp8")).command[-2:] == ["--quantization", "fp8"]


def test_a_gpu_gets_a_memory_share_and_a_cpu_its_threads(tmp_path: Path) -> None:
    gpu, cpu = launch(SERVER, tmp_path, gpu_memory_share=0.5), launch(LAPTOP, tmp_path, cpu_threads=1)
    assert gpu.command[gpu.command.index("--gpu-memory-utilization") + 1] == "0.5"
    assert "--enforce-eager" not in gpu.command
    assert cpu.environment["OMP_NUM_THREADS"] == "1"
    assert launch(LAPTOP, tmp_path).environment["OMP_NUM_THREADS"] == "2"


def test_on_a_gpu_the_engine_can_sleep_while_a_model_is_trained(tmp_path: Path) -> None:
    gpu, cpu = launch(SERVER, tmp_path), launch(LAPTOP, tmp_path)
    assert "--enable-sleep-mode" in gpu.command
    assert gpu.environment["VLLM_SERVER_DEV_MODE"] == "1"
    assert "--enable-sleep-mode" not in cpu.command


def test_or_it_leaves_a_share_of_the_memory_to_training(tmp_path: Path) -> None:
    def share(**engine: object) -> str:
        made = launch(SERVER, tmp_path, training="share", **engine)
        assert "--enable-sleep-mode" not in made.command
        assert "VLLM_SERVER_DEV_MODE" not in made.environment
        return made.command[made.command.index("--gpu-memory-utilization") + 1]

    assert share() == "0.6"
    assert share(gpu_memory_share=0.3) == "0.3", "there is room already"
