"""A run that is killed goes on as if nothing had been: the same losses and the same adapter, bit by bit, on a CPU."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from finetune import job as jobs
from finetune.checkpoints import Checkpoints, State
from finetune.errors import TrainingFailed
from finetune.hardware import Plan
from finetune.job import Job, Progress
from finetune.record import Training
from finetune.training import explained, load_training, train
from settings import REPOSITORY, Finetune
from tests.finetune.tiny import chat_model, examples


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_model(tmp_path_factory.mktemp("model"))


def job(model_folder: Path, folder: Path, **settings: Any) -> Job:
    """Six steps an epoch; it looks at the validation loss, and saves its state, every third. Dropout draws in each."""
    quick = {"kl": 0.0, "batch_tokens": 192, "micro_batch_tokens": 96, "dtype": "float32", "threads": 1, "epochs": 4}
    quick |= {"dropout": 0.1, "learning_rate": 0.01, "weight_decay": 0.01}
    return Job(model_folder, folder, Finetune(**quick | settings), examples(20), examples(4, first=100))


def killed_after(step: int, wanted: Job) -> int:
    """Train in a process of its own, killed without warning when it says that so many steps are done."""
    jobs.save(wanted)
    command = [sys.executable, "-m", "finetune.work", "train", str(wanted.folder)]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line).get("done", 0) >= step:
                os.killpg(process.pid, signal.SIGKILL)
                break
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    return step


def broken_after(step: int, wanted: Job) -> None:
    """The same in this process: quicker, for what a checkpoint is enough."""

    def told(progress: Progress) -> None:
        if progress.done >= step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(wanted, told)


def same_weights(one: Path, other: Path) -> bool:
    first, second = (load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (one, other))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def without_chance(done: Training) -> Training:
    """All but what depends on how busy the machine is."""
    return replace(done, seconds=0, tokens_per_s=0, peak_mb=0, resumed=0, energy_j=None)


def test_a_run_killed_twice_ends_with_the_bits_of_an_unbroken_one(model_folder: Path, tmp_path: Path) -> None:
    unbroken = train(job(model_folder, tmp_path / "unbroken"))
    wanted = job(model_folder, tmp_path / "broken")

    killed_after(5, wanted)
    assert (wanted.folder / "checkpoints" / "last.pt").is_file()
    assert not (wanted.folder / "adapter").exists()
    killed_after(11, wanted)
    done = train(jobs.load(wanted.folder))

    assert done.resumed == 2
    assert done.steps > 12
    assert without_chance(done) == without_chance(unbroken)
    assert same_weights(tmp_path / "unbroken", tmp_path / "broken")


def test_a_run_killed_before_its_first_checkpoint_begins_anew(model_folder: Path, tmp_path: Path) -> None:
    unbroken = train(job(model_folder, tmp_path / "unbroken"))
    wanted = job(model_folder, tmp_path / "broken")

    broken_after(1, wanted)
    done = train(wanted)

    assert done.resumed == 0
    assert without_chance(done) == without_chance(unbroken)
    assert same_weights(tmp_path / "unbroken", tmp_path / "broken")


def test_a_run_ended_after_its_early_stop_does_not_train_on(model_folder: Path, tmp_path: Path) -> None:
    wanted = job(model_folder, tmp_path)
    train(wanted)
    key = json.loads((tmp_path / "training.json").read_text())["key"]
    before = load_training(tmp_path)
    (tmp_path / "adapter").rename(tmp_path / "away")
    parameters = _trainable(model_folder, wanted.settings)
    state = State(step=6, best_step=0, best_loss=1.0, stopped_early=True, curve=list(before.curve[:3]))
    checkpoints = Checkpoints(tmp_path / "checkpoints", key)
    checkpoints.save_best(state, parameters)
    optimizer = torch.optim.AdamW([{"params": list(parameters.values())}])
    checkpoints.save(state, Plan("cpu", "float32", 1, False), parameters, optimizer)

    done = train(wanted)

    assert done.steps == 6
    assert done.stopped_early
    assert (tmp_path / "adapter").is_dir()


def test_a_disk_that_is_full_during_a_checkpoint_leaves_the_one_before(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "a job")
    parameters = {"weight": torch.zeros(10_000, requires_grad=True)}
    optimizer = torch.optim.AdamW(parameters.values())
    machine = Plan("cpu", "float32", 1, False)
    checkpoints.save(State(step=3), machine, parameters, optimizer)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(TrainingFailed, match="no room left"), explained(tmp_path):
            checkpoints.save(State(step=6), machine, parameters, optimizer)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    saved = checkpoints.load()
    assert saved is not None
    assert saved.state.step == 3
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


def test_a_state_of_other_data_is_not_gone_on_from(model_folder: Path, tmp_path: Path) -> None:
    """Killed after an epoch, then told to learn something else, with another optimizer."""
    other = replace(job(model_folder, tmp_path / "other", optimizer="sgd"), train=examples(20, first=50))
    unbroken = train(other)
    broken_after(5, job(model_folder, tmp_path / "killed"))

    done = train(replace(other, folder=tmp_path / "killed"))

    assert done.resumed == 0
    assert without_chance(done) == without_chance(unbroken)


def _trainable(model_folder: Path, settings: Finetune) -> dict[str, torch.Tensor]:
    from transformers import AutoModelForCausalLM

    from finetune import methods

    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    adapted = methods.attach(model, methods.way("lora"), settings)
    return {name: each for name, each in adapted.named_parameters() if each.requires_grad}
