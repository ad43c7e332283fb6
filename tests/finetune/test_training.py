"""What a step of training is, and when training ends. On a tiny model, in float32, on one thread."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from engine.adapter_check import check
from finetune import training
from finetune.batches import Batch, batch_of, learning_rate_at
from finetune.checkpoints import Checkpoints
from finetune.errors import NotEnoughData, TrainingFailed
from finetune.examples import Example
from finetune.job import Job, Progress
from finetune.packing import losses, token_losses
from finetune.record import Training
from finetune.tokens import Renderer
from finetune.training import load_training, train
from settings import Finetune
from tests.finetune.tiny import chat_model, example, examples

QUICK = {"kl": 0.0, "batch_tokens": 256, "micro_batch_tokens": 256, "dtype": "float32", "threads": 1, "epochs": 2}


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_model(tmp_path_factory.mktemp("model"))


def job(model_folder: Path, folder: Path, **settings: Any) -> Job:
    return Job(model_folder, folder, Finetune(**QUICK | settings), examples(16), examples(6, first=100))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def validation_losses(done: Training) -> dict[int, float]:
    return {point.step: point.validation for point in done.curve if point.validation is not None}


def test_what_was_taught_is_likelier_afterwards_and_the_engine_would_take_the_adapter(
    model_folder: Path, tmp_path: Path
) -> None:
    told: list[Progress] = []
    wanted = replace(job(model_folder, tmp_path, epochs=8, learning_rate=0.05), validation=())

    done = train(wanted, told.append)

    assert check(tmp_path / "adapter", model_folder, max_rank=16).rank == 16
    encoded = [each for one in wanted.train if (each := Renderer(model_folder).encode(one, 1024))]
    base = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    before = sum(loss for loss, _ in losses(base, encoded, 512))
    after = sum(loss for loss, _ in losses(PeftModel.from_pretrained(base, tmp_path / "adapter"), encoded, 512))
    assert after < 0.9 * before
    assert [each.done for each in told] == list(range(1, done.steps + 1))
    assert {each.total for each in told} == {done.steps}
    assert done.method == "lora"
    assert done.epochs == 8
    assert 0 < done.trainable < done.parameters
    assert done.tokens == 8 * sum(len(each.ids) for each in encoded)
    assert load_training(tmp_path) == done
    assert not (tmp_path / "checkpoints").exists()


def test_a_batch_in_parts_is_the_same_step_as_a_batch_at_once(model_folder: Path, tmp_path: Path) -> None:
    """Gradient accumulation: parts have different numbers of examples and tokens, and must count for what they are."""
    for loss_of in ("examples", "tokens"):
        once = train(job(model_folder, tmp_path / f"{loss_of}1", loss_of=loss_of))
        parts = train(job(model_folder, tmp_path / f"{loss_of}2", loss_of=loss_of, micro_batch_tokens=64))

        assert once.steps == parts.steps
        for one, other in zip(once.curve, parts.curve, strict=True):
            assert one.validation == pytest.approx(other.validation, abs=2e-5)
            assert one.train == pytest.approx(other.train, abs=2e-5)


@pytest.mark.parametrize("loss_of", ["examples", "tokens"])
def test_the_gradient_of_a_batch_in_parts_is_that_of_its_whole(model_folder: Path, loss_of: Any) -> None:
    renderer = Renderer(model_folder)
    taught = (*examples(5), example("Why?", "Because. " * 20, weight=2.0), example("So?", "So.", weight=0.3))
    encoded = [each for one in taught if (each := renderer.encode(one, 512))]
    gradients = []
    for budget in (64, 4096):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
        batch = batch_of(encoded, range(len(encoded)), Finetune(loss_of=loss_of), budget)
        for part, shares in zip(batch.packs, batch.shares, strict=True):
            (token_losses(model, part) * torch.tensor(shares)).sum().backward()
        gradients.append((len(batch.packs), [each.grad for each in model.parameters()]))

    (many, in_parts), (one, whole) = gradients
    assert many > one == 1
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(in_parts, whole, strict=True))


def shares_by_example(batch: Batch) -> dict[int, float]:
    found: dict[int, float] = {}
    for part, shares in zip(batch.packs, batch.shares, strict=True):
        for owner, share in zip(part.owners, shares, strict=True):
            found[owner] = found.get(owner, 0.0) + share
    return found


def test_a_long_reply_counts_as_much_as_a_short_one_or_as_each_of_its_tokens(model_folder: Path) -> None:
    renderer = Renderer(model_folder)
    taught = [example("Why?", "Because."), example("Why?", "Because of the weather. " * 10)]
    short, long = (each for one in taught if (each := renderer.encode(one, 512)))

    by_example = shares_by_example(batch_of([short, long], [0, 1], Finetune(loss_of="examples"), 512))
    by_token = shares_by_example(batch_of([short, long], [0, 1], Finetune(loss_of="tokens"), 512))

    assert by_example[0] == pytest.approx(by_example[1]) == pytest.approx(0.5)
    assert by_token[1] / by_token[0] == pytest.approx(long.predicted / short.predicted)
    assert sum(by_token.values()) == pytest.approx(1.0)


def test_a_correction_counts_more_than_an_unremarked_reply_even_alone_in_its_batch(model_folder: Path) -> None:
    renderer = Renderer(model_folder)
    taught = [example("Why?", "Because.", weight=2.0), example("Why?", "So what.", weight=0.5)]
    encoded = [each for one in taught if (each := renderer.encode(one, 512))]

    alone = [shares_by_example(batch_of(encoded, [member], Finetune(), 512))[0] for member in (0, 1)]

    assert alone[0] / alone[1] == pytest.approx(4.0)


def test_a_reply_of_double_weight_moves_the_model_as_two_of_it_do(model_folder: Path) -> None:
    renderer = Renderer(model_folder)
    heavy = [renderer.encode(each, 512) for each in (example("Why?", "So.", weight=2.0), example("Who?", "Me."))]
    twice = [renderer.encode(each, 512) for each in (*[example("Why?", "So.")] * 2, example("Who?", "Me."))]

    one = shares_by_example(batch_of([each for each in heavy if each], [0, 1], Finetune(), 512))
    other = shares_by_example(batch_of([each for each in twice if each], [0, 1, 2], Finetune(), 512))

    assert one[0] / one[1] == pytest.approx((other[0] + other[1]) / other[2])


def test_training_ends_when_validation_gets_worse_and_the_best_is_restored(model_folder: Path, tmp_path: Path) -> None:
    """What is taught contradicts what is held out, so the model soon gets worse at it."""
    taught = tuple(example(f"What is number {n}?", "Nothing at all, ever, to anybody.") for n in range(16))
    wanted = replace(job(model_folder, tmp_path, epochs=40, learning_rate=0.05, patience=3), train=taught)

    done = train(wanted)

    seen = validation_losses(done)
    best = min(seen, key=lambda step: seen[step])
    assert done.stopped_early
    assert done.best_step == best < done.steps
    assert [step for step in seen if step > best] == sorted(seen)[-3:]
    restored = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(restored, tmp_path / "adapter")
    encoded = [each for one in wanted.validation if (each := Renderer(model_folder).encode(one, 1024))]
    measured = losses(adapted, encoded, 512)
    loss = sum(each for each, _ in measured) / sum(tokens for _, tokens in measured)
    assert loss == pytest.approx(seen[best], abs=1e-4)


def test_a_model_that_only_gets_worse_is_left_as_it_was(model_folder: Path, tmp_path: Path) -> None:
    """It knows what is held out from an earlier run, and is then taught the contrary."""
    held_out = examples(6)
    known = replace(job(model_folder, tmp_path / "1", epochs=20, learning_rate=0.03), train=held_out, validation=())
    train(known)
    taught = tuple(example(each.question, "Nothing at all, ever.") for each in held_out)
    wanted = replace(
        job(model_folder, tmp_path / "2", epochs=20, learning_rate=0.03, patience=2),
        train=taught, validation=held_out, continue_from=tmp_path / "1" / "adapter",
    )  # fmt: skip

    done = train(wanted)

    assert done.best_step == 0
    assert done.stopped_early
    assert len(validation_losses(done)) == 3
    before, after = weights(tmp_path / "1"), weights(tmp_path / "2")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_without_anything_held_out_all_epochs_are_trained(model_folder: Path, tmp_path: Path) -> None:
    done = train(replace(job(model_folder, tmp_path), validation=()))

    assert done.best_step == done.steps
    assert not validation_losses(done)
    assert any(each.any() for name, each in weights(tmp_path).items() if "lora_B" in name)


def test_a_loss_that_is_not_a_number_ends_it_with_advice(model_folder: Path, tmp_path: Path) -> None:
    spoilt = chat_model(tmp_path / "spoilt")
    model = AutoModelForCausalLM.from_pretrained(spoilt, dtype=torch.float32)
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    model.save_pretrained(spoilt)

    for held_out in ((), examples(3, first=100)):
        with pytest.raises(TrainingFailed, match=r"not a number.*learning_rate"):
            train(replace(job(spoilt, tmp_path / f"run{len(held_out)}"), validation=held_out))
        assert not (tmp_path / f"run{len(held_out)}" / "adapter").exists()


def test_training_that_runs_away_ends_with_advice(model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match="not a number"):
        train(
            replace(
                job(model_folder, tmp_path, optimizer="sgd", learning_rate=1e30, clip=0.0, epochs=10), validation=()
            )
        )
    assert not (tmp_path / "adapter").exists()


def test_examples_that_are_all_too_long_are_too_little_data(model_folder: Path, tmp_path: Path) -> None:
    wanted = replace(job(model_folder, tmp_path, max_tokens=64), train=(example("Why?", "word " * 100),))

    with pytest.raises(NotEnoughData, match="None of the 1 examples"):
        train(wanted)


def test_a_full_disk_is_said_and_what_was_reached_is_kept(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(training.methods, "save", full)
        with pytest.raises(TrainingFailed, match="no room left"):
            train(job(model_folder, tmp_path))
    assert (tmp_path / "checkpoints" / "last.pt").is_file()

    steps: list[Progress] = []
    done = train(job(model_folder, tmp_path), steps.append)

    assert steps == []  # all were done
    assert done.resumed == 1
    assert (tmp_path / "adapter").is_dir()


def test_a_job_that_is_done_is_not_done_again_but_another_one_in_its_folder_is(
    model_folder: Path, tmp_path: Path
) -> None:
    wanted = job(model_folder, tmp_path)
    done = train(wanted)
    steps: list[Progress] = []

    assert train(wanted, steps.append) == done
    assert steps == []
    again = train(replace(wanted, train=(*wanted.train, example("Why?", "So."))), steps.append)
    assert len(steps) == again.steps
    assert again.resumed == 0


def test_the_same_job_gives_the_same_adapter_to_the_bit_and_another_seed_another(
    model_folder: Path, tmp_path: Path
) -> None:
    one = train(job(model_folder, tmp_path / "1", dropout=0.1))
    two = train(job(model_folder, tmp_path / "2", dropout=0.1))
    other = train(job(model_folder, tmp_path / "3", dropout=0.1, seed=1))

    assert one.curve == two.curve
    assert all(torch.equal(each, weights(tmp_path / "2")[name]) for name, each in weights(tmp_path / "1").items())
    assert one.curve != other.curve


@pytest.mark.parametrize("changed", [{"optimizer": "sgd", "learning_rate": 0.5}, {"weight_decay": 5.0}, {"clip": 1e-9}])
def test_settings_of_the_optimizer_are_used(model_folder: Path, tmp_path: Path, changed: dict[str, Any]) -> None:
    plain = train(job(model_folder, tmp_path / "plain", learning_rate=0.01))
    done = train(job(model_folder, tmp_path / "changed", **{"learning_rate": 0.01} | changed))

    assert plain.curve[-1].validation != done.curve[-1].validation


def test_checkpointing_and_bfloat16_learn_about_the_same(model_folder: Path, tmp_path: Path) -> None:
    plain = train(job(model_folder, tmp_path / "plain"))
    twice = train(job(model_folder, tmp_path / "checkpointing", checkpointing="on"))
    rounded = train(job(model_folder, tmp_path / "bfloat16", dtype="bfloat16"))

    assert twice.curve[-1].validation == pytest.approx(plain.curve[-1].validation, abs=1e-6)
    assert rounded.dtype == "bfloat16"
    assert rounded.curve[-1].validation == pytest.approx(plain.curve[-1].validation, rel=0.01)
    assert all(each.dtype == torch.float32 for each in weights(tmp_path / "bfloat16").values())


def test_a_run_goes_on_from_the_adapter_of_an_earlier_one(model_folder: Path, tmp_path: Path) -> None:
    first = train(job(model_folder, tmp_path / "1", learning_rate=0.01))
    wanted = job(model_folder, tmp_path / "2", learning_rate=0.01)

    second = train(replace(wanted, continue_from=tmp_path / "1" / "adapter", continued_from="familiar@1"))

    assert validation_losses(second)[0] == pytest.approx(validation_losses(first)[first.best_step], abs=1e-5)
    assert second.continued_from == "familiar@1"
    assert check(tmp_path / "2" / "adapter", model_folder, max_rank=16).rank == 16


def test_the_regulariser_is_asked_once_a_step_and_its_gradient_is_added(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    continual = pytest.importorskip("finetune.continual")
    asked: list[int] = []

    def towards_zero(model: Any, settings: Finetune, anchors: list[Any]) -> Any:
        trained = [each for each in model.parameters() if each.requires_grad]

        def penalty(step: int) -> torch.Tensor:
            asked.append(step)
            return 1e4 * sum((each**2).sum() for each in trained)  # type: ignore[return-value]

        return penalty

    train(job(model_folder, tmp_path / "free", learning_rate=0.01))
    monkeypatch.setattr(continual, "regulariser", towards_zero)
    held = train(
        replace(
            job(model_folder, tmp_path / "held", learning_rate=0.01, kl=0.1, micro_batch_tokens=64), anchors=examples(3)
        )
    )

    def size(run: str) -> float:
        return sum(float(each.norm()) for each in weights(tmp_path / run).values())

    assert asked == list(range(held.steps))
    assert size("held") < size("free")


def test_the_learning_rate_rises_and_then_falls_to_nothing() -> None:
    settings = Finetune(warmup_share=0.1)
    rates = [learning_rate_at(step, 100, settings, 1.0) for step in range(100)]

    assert rates[:11] == sorted(rates[:11])
    assert rates[10] == max(rates) == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[0] < 0.1
    assert rates[-1] < 0.001
    assert learning_rate_at(0, 1, Finetune(warmup_share=0.0), 1.0) == 1.0


def test_half_an_epoch_is_half_of_the_steps(model_folder: Path, tmp_path: Path) -> None:
    whole = train(job(model_folder, tmp_path / "whole", epochs=1))
    half = train(job(model_folder, tmp_path / "half", epochs=0.5))

    assert 2 * half.steps == pytest.approx(whole.steps, abs=1)


def test_a_checkpoint_that_was_damaged_is_not_gone_on_from(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.pt").write_bytes(b"PK\x03\x04 cut in the middle")

    done = train(job(model_folder, tmp_path))

    assert done.resumed == 0
    assert done.steps > 0


def test_training_says_what_it_took(model_folder: Path, tmp_path: Path) -> None:
    done = train(job(model_folder, tmp_path))

    assert done.device == "cpu"
    assert done.seconds > 0
    assert done.tokens_per_s == pytest.approx(done.tokens / done.seconds, rel=0.01)
    assert done.peak_mb > 100
    assert done.settings["rank"] == 16
    json.loads((tmp_path / "training.json").read_text())
    assert Checkpoints(tmp_path / "checkpoints", "any").load() is None


def test_wholly_empty_and_very_long_words_do_not_stop_it(model_folder: Path, tmp_path: Path) -> None:
    odd: tuple[Example, ...] = (example("", ""), example("👩‍👩‍👧", "你好\x00"), example("a" * 3000, "b"))

    done = train(replace(job(model_folder, tmp_path), train=(*examples(4), *odd)))

    assert done.steps > 0
