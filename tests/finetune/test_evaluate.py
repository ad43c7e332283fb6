"""Measuring a model before and after: the numbers are the model's own, and the same every time."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from finetune import continual, dataset, evaluate, files, probes, replies
from finetune.errors import DataRefused, EvaluationFailed
from finetune.evaluate import REPLY_TOKENS, HeldOut, measure
from finetune.examples import Preference, Source
from finetune.examples import as_json as example_as_json
from finetune.gate import decide
from finetune.job import Job, Progress
from finetune.job import save as save_job
from finetune.measurements import as_json
from finetune.methods import attach, save, way
from finetune.pairs import BROKEN
from finetune.record import DataCounts
from finetune.replies import written
from finetune.split import Sides
from finetune.tokens import Renderer
from settings import Finetune, Gate
from tests.finetune.tiny import chat_model, example, examples

HELD_OUT = HeldOut(test=examples(6), general=("The sea is wide and deep.", "山很高，水很深。"))
PROBES = tuple(each for each in probes.asked() if each.key in ("fact: capital", "retrieval: zh", "citation: zh"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LoRA with a change that can be seen."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    lora = attach(model, way("lora"), Finetune(rank=4))
    with torch.no_grad():
        for name, parameter in lora.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.3)
    return save(lora, way("lora"), tmp_path_factory.mktemp("run"), base)


@pytest.fixture
def model(base: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()


def prompt(question: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": "You are Familiar."}, {"role": "user", "content": question}]


def test_a_loss_is_that_of_the_reply_alone_as_transformers_computes_it(base: Path, model: Any) -> None:
    one = example("When does it open?", "At eleven, on Saturdays.", earlier=[("Hello", "Hi there.")])
    measured = measure(base, None, "base", HeldOut(test=(one, *examples(4))))
    tokenizer = AutoTokenizer.from_pretrained(base)
    head = tokenizer.apply_chat_template(list(one.messages[:-1]), add_generation_prompt=True, tokenize=False)
    before = tokenizer(head, add_special_tokens=False)["input_ids"]
    whole = tokenizer(head + one.reply + "<|im_end|>", add_special_tokens=False)["input_ids"]
    labels = [-100] * len(before) + whole[len(before) :]
    with torch.inference_mode():
        expected = model(input_ids=torch.tensor([whole]), labels=torch.tensor([labels])).loss.item()
    loss = measured.losses["test"][0]
    assert loss.tokens == len(whole) - len(before)
    assert loss.loss / loss.tokens == pytest.approx(expected, rel=1e-4)


def test_two_measurements_of_one_model_are_the_same(base: Path) -> None:
    held_out = replace(HELD_OUT, replies=3, probes=PROBES)
    assert measure(base, None, "base", held_out) == measure(base, None, "base", held_out)


def test_an_adapter_is_measured_in_place_of_the_base(base: Path, adapter: Path) -> None:
    before, after = (measure(base, made, "x", HELD_OUT) for made in (None, adapter))
    assert [each.key for each in before.losses["test"]] == [each.key for each in after.losses["test"]]
    changed = [a.loss - b.loss for a, b in zip(after.losses["test"], before.losses["test"], strict=True)]
    assert max(map(abs, changed)) > 0.01


def test_every_set_has_its_losses(base: Path) -> None:
    held_out = replace(HELD_OUT, validation=examples(2), rounds={"round 1": examples(3)}, unlearned=examples(1))
    sets = measure(base, None, "base", held_out).losses
    sizes = {name: len(losses) for name, losses in sets.items()}
    assert sizes == {"test": 6, "validation": 2, "round 1": 3, "unlearned": 1, "general": 2}
    assert {each.conversation for each in sets["test"]} == {f"log:{n}" for n in range(6)}
    assert all(0 < each.loss < 1000 and each.tokens > 3 for losses in sets.values() for each in losses)


def test_of_a_pair_both_replies_are_measured_after_the_same_prompt(base: Path) -> None:
    pair = Preference(tuple(prompt("Which?")), "This one.", "That other one here.", "rated", Source("log:9"))
    (chosen,) = measure(base, None, "base", HeldOut((), preferences=(pair,))).chosen
    turned = replace(pair, chosen=pair.rejected, rejected=pair.chosen)
    (other,) = measure(base, None, "base", HeldOut((), preferences=(turned,))).chosen
    assert chosen.better == pytest.approx(other.worse, rel=1e-5)
    assert chosen.better != chosen.worse
    assert chosen.better < 0
    assert chosen.conversation == "log:9"


def test_replies_are_what_the_model_writes_to_each_prompt_alone(
    base: Path, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a batch of prompts of different lengths, padded on the left."""
    renderer = Renderer(base)
    prompts = [prompt("Hi"), prompt("What is the number of days in a week? " * 5), prompt("你好")]
    together = written(model, renderer, base, [(each, 12) for each in prompts], max_prompt=512)
    alone = [written(model, renderer, base, [(each, 12)], max_prompt=512)[0] for each in prompts]
    assert together == alone
    monkeypatch.setattr(replies, "TOKENS_AT_ONCE", 100)
    assert written(model, renderer, base, [(each, 12) for each in prompts], max_prompt=512) == alone
    ids = torch.tensor([renderer.prompt_ids(prompts[1])])
    expected = model.generate(input_ids=ids, max_new_tokens=12, do_sample=False, pad_token_id=2)[0, ids.shape[1] :]
    assert together[1] is not None
    assert together[1].tokens == len(expected)
    assert together[1].text == AutoTokenizer.from_pretrained(base).decode(expected, skip_special_tokens=True).strip()


def test_a_reply_ends_where_the_model_ends_it(base: Path, model: Any) -> None:
    renderer = Renderer(base)
    open_end = written(model, renderer, base, [(prompt("Hi"), 5)], max_prompt=512)[0]
    assert open_end is not None
    assert (open_end.tokens, open_end.finish) == (5, "length")
    first = model.generate(
        input_ids=torch.tensor([renderer.prompt_ids(prompt("Hi"))]), max_new_tokens=3, do_sample=False, pad_token_id=2
    )[0, -3:].tolist()
    model.generation_config.eos_token_id = [first[2]]
    ended = written(model, renderer, base, [(prompt("Hi"), 5), (prompt("Hello there"), 7)], max_prompt=512)[0]
    assert ended is not None
    assert (ended.tokens, ended.finish) == (first.index(first[2]) + 1, "stop")
    decoded = AutoTokenizer.from_pretrained(base).decode(first[: first.index(first[2])], skip_special_tokens=True)
    assert ended.text == decoded.strip()


def test_a_prompt_that_is_too_long_loses_its_oldest_turns(base: Path, model: Any) -> None:
    renderer = Renderer(base)
    old = [{"role": "user", "content": "long " * 200}, {"role": "assistant", "content": "Yes."}]
    long, short = [prompt("")[0], *old, prompt("Hi")[1]], prompt("Hi")
    got = written(model, renderer, base, [(long, 6), (short, 6)], max_prompt=100)
    assert got[0] == got[1]
    assert written(model, renderer, base, [(prompt("long " * 200), 6)], max_prompt=100) == [None]


def test_prompts_that_the_template_does_not_take_get_no_reply(base: Path, model: Any, tmp_path: Path) -> None:
    class Strict(Renderer):
        def prompt_ids(self, messages: Any) -> list[int]:
            from engine.errors import EngineRefused

            raise EngineRefused("two in a row")

    assert written(model, Strict(base), base, [(prompt("Hi"), 6)], max_prompt=100) == [None]


def test_as_many_replies_as_asked_of_different_conversations_first(base: Path) -> None:
    crowd = tuple(example(f"Question {n}?", "Reply.", conversation=f"log:{n // 4}") for n in range(12))
    measured = measure(base, None, "base", HeldOut(crowd, replies=4))
    assert [each.conversation for each in measured.replies] == ["log:0", "log:1", "log:2", "log:0"]
    assert [each.question for each in measured.replies] == [f"Question {n}?" for n in (0, 4, 8, 1)]
    assert all(each.tokens <= REPLY_TOKENS for each in measured.replies)


def test_only_what_people_thought_right_stands_beside_a_reply(base: Path) -> None:
    held_out = HeldOut((example("A?", "Right."), replace(example("B?", "Perhaps."), why="unremarked")), replies=2)
    assert [each.reference for each in measure(base, None, "base", held_out).replies] == ["Right.", ""]


def test_the_question_is_shown_without_the_passages_that_stood_before_it(base: Path) -> None:
    probe = next(each for each in probes.asked() if each.key == "retrieval: opening")
    whole = replace(
        example("", "At eleven [1]."), messages=(*probes.messages(probe), {"role": "assistant", "content": "x"})
    )
    (reply,) = measure(base, None, "base", HeldOut((replace(whole, weights=(0.0, 0.0, 1.0)),), replies=1)).replies
    assert reply.question == "When does the reading room open on Saturdays?"


def test_probes_about_one_prompt_look_at_one_reply(base: Path) -> None:
    heard: list[int] = []
    asked = measure(base, None, "base", HeldOut((), probes=PROBES), heard.append).probes
    assert [each.key for each in asked] == [each.key for each in PROBES]
    by_key = {each.key: each.text for each in asked}
    assert by_key["retrieval: zh"] == by_key["citation: zh"]
    assert heard[-1] == 2


def test_weights_that_are_broken_are_measured_and_written_and_rejected(base: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight[0, 0] = math.nan
    model.save_pretrained(tmp_path / "model")
    before, after = (measure(base, made, "x", HELD_OUT) for made in (None, tmp_path / "model"))
    assert {each.loss for each in after.losses["test"]} == {BROKEN}
    files.write_json(tmp_path / "after.json", as_json(after))
    assert decide(before, after, Gate(min_conversations=2, resamples=100)).verdict == "rejected"


def test_a_model_that_is_not_there_cannot_be_measured(base: Path, tmp_path: Path) -> None:
    with pytest.raises(EvaluationFailed, match="familiar@3 could not be measured"):
        measure(base, tmp_path / "nothing", "familiar@3", HELD_OUT)
    with pytest.raises(EvaluationFailed):
        measure(tmp_path / "nothing", None, "base", HELD_OUT)


def test_an_adapter_that_was_cut_in_the_middle_cannot_be_measured(base: Path, adapter: Path, tmp_path: Path) -> None:
    shutil.copytree(adapter, tmp_path / "adapter")
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(EvaluationFailed):
        measure(base, tmp_path / "adapter", "familiar@3", HELD_OUT)


# The stage


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "asked", lambda: PROBES)
    monkeypatch.setattr(continual, "general_text", lambda: list(HELD_OUT.general))


def run_folder(folder: Path, base: Path, adapter: Path | None, **job: Any) -> Path:
    sides = Sides(examples(4), examples(2, first=4), examples(5, first=6))
    pair = Preference(tuple(prompt("Which?")), "This one.", "That one.", "rated", Source("log:7"))
    learned = replace(pair, source=Source("log:1"))
    dataset.save(
        folder, sides, (pair, learned), (), DataCounts(), rounds={12: examples(3, first=20), 3: examples(2, first=30)}
    )
    wanted = Job(base, folder, Finetune(dtype="float32", threads=1), sides.train, sides.validation, **job)
    save_job(wanted)
    if adapter is not None:
        shutil.copytree(adapter, folder / "adapter")
    return folder


@pytest.mark.usefixtures("short")
def test_the_stage_leaves_both_measurements_and_says_how_far_it_is(base: Path, adapter: Path, tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "7", base, adapter, replies=2)
    heard: list[Progress] = []
    evaluate.main(folder, heard.append)
    before, after = evaluate.read(folder)
    assert (before.model, after.model) == ("base", "run 7")
    sizes = {name: len(each) for name, each in after.losses.items() if name != "general"}
    assert sizes == {"test": 5, "validation": 2, "round 3": 2, "round 12": 3}
    assert len(after.losses["general"]) == 2
    assert [each.conversation for each in after.chosen] == ["log:7"]
    assert len(after.replies) == 2
    assert len(after.probes) == 3
    assert before.losses["test"] != after.losses["test"]
    assert {each.stage for each in heard} == {"evaluating"}
    assert [each.done for each in heard] == sorted(each.done for each in heard)
    assert heard[-1].done == heard[-1].total


@pytest.mark.usefixtures("short")
def test_the_stage_compares_with_the_adapter_that_was_in_force(base: Path, adapter: Path, tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "8", base, adapter, before=adapter, before_name="familiar@2")
    evaluate.main(folder)
    before, after = evaluate.read(folder)
    assert before.model == "familiar@2"
    assert before.losses == after.losses


@pytest.mark.usefixtures("short")
def test_the_base_model_is_measured_only_on_what_people_took_back_and_only_where_they_did(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    folder = run_folder(tmp_path / "8", base, adapter, before=adapter, before_name="familiar@2")
    files.write_lines(folder / dataset.UNLEARNED, (example_as_json(each) for each in examples(3, first=50)))
    heard: list[Progress] = []
    evaluate.main(folder, heard.append)
    measured, (before, after) = evaluate.read_base(folder), evaluate.read(folder)
    assert measured is not None
    assert [each.conversation for each in measured.losses["unlearned"]] == ["log:50", "log:51", "log:52"]
    assert {name for name, losses in measured.losses.items() if losses} == {"unlearned"}
    assert (measured.replies, measured.probes) == ((), ())
    assert before.losses["unlearned"] == after.losses["unlearned"] != measured.losses["unlearned"]
    assert [each.done for each in heard] == sorted(each.done for each in heard)
    assert heard[-1].done == heard[-1].total
    (folder / dataset.UNLEARNED).unlink()
    evaluate.main(folder)
    assert evaluate.read_base(folder) is None


def test_a_run_that_made_nothing_cannot_be_measured(base: Path, tmp_path: Path) -> None:
    with pytest.raises(EvaluationFailed, match="Nothing was trained"):
        evaluate.main(run_folder(tmp_path / "9", base, None))


def test_what_was_never_measured_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataRefused):
        evaluate.read(tmp_path)


@pytest.mark.parametrize("name", ["prompt", "prefix", "ia3"])
def test_what_other_methods_leave_is_measured_and_generates(name: str, base: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    learnt = attach(model, way(name), Finetune())
    with torch.no_grad():
        for parameter in learnt.parameters():
            if parameter.requires_grad:
                parameter.add_(0.5 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    made = save(learnt, way(name), tmp_path, base)
    held_out = replace(HELD_OUT, replies=3)
    before, after = (measure(base, place, "x", held_out) for place in (None, made))
    assert [each.loss for each in before.losses["test"]] != [each.loss for each in after.losses["test"]]
    assert all(math.isfinite(each.loss) for each in after.losses["test"])
    assert len(after.replies) == 3
    assert [each.text for each in before.replies] != [each.text for each in after.replies]
