"""The second stage: of two replies, the better one is made likelier than the worse one, or good ones than bad ones.

    dpo     on pairs: corrections, siblings that were chosen, up and down (Rafailov et al. 2023, arXiv:2305.18290)
    kto     on single replies with a verdict, and on both sides of pairs (Ethayarajh et al. 2024, arXiv:2402.01306)

Both are TRL's, on top of the adapter that the first stage left. What the model is held close to is that first result:
TRL keeps a frozen copy of the adapter for it, and no second model. The first result stays beside the run's adapter as
`supervised`, and the stage starts from there whenever it is done again, so that being killed leaves nothing half-done.
"""

from __future__ import annotations

import logging
import math
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.adapter_check import adapter_files
from engine.tokenizer import ChatMessage
from finetune import hardware, methods, servable
from finetune.errors import MethodRefused, TrainingFailed
from finetune.examples import Example, Judged, Preference, Source
from finetune.job import Job, Progress, Told
from finetune.processes import Processes
from finetune.record import Point, Training
from finetune.tokens import Renderer
from settings import Finetune

SUPERVISED = "supervised"  # the adapter of the first stage
DONE = "preferring.json"
RATE_SHARE = 1 / 16  # of the first stage's learning rate; with more, both replies become unlikely
EPOCHS = 2.0
BATCH = 8  # pairs or replies, between two steps of the optimizer
FEWEST_FOR_KTO = 2  # replies at once; it estimates from the others how far the model has gone

log = logging.getLogger("familiar")

Row = dict[str, Any]


def prefer(job: Job, adapter: Path, told: Told = lambda progress: None) -> Training:
    """Go on from the LoRA adapter in the folder `adapter`, and leave the result in its place.

    With nothing to compare (no pair for DPO; for KTO nothing good, or nothing bad) the adapter stays as it is, and no
    step was made. Raises MethodRefused for an adapter that is not LoRA, TrainingFailed.
    """
    method = job.settings.preferences
    renderer = Renderer(job.model_folder)
    rows = _pairs(job, renderer) if method == "dpo" else _verdicts(job, renderer)
    if method == "off" or not _enough(rows):
        log.info(
            "no preference stage: of %d pairs and %d ratings none can be used", len(job.preferences), len(job.judged)
        )
        return _training(job, hardware.plan(job.settings), _Followed(told), 0.0)
    plan = hardware.plan(job.settings, job.model_folder)
    processes = Processes.join(plan.device)
    start = _kept(adapter) if processes.first else adapter.with_name(SUPERVISED)
    processes.wait()
    begun = time.monotonic()
    followed = _Followed(told)
    model = _load(job.model_folder, start, plan.dtype)
    with tempfile.TemporaryDirectory(dir=job.folder) as scratch:
        trainer = _trainer(job, renderer, model, rows, (plan, processes), followed, scratch)
        try:
            trainer.train()
        except (RuntimeError, MemoryError) as error:
            if not isinstance(error, MemoryError) and "memory" not in str(error).lower():
                raise
            raise TrainingFailed(
                "The preference stage ran out of memory. Lower finetune.micro_batch_tokens or finetune.max_tokens, or "
                "set finetune.checkpointing to 'on'."
            ) from error
    _refuse_what_is_no_number(model)
    model.delete_adapter("ref")
    if processes.first:
        servable.save_adapter(model, adapter, job.model_folder)
    processes.wait()
    return _training(job, plan, followed, time.monotonic() - begun, model)


def begin_anew(folder: Path) -> None:
    """The first stage is done again, maybe because something was forgotten: nothing of the one before may stay."""
    (folder / DONE).unlink(missing_ok=True)
    shutil.rmtree(folder / SUPERVISED, ignore_errors=True)


# What is compared


def _pairs(job: Job, renderer: Renderer) -> list[Row]:
    rows = [_pair(each, renderer, job.settings.max_tokens) for each in job.preferences]
    return [row for row, each in zip(rows, job.preferences, strict=True) if row for _ in range(_times(each.weight))]


def _pair(each: Preference, renderer: Renderer, max_tokens: int) -> Row | None:
    prompt = _within(each.prompt, (each.chosen, each.rejected), renderer, max_tokens)
    if prompt is None or each.chosen == each.rejected:
        return None
    return {"prompt": prompt, "chosen": _reply(each.chosen, renderer), "rejected": _reply(each.rejected, renderer)}


def _verdicts(job: Job, renderer: Renderer) -> list[Row]:
    """Ratings, and of each pair the better reply as good and the other as bad; each reply once."""
    pairs = [
        Judged(each.prompt, reply, good, each.source, each.weight)
        for each in job.preferences
        for reply, good in ((each.chosen, True), (each.rejected, False))
    ]
    rows, seen = [], set()
    for each in (*job.judged, *pairs):
        said = (tuple(tuple(message.items()) for message in each.prompt), each.reply)
        prompt = None if said in seen else _within(each.prompt, (each.reply,), renderer, job.settings.max_tokens)
        if prompt is None:
            continue
        seen.add(said)
        row = {"prompt": prompt, "completion": _reply(each.reply, renderer), "label": each.good}
        rows += [row] * _times(each.weight)
    return rows


def _times(weight: float) -> int:
    """TRL knows no weights: what counts twice is seen twice."""
    return max(1, round(weight)) if weight > 0 else 0


def _enough(rows: Sequence[Row]) -> bool:
    return bool(rows) and ("label" not in rows[0] or len({row["label"] for row in rows}) == 2)


def _reply(text: str, renderer: Renderer) -> list[ChatMessage]:
    return renderer.shield([{"role": "assistant", "content": text}])


def _within(
    prompt: Sequence[ChatMessage], replies: Sequence[str], renderer: Renderer, max_tokens: int
) -> list[ChatMessage] | None:
    """The prompt without the oldest turns that leave no room for any of these replies; None if there is no such one."""
    kept = list(prompt)
    while kept:
        lengths = [_length(kept, reply, renderer) for reply in replies]
        if None in lengths:
            return None
        if max(length or 0 for length in lengths) <= max_tokens:
            return renderer.shield(kept)
        first = 1 if kept[0]["role"] == "system" else 0
        later = next((place for place in range(first + 1, len(kept)) if kept[place]["role"] == "user"), None)
        if later is None:
            return None
        kept = kept[:first] + kept[later:]
    return None


def _length(prompt: Sequence[ChatMessage], reply: str, renderer: Renderer) -> int | None:
    messages = (*prompt, {"role": "assistant", "content": reply})
    weights = (0.0,) * len(prompt) + (1.0,)
    encoded = renderer.encode(Example(messages, weights, "imported", Source("")), 1 << 40)
    return None if encoded is None else len(encoded.ids) + AFTER_THE_END


AFTER_THE_END = 2  # tokens that a template writes behind the end of a turn: TRL counts them

# Training


def _kept(adapter: Path) -> Path:
    """The first stage's adapter, where this stage does not write."""
    kept = adapter.with_name(SUPERVISED)
    if not kept.is_dir():
        with tempfile.TemporaryDirectory(dir=adapter.parent) as scratch:
            copy = Path(scratch) / SUPERVISED
            copy.mkdir()
            for file in adapter_files(adapter):
                shutil.copyfile(file, copy / file.name)
            copy.rename(kept)
    return kept


def _load(model_folder: Path, adapter: Path, dtype: str) -> Any:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    form = torch.bfloat16 if dtype == "bfloat16" else torch.float32
    base = AutoModelForCausalLM.from_pretrained(model_folder, dtype=form, local_files_only=True)
    try:
        return PeftModel.from_pretrained(base, adapter, is_trainable=True)
    except ValueError as error:
        raise MethodRefused(f"{adapter} is no adapter from which the preference stage could go on: {error}") from error


def _trainer(
    job: Job,
    renderer: Renderer,
    model: Any,
    rows: list[Row],
    machine: tuple[hardware.Plan, Processes],
    followed: _Followed,
    scratch: str,
) -> Any:
    import datasets
    import huggingface_hub
    import torch
    from transformers import AutoTokenizer, PrinterCallback
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

    plan, processes = machine
    torch.set_num_threads(plan.threads)
    datasets.disable_progress_bars()
    huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY = True  # TRL would tell that it is used, whoever started us
    settings = job.settings
    by_pairs = settings.preferences == "dpo"
    at_once = _at_once(rows, renderer, settings, by_pairs)
    rate = RATE_SHARE * methods.learning_rate(methods.way(settings.method), settings)
    given: dict[str, Any] = {
        "output_dir": scratch,
        "use_cpu": plan.device == "cpu",
        "bf16": plan.dtype == "bfloat16",
        "gradient_checkpointing": plan.checkpointing,
        "beta": settings.preference_beta,
        "max_length": settings.max_tokens,
        "learning_rate": rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": min(settings.warmup_share, 0.99),
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.clip,
        "num_train_epochs": EPOCHS,
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": max(1, BATCH // (at_once * processes.count)),
        "seed": settings.seed,
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": plan.device != "cpu",
    }
    tokenizer = AutoTokenizer.from_pretrained(job.model_folder, local_files_only=True)
    if not by_pairs:
        given |= _balance(rows)
        rows = _spread(rows, settings.seed)
    trainer: Any = (DPOTrainer if by_pairs else KTOTrainer)(
        model=model,
        args=(DPOConfig if by_pairs else KTOConfig)(**given),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[_callback(followed)],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _at_once(rows: Sequence[Row], renderer: Renderer, settings: Finetune, by_pairs: bool) -> int:
    """How many pairs or replies go through the model at once within finetune.micro_batch_tokens, padding included."""
    replies = ("chosen", "rejected") if by_pairs else ("completion",)
    longest = max(_length(row["prompt"], row[name][0]["content"], renderer) or 0 for row in rows for name in replies)
    fit = settings.micro_batch_tokens // (longest * len(replies))
    return min(BATCH, max(1 if by_pairs else FEWEST_FOR_KTO, fit), max(len(rows), 1))


def _balance(rows: Sequence[Row]) -> dict[str, float]:
    """The rarer verdict counts so much more that both sides weigh the same."""
    good = sum(row["label"] for row in rows)
    bad = len(rows) - good
    return {"desirable_weight": max(1.0, bad / good), "undesirable_weight": max(1.0, good / bad)}


def _spread(rows: Sequence[Row], seed: int) -> list[Row]:
    """Shuffled once: KTO takes them in the order in which they come, and compares neighbours."""
    import random

    shuffled = list(rows)
    random.Random(f"{seed} kto").shuffle(shuffled)
    return shuffled


@dataclass
class _Followed:
    """What the trainer said while it went on."""

    told: Told
    steps: int = 0
    total: int = 0
    tokens: int = 0
    epochs: float = 0.0
    points: tuple[Point, ...] = ()


def _callback(followed: _Followed) -> Any:
    from transformers import TrainerCallback

    class Follow(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if not logs or "loss" not in logs:
                return
            loss = float(logs["loss"])
            if not math.isfinite(loss):
                raise TrainingFailed(
                    f"The loss of the preference stage is not a number at step {state.global_step}. Lower "
                    f"finetune.learning_rate, or set finetune.preferences to 'off'."
                )
            point = Point(state.global_step, loss, None, float(logs.get("learning_rate", 0.0)))
            followed.points += (point,)
            followed.steps, followed.total, followed.epochs = state.global_step, state.max_steps, state.epoch or 0.0
            followed.tokens = int(logs.get("num_tokens", followed.tokens))
            followed.told(Progress("preferring", state.global_step, state.max_steps, "", point))

    return Follow()


def _refuse_what_is_no_number(model: Any) -> None:
    learnt = [each for each in model.parameters() if each.requires_grad]
    if not all(bool(each.isfinite().all()) for each in learnt):
        raise TrainingFailed(
            "The preference stage left numbers that are none. Lower finetune.learning_rate, or set "
            "finetune.preferences to 'off'."
        )


def _training(job: Job, plan: hardware.Plan, followed: _Followed, seconds: float, model: Any = None) -> Training:
    return Training(
        method=job.settings.preferences,
        base=job.model_folder.name,
        continued_from=SUPERVISED,
        trainable=_count(model, learnt=True),
        parameters=_count(model, learnt=False),
        steps=followed.steps,
        best_step=followed.steps,
        epochs=round(followed.epochs, 2),
        tokens=followed.tokens,
        seconds=round(seconds, 3),
        tokens_per_s=round(followed.tokens / seconds, 1) if seconds else 0.0,
        peak_mb=round(hardware.peak_memory_mb(plan.device), 1) if model is not None else 0.0,
        device=plan.device,
        dtype=plan.dtype,
        curve=followed.points,
        settings=job.settings.model_dump(mode="json"),
    )


def _count(model: Any, *, learnt: bool) -> int:
    if model is None:
        return 0
    return sum(each.numel() for name, each in model.named_parameters() if (".lora_" in name) == learnt)
