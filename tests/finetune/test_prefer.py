"""DPO and KTO on top of a first stage, with a tiny model: what becomes likelier, and what is left when it is killed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.utils import _telemetry
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from engine.adapter_check import check
from finetune import job as jobs
from finetune import packing, servable, work
from finetune.errors import TrainingFailed
from finetune.examples import Example, Judged, Preference, Source
from finetune.job import Job, Progress
from finetune.methods import linear_layers
from finetune.prefer import prefer
from finetune.tokens import Renderer
from settings import Finetune
from tests.finetune.tiny import chat_model, examples

SYSTEM = {"role": "system", "content": "You are Familiar."}


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def first_stage(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that is not the base model: its B is not 0."""
    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules=linear_layers(base)))
    for name, each in model.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(each, std=0.02)
    return servable.save_adapter(model, tmp_path_factory.mktemp("first") / "adapter", model_folder)


def question(number: int) -> tuple[dict[str, str], ...]:
    return (SYSTEM, {"role": "user", "content": f"How do I open door {number}?"})


def pairs(count: int) -> tuple[Preference, ...]:
    return tuple(
        Preference(
            question(n),
            f"Turn the handle {n} times.",
            "I do not know anything about doors.",
            "corrected",
            Source(f"log:{n}"),
        )
        for n in range(count)
    )


def job(model_folder: Path, first_stage: Path, folder: Path, method: str, **more: object) -> Job:
    folder.mkdir(exist_ok=True)
    shutil.copytree(first_stage, folder / "adapter")
    settings = Finetune(preferences=method, dtype="float32", threads=1, learning_rate=0.05, micro_batch_tokens=512)
    return Job(model_folder, folder, settings, (), (), **more)


def margin(model_folder: Path, adapter: Path, preferences: tuple[Preference, ...]) -> float:
    """By how much the better replies are likelier than the worse ones, in nats a pair."""
    renderer = Renderer(model_folder)
    model = servable.load(model_folder, adapter, dtype="float32")

    def log_likelihood(reply: str, each: Preference) -> float:
        messages = (*each.prompt, {"role": "assistant", "content": reply})
        encoded = renderer.encode(Example(messages, (0.0, 0.0, 1.0), "imported", each.source), 512)
        assert encoded is not None
        return -packing.losses(model, [encoded], 512)[0][0]

    return sum(log_likelihood(each.chosen, each) - log_likelihood(each.rejected, each) for each in preferences) / len(
        preferences
    )


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_better_replies_become_likelier_than_worse_ones_and_the_adapter_can_be_served(
    model_folder: Path, first_stage: Path, tmp_path: Path, method: str
) -> None:
    heard: list[Progress] = []
    wanted = job(model_folder, first_stage, tmp_path / "run", method, preferences=pairs(12))

    trained = prefer(wanted, wanted.folder / "adapter", heard.append)

    before = margin(model_folder, first_stage, wanted.preferences)
    after = margin(model_folder, wanted.folder / "adapter", wanted.preferences)
    assert after > before + 1
    info = check(wanted.folder / "adapter", model_folder, max_rank=4)
    assert info.rank == 4
    assert json.loads((wanted.folder / "adapter" / "familiar.json").read_text())["base_fingerprint"]
    assert trained.method == method
    assert trained.steps == len(heard) == heard[-1].total > 0
    assert [point.step for point in trained.curve] == list(range(1, trained.steps + 1))
    assert not list(wanted.folder.glob("tmp*")), "the trainer's own folder is left behind"


def test_nobody_outside_is_told_of_it(
    model_folder: Path, first_stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    for name in ("CI", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", False)
    monkeypatch.setattr(huggingface_hub.constants, "is_offline_mode", lambda: False)
    monkeypatch.setattr(_telemetry, "_start_telemetry_thread", lambda: told.append("a thread"))
    monkeypatch.setattr(_telemetry._TELEMETRY_QUEUE, "put", told.append)
    wanted = job(model_folder, first_stage, tmp_path / "run", "dpo", preferences=pairs(2))

    prefer(wanted, wanted.folder / "adapter")

    assert told == []


def test_it_begins_where_the_first_stage_ended_and_not_at_the_base_model(
    model_folder: Path, first_stage: Path, tmp_path: Path
) -> None:
    wanted = job(model_folder, first_stage, tmp_path / "run", "dpo", preferences=pairs(4))
    barely = wanted.settings.model_copy(update={"learning_rate": 1e-12})

    prefer(Job(**{**vars(wanted), "settings": barely}), wanted.folder / "adapter")

    assert margin(model_folder, wanted.folder / "adapter", wanted.preferences) == pytest.approx(
        margin(model_folder, first_stage, wanted.preferences), abs=1e-3
    )


def test_ratings_alone_are_enough_for_kto(model_folder: Path, first_stage: Path, tmp_path: Path) -> None:
    judged = tuple(
        Judged(each.prompt, reply, good, each.source)
        for each in pairs(8)
        for reply, good in ((each.chosen, True), (each.rejected, False))
    )
    wanted = job(model_folder, first_stage, tmp_path / "run", "kto", judged=judged)

    prefer(wanted, wanted.folder / "adapter")

    assert margin(model_folder, wanted.folder / "adapter", pairs(8)) > margin(model_folder, first_stage, pairs(8)) + 1


def test_what_gives_nothing_to_compare_leaves_the_adapter_as_it_is(
    model_folder: Path, first_stage: Path, tmp_path: Path
) -> None:
    good = Judged(question(1), "Turn the handle.", True, Source("log:1"))
    same = Preference(question(1), "Turn it.", "Turn it.", "chosen", Source("log:1"))
    too_long = Preference(question(1), "Turn it. " * 2000, "No.", "chosen", Source("log:1"))
    of_no_weight = Preference(question(1), "Turn it.", "No.", "chosen", Source("log:1"), weight=0.0)
    for number, (method, given) in enumerate(
        (
            ("kto", {"judged": (good,)}),
            ("dpo", {"judged": (good,)}),
            ("dpo", {"preferences": (same, too_long, of_no_weight)}),
        )
    ):
        wanted = job(model_folder, first_stage, tmp_path / str(number), method, **given)

        trained = prefer(wanted, wanted.folder / "adapter")

        assert trained.steps == 0
        weights = "adapter_model.safetensors"
        assert (wanted.folder / "adapter" / weights).read_bytes() == (first_stage / weights).read_bytes()


def test_done_again_after_having_been_killed_it_ends_with_the_same_adapter(
    model_folder: Path, first_stage: Path, tmp_path: Path
) -> None:
    wanted = job(model_folder, first_stage, tmp_path / "run", "dpo", preferences=pairs(6))
    weights = wanted.folder / "adapter" / "adapter_model.safetensors"

    prefer(wanted, wanted.folder / "adapter")
    once = weights.read_bytes()
    prefer(wanted, wanted.folder / "adapter")  # the process had been killed before it could say that it was done

    assert weights.read_bytes() == once


def test_an_old_conversation_loses_its_first_turns_and_not_its_question(
    model_folder: Path, first_stage: Path, tmp_path: Path
) -> None:
    talk = [{"role": role, "content": f"{n} " + "word " * 100} for n in range(6) for role in ("user", "assistant")]
    long = tuple(
        Preference((SYSTEM, *talk, *question(n)[1:]), each.chosen, each.rejected, "corrected", each.source)
        for n, each in enumerate(pairs(6))
    )
    wanted = job(model_folder, first_stage, tmp_path / "run", "dpo", preferences=long)
    short = wanted.settings.model_copy(update={"max_tokens": 96})

    trained = prefer(Job(**{**vars(wanted), "settings": short}), wanted.folder / "adapter")

    assert trained.steps > 0
    assert margin(model_folder, wanted.folder / "adapter", pairs(6)) > margin(model_folder, first_stage, pairs(6)) + 1


def test_numbers_that_are_none_are_not_left_as_an_adapter(
    model_folder: Path, first_stage: Path, tmp_path: Path
) -> None:
    wanted = job(model_folder, first_stage, tmp_path / "run", "dpo", preferences=pairs(8))
    wild = wanted.settings.model_copy(update={"learning_rate": 1e30, "clip": 0.0})
    weights = "adapter_model.safetensors"

    with pytest.raises(TrainingFailed, match="number"):
        prefer(Job(**{**vars(wanted), "settings": wild}), wanted.folder / "adapter")

    assert (wanted.folder / "adapter" / weights).read_bytes() == (first_stage / weights).read_bytes()


def test_where_the_first_stage_is_done_again_the_second_begins_at_it_and_not_at_the_one_before(
    model_folder: Path, tmp_path: Path
) -> None:
    """A conversation that was forgotten between the two is in nothing of what comes out."""
    settings = Finetune(
        preferences="dpo", dtype="float32", threads=1, epochs=1, kl=0, batch_tokens=256, learning_rate=0.01
    )
    adapters = []
    for number, forgotten in enumerate((0, 4)):
        folder = tmp_path / str(number)
        if forgotten:
            jobs.save(Job(model_folder, folder, settings, examples(8), (), preferences=pairs(4)))
            work.do("train", folder, lambda progress: None)
        jobs.save(Job(model_folder, folder, settings, examples(4), (), preferences=pairs(4)))
        work.do("train", folder, lambda progress: None)
        adapters.append((folder / "adapter" / "adapter_model.safetensors").read_bytes())
    assert adapters[0] == adapters[1]
