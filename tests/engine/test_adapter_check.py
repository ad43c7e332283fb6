"""Sound adapters pass and damaged ones do not, with words that a person can act on. All of them are PEFT's own."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.adapter_check import adapter_files, base_fingerprint, check
from engine.errors import AdapterRefused
from tests.engine.tiny import rewrite_config, rewrite_weights, save_adapter, save_base

Q0 = "base_model.model.model.layers.0.self_attn.q_proj"
EVERY_LINEAR = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def pristine(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_adapter(tmp_path_factory.mktemp("pristine"), base)


@pytest.fixture
def adapter(pristine: Path, tmp_path: Path) -> Path:
    """A sound adapter, to be damaged."""
    return Path(shutil.copytree(pristine, tmp_path / "adapter"))


def refusal(adapter: Path, base: Path, max_rank: int = 16) -> str:
    with pytest.raises(AdapterRefused) as refused:
        check(adapter, base, max_rank=max_rank)
    assert not refused.value.engine_poisoned
    return str(refused.value)


# Sound ones


def test_a_sound_adapter_is_described(adapter: Path, base: Path) -> None:
    info = check(adapter, base, max_rank=16)
    assert (info.rank, info.alpha, info.target_modules, info.layers) == (4, 8.0, ("q_proj", "v_proj"), (0, 1))
    assert info.parameters == 2 * 4 * ((32 + 32) + (32 + 16))
    assert info.base_fingerprint == base_fingerprint(base)


@pytest.mark.parametrize(
    ("options", "rank", "modules"),
    [
        ({"target_modules": "all-linear"}, 4, EVERY_LINEAR),
        ({"target_modules": ["q_proj"], "rank_pattern": {"layers.0.self_attn.q_proj": 8}}, 8, ("q_proj",)),
        ({"rank_pattern": {"^model.layers.1.self_attn.v_proj": 2}}, 4, ("q_proj", "v_proj")),
        ({"alpha_pattern": {"v_proj": 32}}, 4, ("q_proj", "v_proj")),
        ({"use_rslora": True}, 4, ("q_proj", "v_proj")),
        ({"dtype": torch.bfloat16}, 4, ("q_proj", "v_proj")),
        ({"dtype": torch.float16}, 4, ("q_proj", "v_proj")),
        ({"target_modules": r".*\.1\.mlp\.up_proj"}, 4, ("up_proj",)),
        ({"layers_to_transform": [1]}, 4, ("q_proj", "v_proj")),
        ({"init_lora_weights": "gaussian"}, 4, ("q_proj", "v_proj")),
        ({"r": 16}, 16, ("q_proj", "v_proj")),
    ],
)
def test_what_the_engine_honours_passes(
    options: dict[str, Any], rank: int, modules: tuple[str, ...], base: Path, tmp_path: Path
) -> None:
    info = check(save_adapter(tmp_path, base, **options), base, max_rank=16)
    assert (info.rank, info.target_modules) == (rank, modules)


def test_an_adapter_that_names_this_base_model_passes(adapter: Path, base: Path) -> None:
    (adapter / "familiar.json").write_text(json.dumps({"base_fingerprint": base_fingerprint(base)}))
    assert check(adapter, base, max_rank=16).rank == 4


def test_a_base_model_in_several_files_serves_as_well(adapter: Path, tmp_path: Path) -> None:
    split = save_base(tmp_path / "split", max_shard_size="20KB")
    assert (split / "model.safetensors.index.json").exists()
    assert check(adapter, split, max_rank=16).layers == (0, 1)


def test_only_what_makes_up_the_adapter_is_taken(adapter: Path) -> None:
    (adapter / "optimizer.pt").write_bytes(b"large")
    (adapter / "familiar.json").write_text("{}")
    names = [file.name for file in adapter_files(adapter)]
    assert names == ["adapter_config.json", "adapter_model.safetensors", "familiar.json"]


# The base model's fingerprint


def test_the_fingerprint_is_that_of_the_weights_not_of_the_files(base: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(base, tmp_path / "moved"))
    (moved / "config.json").write_text(
        json.dumps(json.loads((base / "config.json").read_text()) | {"transformers_version": "9", "use_cache": False})
    )
    split = save_base(tmp_path / "split", max_shard_size="20KB")
    assert base_fingerprint(moved) == base_fingerprint(split) == base_fingerprint(base)


def test_a_sister_of_the_same_shape_has_another_fingerprint(base: Path, tmp_path: Path) -> None:
    assert base_fingerprint(save_base(tmp_path, seed=1)) != base_fingerprint(base)


def test_a_change_to_one_layer_changes_the_fingerprint(base: Path, tmp_path: Path) -> None:
    tuned = Path(shutil.copytree(base, tmp_path / "tuned"))
    tensors = load_file(tuned / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"] *= 1.01
    save_file(tensors, tuned / "model.safetensors")
    assert base_fingerprint(tuned) != base_fingerprint(base)


def test_other_heads_over_the_same_weights_change_the_fingerprint(base: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(base, tmp_path / "other"))
    rewritten = json.loads((base / "config.json").read_text()) | {"num_attention_heads": 8}
    (other / "config.json").write_text(json.dumps(rewritten))
    assert base_fingerprint(other) != base_fingerprint(base)


def test_the_fingerprint_is_cheap_for_a_large_model(base: Path, tmp_path: Path) -> None:
    """A model of 20 GB, all holes: reading it whole would take the test's time and memory."""
    large = Path(shutil.copytree(base, tmp_path / "large"))
    size = 20 << 30
    header = json.dumps({"w": {"dtype": "F16", "shape": [size // 2], "data_offsets": [0, size]}}).encode()
    with (large / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)
    assert len(base_fingerprint(large)) == 32


def test_a_folder_without_weights_has_no_fingerprint(tmp_path: Path) -> None:
    with pytest.raises(AdapterRefused, match=r"no model\.safetensors"):
        base_fingerprint(tmp_path)


# The folder


def test_a_missing_folder_is_named(base: Path, tmp_path: Path) -> None:
    assert str(tmp_path / "gone") in refusal(tmp_path / "gone", base)


def test_a_file_in_the_folders_place_is_refused(base: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "is a file" in refusal(tmp_path / "file", base)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_missing_file_is_named(name: str, adapter: Path, base: Path) -> None:
    (adapter / name).unlink()
    assert f"has no {name}" in refusal(adapter, base)


@pytest.mark.parametrize("alone", [True, False])
def test_a_pickle_is_refused_unread(alone: bool, adapter: Path, base: Path) -> None:
    if alone:
        (adapter / "adapter_model.safetensors").unlink()
    os.mkfifo(adapter / "adapter_model.bin")  # reading it would hang
    assert "pickle" in refusal(adapter, base)


def test_a_link_out_of_the_folder_is_refused(adapter: Path, base: Path, tmp_path: Path) -> None:
    weights = adapter / "adapter_model.safetensors"
    weights.rename(tmp_path / "elsewhere")
    weights.symlink_to(tmp_path / "elsewhere")
    assert "symbolic link, adapter_model.safetensors" in refusal(adapter, base)


def test_a_pipe_in_a_files_place_does_not_hang(adapter: Path, base: Path) -> None:
    (adapter / "adapter_config.json").unlink()
    os.mkfifo(adapter / "adapter_config.json")
    assert "is not a file" in refusal(adapter, base)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "familiar.json"])
def test_a_file_beyond_all_measure_is_refused(name: str, adapter: Path, base: Path) -> None:
    os.truncate(adapter / name, 5 << 30) if (adapter / name).exists() else (adapter / name).write_bytes(
        b" " * (2 << 20)
    )
    assert f"{name} is larger than" in refusal(adapter, base)


# The configuration


@pytest.mark.parametrize("text", ["{", "[" * 500_000, "\xff\xfe", "null", "[]"])
def test_a_config_that_is_no_json_object_is_refused(text: str, adapter: Path, base: Path) -> None:
    (adapter / "adapter_config.json").write_text(text, encoding="latin-1")
    assert "adapter_config.json" in refusal(adapter, base)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"peft_type": "LOHA"}, "'LOHA'; only LORA"),
        ({"peft_type": None}, "only LORA"),
        ({"use_dora": True}, "uses DoRA"),
        ({"bias": "lora_only"}, "trains biases"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"trainable_token_indices": [1, 2]}, "single tokens"),
        ({"target_parameters": ["mlp.experts.down_proj"]}, "bare parameters"),
        ({"lora_bias": True}, "option lora_bias"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "option layer_replication"),
        ({"alora_invocation_tokens": [5]}, "option alora_invocation_tokens"),
        ({"use_qalora": True}, "option use_qalora"),
        ({"kasa_config": {"beta": 1e-4}}, "option kasa_config"),
        ({"an_option_of_next_year": True}, "option an_option_of_next_year"),
        ({"init_lora_weights": "pissa_niter_16"}, "changes the base model's own weights"),
        ({"r": 0}, "1 or more, not 0"),
        ({"r": "4"}, "not '4'"),
        ({"r": True}, "not True"),
        ({"r": None}, "not None"),
        ({"rank_pattern": {"q_proj": -1}}, "not -1"),
        ({"rank_pattern": [8]}, "tables from module names"),
        ({"rank_pattern": {"(a+)+$": 8}}, "not a module's name"),
        ({"rank_pattern": {"q_proj\\": 8}}, "not a module's name"),
        ({"lora_alpha": math.nan}, "not nan"),
        ({"lora_alpha": 0}, "not 0"),
        ({"lora_alpha": 10**400}, "between 0 and 65504"),
        ({"alpha_pattern": {"q_proj": math.inf}}, "not inf"),
        ({"target_modules": None}, "no target_modules"),
        ({"target_modules": [1]}, "no target_modules"),
    ],
)
def test_what_the_engine_cannot_serve_is_refused(
    changes: dict[str, Any], words: str, adapter: Path, base: Path
) -> None:
    rewrite_config(adapter, **changes)
    assert words in refusal(adapter, base)


@pytest.mark.parametrize("options", [{"r": 32}, {"rank_pattern": {"layers.1.self_attn.q_proj": 32}}])
def test_a_rank_above_the_engines_is_refused(options: dict[str, Any], base: Path, tmp_path: Path) -> None:
    words = refusal(save_adapter(tmp_path, base, **options), base)
    assert "rank 32 is above the engine's largest, 16" in words
    assert "engine.max_lora_rank" in words


def test_dora_weights_are_refused_even_if_the_config_hides_them(base: Path, tmp_path: Path) -> None:
    dora = save_adapter(tmp_path, base, use_dora=True)
    rewrite_config(dora, use_dora=False)
    assert "lora_magnitude_vector" in refusal(dora, base)


def test_an_adapter_of_the_embedding_is_refused(base: Path, tmp_path: Path) -> None:
    assert "embed_tokens" in refusal(save_adapter(tmp_path, base, target_modules=["q_proj", "embed_tokens"]), base)


@pytest.mark.parametrize("content", ['{"base_fingerprint": "0123"}', "{}", "{", "[]"])
def test_an_adapter_that_names_another_base_model_is_refused(content: str, adapter: Path, base: Path) -> None:
    (adapter / "familiar.json").write_text(content)
    assert "familiar.json" in refusal(adapter, base)


# The weights


def test_a_file_that_was_cut_short_is_refused(adapter: Path, base: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    for size in (0, 7, 100, file.stat().st_size - 1):
        os.truncate(file, size)
        assert "damaged or was cut short" in refusal(adapter, base)


def test_bytes_after_the_end_are_refused(adapter: Path, base: Path) -> None:
    with (adapter / "adapter_model.safetensors").open("ab") as file:
        file.write(b"more")
    assert "damaged" in refusal(adapter, base)


def test_a_header_that_points_outside_the_file_is_refused(adapter: Path, base: Path) -> None:
    header = json.dumps({Q0: {"dtype": "F32", "shape": [4, 32], "data_offsets": [0, 1 << 40]}}).encode()
    (adapter / "adapter_model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert "damaged" in refusal(adapter, base)


def _drop(name: str) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda tensors: tensors.pop(name)  # type: ignore[return-value]


def _put(name: str, tensor: torch.Tensor) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda tensors: tensors.update({name: tensor})


def _keep_layer_0(tensors: dict[str, torch.Tensor]) -> None:
    for name in [name for name in tensors if ".layers.0." not in name]:
        del tensors[name]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_drop(f"{Q0}.lora_B.weight"), "lacks lora_B of model.layers.0.self_attn.q_proj"),
        (_drop(f"{Q0}.lora_A.weight"), "lacks lora_A of model.layers.0.self_attn.q_proj"),
        (_keep_layer_0, "lacks layer 1"),
        (lambda tensors: tensors.clear(), "is empty"),
        (_put("base_model.model.lm_head.base_layer.weight", torch.zeros(2, 2)), "'base_model.model.lm_head.base_layer"),
        (_put("model.layers.0.self_attn.q_proj.lora_A.weight", torch.zeros(4, 32)), "not the A or B matrix"),
        (_put(f"{Q0}.lora_A.weight", torch.zeros(8, 32)), "gives it rank 4"),
        (_put(f"{Q0}.lora_B.weight", torch.zeros(32, 8)), "gives it rank 4"),
        (_put(f"{Q0}.lora_A.weight", torch.zeros(4, 31)), "the base model's has (32, 32)"),
        (_put(f"{Q0}.lora_B.weight", torch.zeros(64, 4)), "the base model's has (32, 32)"),
        (_put(f"{Q0}.lora_B.weight", torch.zeros(4)), "two dimensions"),
        (_put(f"{Q0}.lora_B.weight", torch.zeros(32, 4, dtype=torch.float64)), "stored as F64"),
        (_put(f"{Q0}.lora_B.weight", torch.zeros(32, 4, dtype=torch.int8)), "stored as I8"),
    ],
)
def test_damaged_weights_are_refused(change: Any, words: str, adapter: Path, base: Path) -> None:
    rewrite_weights(adapter, change)
    assert words in refusal(adapter, base)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("value", [math.nan, -math.nan, math.inf, -math.inf, 1e30])
def test_one_number_that_spoils_everything_is_found(
    dtype: torch.dtype, value: float, base: Path, tmp_path: Path
) -> None:
    adapter = save_adapter(tmp_path, base, dtype=dtype)

    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors[f"{Q0}.lora_B.weight"][-1, -1] = value

    rewrite_weights(adapter, spoil)
    assert f"{Q0}.lora_B.weight holds NaN, infinity" in refusal(adapter, base)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_large_and_tiny_numbers_that_can_be_computed_with_pass(dtype: torch.dtype, base: Path, tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path, base, dtype=dtype)

    def stretch(tensors: dict[str, torch.Tensor]) -> None:
        tensors[f"{Q0}.lora_B.weight"][0, :3] = torch.tensor([-65024.0, 1e-7, -0.0], dtype=dtype)

    rewrite_weights(adapter, stretch)
    assert check(adapter, base, max_rank=16).rank == 4


# Adapters of other models


def test_an_adapter_of_a_deeper_model_is_refused(base: Path, tmp_path: Path) -> None:
    deeper = save_base(tmp_path / "deeper", layers=3)
    words = refusal(save_adapter(tmp_path / "adapter", deeper), base)
    assert "changes layer 2, but the base model has 2 layers, 0 to 1" in words


def test_an_adapter_of_a_shallower_model_is_refused(base: Path, tmp_path: Path) -> None:
    deeper = save_base(tmp_path / "deeper", layers=3)
    assert "lacks layer 2" in refusal(save_adapter(tmp_path / "adapter", base), deeper)


def test_an_adapter_of_a_wider_model_is_refused(base: Path, tmp_path: Path) -> None:
    wider = save_base(tmp_path / "wider", hidden=64)
    assert "made for another model" in refusal(save_adapter(tmp_path / "adapter", wider), base)


def test_modules_of_another_architecture_are_refused(adapter: Path, base: Path) -> None:
    def rename(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            tensors[name.replace("model.layers", "transformer.h").replace("self_attn.q_proj", "attn.c_attn")] = (
                tensors.pop(name)
            )

    rewrite_weights(adapter, rename)
    assert "The base model has no transformer.h.0.attn.c_attn" in refusal(adapter, base)


def _as_of_a_vision_model(tensors: dict[str, torch.Tensor]) -> None:
    for name in list(tensors):
        tensors[name.replace("model.layers", "model.language_model.layers")] = tensors.pop(name)


def test_a_vision_models_older_file_names_are_understood(adapter: Path, base: Path, tmp_path: Path) -> None:
    """transformers calls a module model.language_model.X that older files keep as language_model.model.X."""
    seeing = Path(shutil.copytree(base, tmp_path / "seeing"))
    config = json.loads((base / "config.json").read_text())
    (seeing / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": config}))
    tensors = load_file(base / "model.safetensors")
    save_file({f"language_model.{name}": each for name, each in tensors.items()}, seeing / "model.safetensors")
    rewrite_weights(adapter, _as_of_a_vision_model)
    assert check(adapter, seeing, max_rank=16).layers == (0, 1)


def test_an_adapter_of_a_vision_model_is_refused_where_the_base_only_reads(adapter: Path, base: Path) -> None:
    rewrite_weights(adapter, _as_of_a_vision_model)
    assert "The base model has no model.language_model.layers.0" in refusal(adapter, base)


def test_packed_quantised_weights_are_matched_by_name(adapter: Path, base: Path, tmp_path: Path) -> None:
    packed = Path(shutil.copytree(base, tmp_path / "packed"))
    tensors = load_file(packed / "model.safetensors")
    for name in [name for name in tensors if name.endswith("_proj.weight")]:
        tensors.pop(name)
        tensors[name.removesuffix("weight") + "qweight"] = torch.zeros(4, 32, dtype=torch.int32)
    save_file(tensors, packed / "model.safetensors")
    assert check(adapter, packed, max_rank=16).layers == (0, 1)
