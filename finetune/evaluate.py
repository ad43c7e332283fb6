"""A model before and after on the same held-out items, measured in the run's own process.

    losses      of every held-out reply, general text and earlier round, packed
    chosen      how likely a preferred reply is, and how likely the other
    replies     to some of the held-out prompts, generated
    probes      replies to the fixed questions of probes.toml, generated

`measure` does it for one model. `main` is the stage of a run: it reads the run's folder and leaves before.json and
after.json there; and base.json, the base model's losses on what people took back, if they did. One that was cut short
does all of it again: measured in another number format, they would not be a pair.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import EngineError
from finetune import dataset, packing, probes, servable
from finetune.errors import EvaluationFailed, MethodRefused
from finetune.examples import Example, Preference
from finetune.files import read_json, write_json
from finetune.grounding import asked
from finetune.job import Job, Progress, Told
from finetune.job import load as load_job
from finetune.measurements import Chosen, Loss, Measurements, Probe, Reply, as_json, from_json
from finetune.pairs import BROKEN
from finetune.replies import written
from finetune.tokens import Encoded, Renderer
from settings import Finetune

if TYPE_CHECKING:
    from finetune.hardware import Plan

BEFORE, AFTER, BASE = "before.json", "after.json", "base.json"
REPLY_TOKENS = 96  # of a generated reply, at most: enough to see whether it loops
GENERAL_TOKENS = 256  # of a general text
SAID = {"corrected", "rated_up", "chosen", "imported"}  # replies that somebody thought right


@dataclass(frozen=True)
class HeldOut:
    """What a model is measured on. Nothing of it was trained on, but for `unlearned`, which earlier adapters were."""

    test: tuple[Example, ...]
    validation: tuple[Example, ...] = ()
    general: tuple[str, ...] = ()  # texts
    rounds: Mapping[str, tuple[Example, ...]] = field(default_factory=dict)  # by "round N": the test of run N
    preferences: tuple[Preference, ...] = ()
    unlearned: tuple[Example, ...] = ()  # what was forgotten since
    replies: int = 0  # to be generated
    probes: tuple[probes.Asked, ...] = ()


def main(folder: Path, told: Told = lambda progress: None) -> None:
    """The stage of the run in `folder`. Raises EvaluationFailed, DataRefused."""
    import torch

    from finetune.hardware import plan

    job = load_job(folder)
    made = servable.made_in(folder)
    if made is None:
        raise EvaluationFailed(f"Nothing was trained in {folder}; there is nothing to measure.")
    held_out = _of(job)
    unlearned = HeldOut(test=(), unlearned=held_out.unlearned)
    half = _items(held_out)
    work = 2 * half + _items(unlearned)
    chosen = plan(job.settings)
    torch.set_num_threads(chosen.threads)
    (folder / BASE).unlink(missing_ok=True)  # of an attempt that was cut short: people took other things back then
    sides: list[tuple[str, Path | None, str, HeldOut]] = [
        (BEFORE, job.before, job.before_name, held_out),
        (AFTER, made, f"run {folder.name}", held_out),
    ]
    if held_out.unlearned:
        sides.append((BASE, None, "base", unlearned))
    for number, (name, weights, said, items) in enumerate(sides):

        def count(done: int, first: int = number * half, which: str = said) -> None:
            told(Progress("evaluating", first + done, work, which))

        measured = measure(job.model_folder, weights, said, items, count, settings=job.settings, on=chosen)
        write_json(folder / name, as_json(measured))


def read(folder: Path) -> tuple[Measurements, Measurements]:
    """Before and after, as `main` left them. Raises DataRefused."""
    return from_json(read_json(folder / BEFORE)), from_json(read_json(folder / AFTER))


def read_base(folder: Path) -> Measurements | None:
    """The base model on what people took back; None where they took nothing back. Raises DataRefused."""
    return from_json(read_json(folder / BASE)) if (folder / BASE).exists() else None


def measure(
    model_folder: Path,
    made: Path | None,
    name: str,
    held_out: HeldOut,
    told: Callable[[int], None] = lambda done: None,
    *,
    settings: Finetune | None = None,
    on: Plan | None = None,
) -> Measurements:
    """Measure the base model with what training left in `made`; None: the base model itself.

    `on`: device and number format, the same before and after; None: float32 on the CPU. `told` hears how many of the
    items are done. Raises EvaluationFailed.
    """
    from safetensors import SafetensorError

    settings = settings or Finetune()
    try:
        renderer = Renderer(model_folder)
        model = _loaded(model_folder, made, on)
        return _Measuring(model, renderer, model_folder, settings, told).all(name, held_out)
    except (EngineError, MethodRefused, SafetensorError, OSError, ValueError, RuntimeError) as error:
        # A RuntimeError is torch's: out of memory, or tensors of another shape than the model's.
        raise EvaluationFailed(f"{name} could not be measured: {error}") from error


class _Measuring:
    def __init__(
        self, model: Any, renderer: Renderer, model_folder: Path, settings: Finetune, told: Callable[[int], None]
    ) -> None:
        self._model = model
        self._renderer = renderer
        self._model_folder = model_folder
        self._settings = settings
        self._told = told
        self._done = 0

    def all(self, name: str, held_out: HeldOut) -> Measurements:
        sets = {"test": held_out.test, "validation": held_out.validation, **held_out.rounds}
        losses = {which: self._losses(which, examples) for which, examples in sets.items()}
        if held_out.unlearned:
            losses["unlearned"] = self._losses("unlearned", held_out.unlearned)
        losses["general"] = self._general(held_out.general)
        return Measurements(
            name,
            losses,
            self._chosen(held_out.preferences),
            self._replies(held_out.test, held_out.replies),
            self._probes(held_out.probes),
        )

    def _losses(self, which: str, examples: Sequence[Example]) -> tuple[Loss, ...]:
        encoded = [self._renderer.encode(each, self._settings.max_tokens) for each in examples]
        keys = [(f"{which} {number}", each.source.conversation) for number, each in enumerate(examples)]
        return self._measured(keys, encoded)

    def _general(self, texts: Sequence[str]) -> tuple[Loss, ...]:
        encoded = [self._renderer.text(each, GENERAL_TOKENS) for each in texts]
        return self._measured([(f"general {number}",) * 2 for number in range(len(texts))], encoded)

    def _chosen(self, preferences: Sequence[Preference]) -> tuple[Chosen, ...]:
        sides = []
        for reply in ("chosen", "rejected"):
            examples = [_as_example(each, getattr(each, reply)) for each in preferences]
            sides.append({each.key: each for each in self._losses("preference", examples)})
        better, worse = sides
        return tuple(
            Chosen(key, each.conversation, -each.loss / each.tokens, -worse[key].loss / worse[key].tokens)
            for key, each in better.items()
            if key in worse
        )

    def _measured(self, keys: Sequence[tuple[str, str]], encoded: Sequence[Encoded | None]) -> tuple[Loss, ...]:
        """Of those that are not too long."""
        fits = [(key, each) for key, each in zip(keys, encoded, strict=True) if each is not None]
        measured = packing.measured(self._model, [each for _, each in fits], self._settings.micro_batch_tokens)
        self._count(len(keys))
        return tuple(
            Loss(
                *(key, conversation, min(each.loss, BROKEN) if math.isfinite(each.loss) else BROKEN),
                *(each.tokens, each.mistakes),
            )
            for ((key, conversation), _), each in zip(fits, measured, strict=True)
            if each.tokens
        )

    def _replies(self, test: Sequence[Example], many: int) -> tuple[Reply, ...]:
        chosen = _spread(test, many)
        texts = self._written([(each.messages[:-1], REPLY_TOKENS) for _, each in chosen])
        return tuple(
            Reply(
                f"reply {number}",
                each.source.conversation,
                asked(each.question),
                each.reply if each.why in SAID else "",
                reply.text,
                reply.tokens,
                reply.finish,
            )
            for (number, each), reply in zip(chosen, texts, strict=True)
            if reply is not None
        )

    def _probes(self, questions: Sequence[probes.Asked]) -> tuple[Probe, ...]:
        """Several may look at one reply, which is generated once."""
        prompts: dict[str, tuple[Sequence[Any], int]] = {}
        keys = []
        for each in questions:
            messages = probes.messages(each)
            keys.append(messages[-1]["content"])
            prompts[keys[-1]] = (messages, max(each.tokens, prompts.get(keys[-1], ((), 0))[1]))
        texts = dict(zip(prompts, self._written(list(prompts.values())), strict=True))
        return tuple(
            Probe(each.key, each.kind, each.question, reply.text, each.passed_by(reply.text))
            for each, key in zip(questions, keys, strict=True)
            if (reply := texts[key]) is not None
        )

    def _written(self, prompts: Sequence[tuple[Sequence[Any], int]]) -> list[Any]:
        before = self._done

        def told(done: int) -> None:
            self._told(before + done)

        texts = written(
            self._model, self._renderer, self._model_folder, prompts, max_prompt=self._settings.max_tokens, told=told
        )
        self._count(len(prompts))
        return texts

    def _count(self, done: int) -> None:
        self._done += done
        self._told(self._done)


def _loaded(model_folder: Path, made: Path | None, on: Plan | None) -> Any:
    """A LoRA adapter is merged: the same function, and faster."""
    import torch

    model = servable.load(model_folder, made, dtype=getattr(torch, on.dtype) if on else torch.float32)
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    return model.to(on.device if on else "cpu")


def _of(job: Job) -> HeldOut:
    """What lies in the run's folder to be measured on. Raises DataRefused."""
    from finetune.continual import general_text

    data = dataset.load(job.folder)
    return HeldOut(
        test=data.test,
        validation=data.validation,
        general=tuple(general_text()),
        rounds={f"round {number}": test for number, test in data.rounds.items()},
        preferences=data.test_preferences,
        unlearned=data.unlearned,
        replies=job.replies,
        probes=probes.asked(),
    )


def _items(held_out: HeldOut) -> int:
    sets = (held_out.test, held_out.validation, held_out.general, held_out.unlearned, *held_out.rounds.values())
    prompts = {probes.messages(each)[-1]["content"] for each in held_out.probes}
    replies = len(_spread(held_out.test, held_out.replies))
    return sum(len(each) for each in sets) + 2 * len(held_out.preferences) + replies + len(prompts)


def _spread(test: Sequence[Example], many: int) -> list[tuple[int, Example]]:
    """`many` of them with their places: one of each conversation, then a second of each, and so on."""
    turn: dict[str, int] = {}
    order = []
    for number, each in enumerate(test):
        nth = turn[each.source.conversation] = turn.get(each.source.conversation, -1) + 1
        order.append((nth, number, each))
    chosen = sorted(order, key=lambda item: item[:2])[:many]
    return [(number, each) for _, number, each in chosen]


def _as_example(pair: Preference, reply: str) -> Example:
    messages = (*pair.prompt, {"role": "assistant", "content": reply})
    return Example(messages, (0.0,) * len(pair.prompt) + (1.0,), "imported", dataclasses.replace(pair.source))
