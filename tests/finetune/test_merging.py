"""Learnt changes as weights of the model: the same function, and the trained model left as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from finetune import servable
from finetune.errors import MethodRefused
from finetune.merging import merged
from finetune.methods import save, way
from tests.finetune.ways import MERGED, attached, close, learn, load, logits, save_model, values

SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "untied": {"tie_word_embeddings": False},
    "with biases": {"attention_bias": True, "mlp_bias": True},
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module", params=SHAPES)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "base", **SHAPES[request.param])


@pytest.mark.parametrize("name", MERGED)
def test_a_merged_model_computes_what_the_trained_one_does(base: Path, tmp_path: Path, name: str) -> None:
    model = learn(attached(base, name))
    trained = logits(model)
    assert not close(trained, logits(load(base)), 1e-3)
    made = save(model, way(name), tmp_path, base)
    assert made == tmp_path / "model"
    assert close(logits(servable.load(base, made, dtype=torch.float32)), trained)


@pytest.mark.parametrize("name", MERGED)
def test_merging_leaves_the_trained_model_as_it_was(base: Path, name: str) -> None:
    model = learn(attached(base, name))
    before, computed = values(model), logits(model)
    merged(model)
    assert torch.equal(logits(model), computed)
    assert all(torch.equal(value, before[each]) for each, value in values(model).items())


def test_a_bottleneck_is_a_wider_layer_and_nothing_else(base: Path) -> None:
    weights, config = merged(learn(attached(base, "bottleneck")))
    assert config == {"intermediate_size": 48 + 64}
    before = load(base).state_dict()
    assert weights.keys() == before.keys()
    different = {name for name, value in weights.items() if value.shape != before[name].shape}
    assert all(".mlp." in name for name in different)
    assert all(torch.equal(value, before[name]) for name, value in weights.items() if name not in different)


@pytest.mark.parametrize("end", ["embed_tokens", "lm_head"])
def test_lora_on_an_end_of_the_model_is_refused(tmp_path: Path, end: str) -> None:
    base = save_model(tmp_path / "base")
    config = LoraConfig(r=2, target_modules=["q_proj", end], task_type="CAUSAL_LM")
    model = get_peft_model(load(base), config)
    with pytest.raises(MethodRefused, match=f"{end}, an end of the model.*Leave it out"):
        save(model, way("lora"), tmp_path / "run", base)
    with pytest.raises(MethodRefused, match=f"{end}, an end of the model"):
        merged(model)
    assert not (tmp_path / "run" / "adapter").exists()


def test_no_way_of_ours_touches_an_end_of_the_model(tmp_path: Path) -> None:
    base = save_model(tmp_path / "base", tie_word_embeddings=False)
    for name in ("lora", "dora", "ia3"):
        learning = [each for each, parameter in attached(base, name).named_parameters() if parameter.requires_grad]
        assert not [each for each in learning if "embed" in each or "lm_head" in each]


@pytest.mark.parametrize("name", MERGED)
def test_what_diverged_is_not_saved(tmp_path: Path, name: str) -> None:
    base = save_model(tmp_path / "base")
    model = attached(base, name)
    with torch.no_grad():
        next(each for each in model.parameters() if each.requires_grad).flatten()[0] = float("nan")
    with pytest.raises(MethodRefused, match=r"not finite.*lower learning rate"):
        save(model, way(name), tmp_path / "run", base)
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())
