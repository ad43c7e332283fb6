"""The ways of training: what learns, what does not, and what is refused before anything is trained."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from finetune.errors import MethodRefused
from finetune.methods import WAYS, as_base, attach, learning_rate, refuse, save, served_rank, way
from finetune.virtual import VIRTUAL_TOKENS
from settings import Engine, Finetune, Settings
from tests.finetune.ways import (
    IDS,
    POSITIONS,
    attached,
    close,
    learn,
    load,
    logits,
    loss,
    save_model,
    settings,
    values,
)

LAYERS, LINEAR = 2, 7
NAMES = {  # a pattern for each parameter that is to learn, and how many there are
    "lora": (r"(self_attn|mlp)\.\w+_proj\.lora_[AB]\.default\.weight", 2 * LINEAR * LAYERS),
    "dora": (r"_proj\.lora_([AB]|magnitude_vector)\.default\.weight", 3 * LINEAR * LAYERS),
    "ia3": (r"(k_proj|v_proj|down_proj)\.ia3_l\.default", 3 * LAYERS),
    "bottleneck": (r"mlp\.bottleneck\.(gate|up|down)", 3 * LAYERS),
    "prompt": (r"model\.virtual\.tokens", 1),
    "prefix": (r"self_attn\.virtual\.(keys|values)", 2 * LAYERS),
    "bitfit": (r"norm(\.|\b.*)weight", 2 * LAYERS + 1),
    "top_layers": (r"model\.(layers\.1\..+|norm\.weight)", LINEAR + 2 + 1),
    "full": (r".*", (LINEAR + 2) * LAYERS + 2),
}
NAMES |= dict.fromkeys(("rslora", "pissa", "eva"), NAMES["lora"])


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="module")
def with_biases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a type that has biases in its attention, as Qwen 2.5 has."""
    torch.manual_seed(0)
    shape = Qwen2Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    folder = tmp_path_factory.mktemp("models") / "biased"
    Qwen2ForCausalLM(shape).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", WAYS)
def test_exactly_the_intended_parameters_learn_and_nothing_else_moves(base: Path, name: str) -> None:
    model = attached(base, name)
    before = values(model)
    learning = {each for each, parameter in model.named_parameters() if parameter.requires_grad}
    pattern, count = NAMES[name]
    assert len(learning) == count
    assert all(re.search(pattern + "$", each) for each in learning), learning
    learn(model)
    moved = {each for each, value in values(model).items() if not torch.equal(value, before[each])}
    assert moved == learning


@pytest.mark.parametrize("name", WAYS)
def test_it_learns(base: Path, name: str) -> None:
    model = attached(base, name)
    before = loss(model).item()
    assert loss(learn(model, 8)).item() < before


@pytest.mark.parametrize("name", sorted(set(WAYS) - {"prompt", "prefix"}))
def test_before_the_first_step_the_model_is_the_base_model(base: Path, name: str) -> None:
    assert close(logits(attached(base, name)), logits(load(base)), 1e-6)


@pytest.mark.parametrize("name", WAYS)
def test_what_the_base_computes_is_to_be_had_while_another_model_is_learnt(base: Path, name: str) -> None:
    model = learn(attached(base, name))
    learnt = logits(model)
    assert not close(learnt, logits(load(base)), 1e-3)
    with as_base(model):
        assert close(logits(model), logits(load(base)), 1e-6)
    assert torch.equal(logits(model), learnt)


@pytest.mark.parametrize("name", WAYS)
def test_samples_in_one_row_do_not_see_each_other(base: Path, name: str) -> None:
    model = learn(attached(base, name))
    apart = [logits(model, IDS[:, :25], None), logits(model, IDS[:, 25:], None)]
    assert close(logits(model), torch.cat(apart, 1))


@pytest.mark.parametrize("name", WAYS)
def test_gradients_are_the_same_when_activations_are_computed_twice(base: Path, name: str) -> None:
    found = []
    for twice in (False, True):
        model = load(base)
        if twice:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        batches = [{"input_ids": IDS, "position_ids": POSITIONS}]
        model = attach(model, way(name), settings(name), batches).train()
        loss(model).backward()  # type: ignore[no-untyped-call]
        found.append({each: parameter.grad for each, parameter in model.named_parameters() if parameter.requires_grad})
    assert all(close(found[0][each], found[1][each], 1e-6) for each in found[0])


@pytest.mark.parametrize("name", ["lora", "bottleneck", "prompt", "eva"])
def test_the_same_seed_begins_with_the_same_numbers(base: Path, name: str) -> None:
    def learning(each: Any) -> bool:
        return bool(each.requires_grad)

    one, same, other = (values(attached(base, name, seed=seed), learning) for seed in (1, 1, 2))
    assert all(torch.equal(one[each], same[each]) for each in one)
    if name in ("lora", "bottleneck"):  # the others begin with the examples
        assert any(not torch.equal(one[each], other[each]) for each in one)


def test_biases_learn_where_there_are_any(with_biases: Path) -> None:
    model = attached(with_biases, "bitfit")
    learning = [each for each, parameter in model.named_parameters() if parameter.requires_grad]
    assert learning
    assert all(each.endswith(("q_proj.bias", "k_proj.bias", "v_proj.bias")) for each in learning)
    assert "Llama type have none" in way("bitfit").note


def test_eva_begins_with_what_the_layers_see(base: Path) -> None:
    def first(name: str) -> torch.Tensor:
        return values(attached(base, name), lambda each: each.requires_grad)[
            "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight"
        ]

    assert close(first("eva") @ first("eva").T, torch.eye(4), 1e-4)  # directions, at right angles
    assert not close(first("lora") @ first("lora").T, torch.eye(4), 1e-2)


def test_eva_without_enough_to_look_at_is_refused(base: Path) -> None:
    for batches in ([], [{"input_ids": IDS[:, :3]}]):
        with pytest.raises(MethodRefused, match="looks for 4 directions"):
            attach(load(base), way("eva"), settings("eva"), batches)


def test_prompts_begin_with_the_first_words_of_the_examples(base: Path) -> None:
    model = attached(base, "prompt")
    words = model.get_input_embeddings()(IDS[0, :VIRTUAL_TOKENS])
    assert torch.equal(model.base_model.virtual.tokens, words)


def test_a_prefix_of_words_is_nearly_those_words(base: Path) -> None:
    model = attached(base, "prefix")
    after = logits(load(base), torch.cat([IDS[:, :VIRTUAL_TOKENS], IDS[:, :25]], 1), None)[:, VIRTUAL_TOKENS:]
    assert close(logits(model, IDS[:, :25], None), after)


def test_rows_whose_samples_begin_at_different_places_are_no_batch_for_a_prompt(base: Path) -> None:
    model = attached(base, "prompt")
    other = torch.cat([torch.arange(30), torch.arange(30)])[None]
    with pytest.raises(ValueError, match="different places"):
        logits(model, IDS.expand(2, -1), torch.cat([POSITIONS, other]))


def test_lora_goes_on_from_an_earlier_run(base: Path, tmp_path: Path) -> None:
    model = learn(attached(base, "lora"))
    made = save(model, way("lora"), tmp_path, base)
    again = attach(load(base), way("lora"), settings("lora"), start=made).eval()
    assert close(logits(again), logits(model))
    before = values(again)
    learn(again)
    moved = {each for each, value in values(again).items() if not torch.equal(value, before[each])}
    assert len(moved) == 2 * LINEAR * LAYERS
    with as_base(again):
        assert close(logits(again), logits(load(base)), 1e-6)
    for name in ("dora", "ia3", "full", "prompt"):
        with pytest.raises(MethodRefused, match=r"cannot go on from the adapter.*finetune\.start to 'base'"):
            attach(load(base), way(name), settings(name), start=made)


def test_each_way_has_a_learning_rate_that_the_setting_replaces() -> None:
    assert all(1e-5 <= each.learning_rate <= 1e-1 for each in WAYS.values())
    assert learning_rate(way("lora"), Finetune()) == way("lora").learning_rate
    assert learning_rate(way("lora"), Finetune(learning_rate=0.5)) == 0.5


def test_every_method_of_the_settings_is_a_way_and_no_other() -> None:
    assert set(Finetune.model_fields["method"].annotation.__args__) == set(WAYS)  # type: ignore[union-attr]
    with pytest.raises(MethodRefused, match=r"no way of training 'magic'; there are lora, rslora"):
        way("magic")


# Refused before training


def set_to(engine: dict[str, Any] | None = None, **finetune: Any) -> Settings:
    return Settings(engine=Engine(**engine or {}), finetune=Finetune(**finetune))


@pytest.mark.parametrize("name", sorted(set(WAYS) - {"prompt", "prefix", "pissa"}))
def test_what_can_be_served_is_not_refused(base: Path, name: str) -> None:
    refuse(way(name), base, set_to(method=name))


@pytest.mark.parametrize("name", ["prompt", "prefix"])
def test_what_nothing_can_serve_is_refused_unless_somebody_only_wants_to_measure_it(base: Path, name: str) -> None:
    with pytest.raises(MethodRefused, match=r"cannot be served.*finetune.method = 'lora'.*--offline"):
        refuse(way(name), base, set_to(method=name))
    refuse(way(name), base, set_to(method=name), offline=True)


def test_a_rank_above_the_engines_is_refused_with_both_remedies(base: Path) -> None:
    with pytest.raises(MethodRefused, match=r"rank 64.*max_lora_rank = 16.*rank to 16 or less.*max_lora_rank to 64"):
        refuse(way("lora"), base, set_to(rank=64))
    refuse(way("lora"), base, set_to({"max_lora_rank": 64}, rank=64))


def test_pissa_doubles_the_rank_and_says_so(base: Path) -> None:
    assert served_rank(way("pissa"), 16) == 32
    with pytest.raises(MethodRefused, match=r"rank 32.*doubles the rank.*rank to 8 or less.*max_lora_rank to 32"):
        refuse(way("pissa"), base, set_to(rank=16))
    refuse(way("pissa"), base, set_to(rank=8))


def test_adapters_are_refused_where_lora_is_switched_off_and_merged_ways_are_not(base: Path) -> None:
    with pytest.raises(MethodRefused, match=r"engine.lora is 'off'.*'top_layers'"):
        refuse(way("lora"), base, set_to({"lora": "off"}))
    refuse(way("dora"), base, set_to({"lora": "off"}))


def test_a_whole_model_is_refused_where_the_engine_is_somebody_elses(base: Path) -> None:
    remote = {"url": "http://127.0.0.1:8000"}
    with pytest.raises(MethodRefused, match=r"engine.url cannot be started anew.*'lora'"):
        refuse(way("full"), base, set_to(remote))
    refuse(way("lora"), base, set_to(remote))


@pytest.mark.parametrize(
    ("key", "says"), [("quantization_config", "are quantised"), ("text_config", "which also sees")]
)
def test_a_base_whose_weights_cannot_be_written_again_is_refused(
    base: Path, tmp_path: Path, key: str, says: str
) -> None:
    config = json.loads((base / "config.json").read_text()) | {key: {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(MethodRefused, match=says):
        refuse(way("full"), tmp_path, set_to())
    refuse(way("lora"), tmp_path, set_to())


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MethodRefused, match="not a model folder"):
        refuse(way("lora"), tmp_path, set_to())


def test_a_model_that_is_built_otherwise_is_refused() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4))
    for name in ("ia3", "bottleneck", "lora", "top_layers", "prefix"):
        with pytest.raises(MethodRefused, match=r"finetune\.method|no linear layers"):
            attach(model, way(name), settings(name))
