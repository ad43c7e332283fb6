"""What training leaves: folders that the engine takes, and that compute what was trained."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoTokenizer

from engine import whole_model
from engine.adapter_check import base_fingerprint, check
from engine.weights import tensors_in
from finetune import servable
from finetune.errors import MethodRefused
from finetune.methods import WAYS, attach, save, way
from finetune.training import TRAINING, _done
from tests.finetune.tiny import chat_model
from tests.finetune.ways import (
    IDS,
    MERGED,
    OFFLINE,
    RANK,
    SERVED_AS_ADAPTER,
    attached,
    close,
    learn,
    load,
    logits,
    save_model,
    settings,
    values,
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "base")


@pytest.mark.parametrize("name", SERVED_AS_ADAPTER)
def test_an_adapter_passes_the_engines_check_and_computes_what_was_trained(
    base: Path, tmp_path: Path, name: str
) -> None:
    model = learn(attached(base, name))
    made = save(model, way(name), tmp_path, base)
    info = check(made, base, max_rank=16)
    assert info.rank == (2 * RANK if name == "pissa" else RANK)
    assert info.base_fingerprint == base_fingerprint(base)
    assert len(info.target_modules) == 7
    assert close(logits(PeftModel.from_pretrained(load(base), made).eval()), logits(model))
    assert {file.name for file in made.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "familiar.json",
    }


@pytest.mark.parametrize("name", WAYS)
def test_nothing_that_is_saved_names_a_folder_of_this_machine(base: Path, tmp_path: Path, name: str) -> None:
    made = save(learn(attached(base, name)), way(name), tmp_path, base)
    for file in made.glob("*.json"):
        assert str(base.parent) not in file.read_text()
        assert "/tmp" not in file.read_text()


@pytest.mark.parametrize("name", WAYS)
def test_what_is_saved_can_be_measured_again(base: Path, tmp_path: Path, name: str) -> None:
    model = learn(attached(base, name))
    made = save(model, way(name), tmp_path, base)
    assert made == tmp_path / {"adapter": "adapter", "model": "model", "offline": "offline"}[way(name).served]
    again = servable.load(base, made)
    assert close(logits(again), logits(model))
    assert not [each for each, parameter in again.named_parameters() if parameter.requires_grad and name in OFFLINE]


@pytest.mark.parametrize("name", MERGED)
def test_a_merged_model_is_a_whole_folder_in_the_bases_own_number_format(tmp_path: Path, name: str) -> None:
    chat = chat_model(tmp_path / "chat")
    base = tmp_path / "base"
    save_model(base, dtype=torch.bfloat16, vocab_size=49152)
    for file in (*chat.glob("*token*"), chat / "chat_template.jinja"):
        shutil.copy(file, base)
    model = learn(attached(base, name))
    made = save(model, way(name), tmp_path, base)
    assert whole_model.check(made, base) == base_fingerprint(base)
    assert {each.dtype for each in tensors_in(made / "model.safetensors").values()} == {"BF16"}
    assert json.loads((made / "config.json").read_text())["dtype"] == "bfloat16"
    messages = [{"role": "user", "content": "你好"}]
    one, other = (AutoTokenizer.from_pretrained(folder).apply_chat_template(messages) for folder in (made, base))
    assert one == other
    again = servable.load(base, made, dtype=torch.float32)
    assert close(logits(again), logits(model), 0.02)  # bfloat16 has three digits


def test_learnt_prompts_and_prefixes_are_pefts_files(base: Path, tmp_path: Path) -> None:
    for name in OFFLINE:
        model = learn(attached(base, name))
        made = save(model, way(name), tmp_path / name, base)
        theirs = PeftModel.from_pretrained(load(base), made).eval()
        with torch.no_grad():
            computed = theirs(input_ids=IDS[:, :25], attention_mask=torch.ones(1, 25)).logits[:, -25:]
        assert close(computed, logits(model, IDS[:, :25], None))


@pytest.mark.parametrize("name", OFFLINE)
def test_learnt_prompts_and_prefixes_also_stand_before_padded_rows_and_cached_texts(
    base: Path, tmp_path: Path, name: str
) -> None:
    model = servable.load(base, save(learn(attached(base, name)), way(name), tmp_path, base))
    short, long = IDS[:, :8], IDS[:, 20:32]
    rows = torch.cat([torch.nn.functional.pad(short, (4, 0)), long])
    mask = torch.cat([torch.tensor([[0] * 4 + [1] * 8]), torch.ones(1, 12, dtype=torch.long)])
    asked = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    written = model.generate(
        input_ids=rows, attention_mask=mask, return_dict_in_generate=True, output_logits=True, **asked
    )
    for row, prompt in enumerate((short, long)):
        text = torch.cat([prompt, written.sequences[row : row + 1, 12:]], 1)
        anew = logits(model, text, None)[0, prompt.shape[1] - 1 : -1]  # read at once, without a cache
        assert close(torch.stack(written.logits)[:, row], anew)


def test_the_start_that_is_taken_away_again_is_not_in_the_saved_adapter(base: Path, tmp_path: Path) -> None:
    untouched = attached(base, "pissa")
    made = save(untouched, way("pissa"), tmp_path, base)
    assert json.loads((made / "adapter_config.json").read_text())["init_lora_weights"] is True
    assert close(logits(PeftModel.from_pretrained(load(base), made).eval()), logits(load(base)))


def test_saving_again_replaces_what_was_there(base: Path, tmp_path: Path) -> None:
    first = save(learn(attached(base, "lora")), way("lora"), tmp_path, base)
    before = load_file(first / "adapter_model.safetensors")
    second = save(learn(attached(base, "lora"), 6), way("lora"), tmp_path, base)
    after = load_file(second / "adapter_model.safetensors")
    assert first == second
    assert not all(torch.equal(before[name], after[name]) for name in before)
    assert [each.name for each in tmp_path.iterdir()] == ["adapter"]


@pytest.mark.parametrize("name", ["lora", "pissa", "full", "prefix"])
def test_a_save_that_fails_half_way_leaves_what_was_there_and_nothing_else(
    base: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = learn(attached(base, name))
    made = save(model, way(name), tmp_path, base)
    before = {file.name: file.read_bytes() for file in made.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(servable, "_write_origin", lambda *_, **__: full())
    with pytest.raises(OSError, match="No space"):
        save(learn(model), way(name), tmp_path, base)
    assert {file.name: file.read_bytes() for file in made.iterdir()} == before
    assert [each.name for each in tmp_path.iterdir()] == [made.name]


@pytest.mark.parametrize("at", range(10))
def test_killed_while_it_takes_the_place_of_another_one_of_them_is_found_whole(
    base: Path, tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = save(learn(attached(base, "lora")), way("lora"), tmp_path, base)
    model = learn(attached(base, "lora"), 6)
    weights = made / "adapter_model.safetensors"
    before, steps = weights.read_bytes(), 0

    def killed(step: Callable[..., object]) -> Callable[..., object]:
        def until(*given: object, **more: object) -> object:
            nonlocal steps
            steps += 1
            if steps > at:
                raise KeyboardInterrupt
            return step(*given, **more)

        return until

    with monkeypatch.context() as patch:
        for owner, name in ((os, "rename"), (shutil, "rmtree"), (servable, "_sync")):
            patch.setattr(owner, name, killed(getattr(owner, name)))
        with contextlib.suppress(KeyboardInterrupt):
            save(model, way("lora"), tmp_path, base)
    assert servable.made_in(tmp_path) == made
    check(made, base, max_rank=16)
    after = weights.read_bytes()
    save(model, way("lora"), tmp_path, base)
    assert after in (before, weights.read_bytes())
    assert [each.name for each in tmp_path.iterdir() if not each.name.startswith(".adapter-")] == ["adapter"]


def test_a_run_that_was_killed_there_does_not_train_again(base: Path, tmp_path: Path) -> None:
    made = save(attached(base, "lora"), way("lora"), tmp_path, base)
    (tmp_path / TRAINING).write_text(json.dumps({"key": "k", "method": "lora", "base": "base", "curve": []}))
    made.rename(tmp_path / ".adapter.before")
    assert _done(tmp_path, "k") is not None
    assert made.is_dir()


def test_a_folder_with_nothing_of_ours_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(MethodRefused, match="neither an adapter nor a model"):
        servable.load(base, tmp_path)


def test_in_bfloat16_too_pissa_is_served_as_it_was_trained(tmp_path: Path) -> None:
    """What is left of a weight without its main part cannot be kept in bfloat16."""
    model = load(save_model(tmp_path / "base", dtype=torch.bfloat16)).to(torch.bfloat16)
    weights = {name: each.clone() for name, each in model.named_parameters()}
    model = attach(model, way("pissa"), settings("pissa"))
    kept = {
        name.replace(".base_layer.", ".").removeprefix("base_model.model."): each
        for name, each in values(model).items()
    }
    assert all(torch.equal(kept[name], each) for name, each in weights.items())
