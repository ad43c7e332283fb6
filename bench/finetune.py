"""How fast an adapter is trained, and in how much memory: our loop beside TRL's SFTTrainer.

    python -m bench.finetune [--steps 4] [--conversations 8] [--model FOLDER]

Each way trains LoRA (rank 16, alpha 32, every linear layer) on the same conversations of OASST, from FAMILIAR_DATA
(else ../shared/data): the best-ranked path of each tree that has at most 1,024 tokens, loss on its last reply alone,
so many a step, each conversation once. Each is a process of its own, one after the other. Tokens are those of the
conversations, padding not counted; the time is that of the steps alone, without loading. TRL's best settings are
packing without gradient checkpointing; its number formats there are all measured, and the fastest one counts. The
processor's time stands beside the clock's, for machines that do something else meanwhile.
Aim: at least 2.5 times the tokens a second of its defaults, and 1.2 times those of its best settings.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.data import DATA

WAYS = ("ours", "ours float32", "trl defaults", "trl packed", "trl packed float32", "trl packed bfloat16")
TITLES = {
    "ours": "Familiar's defaults",
    "ours float32": "Familiar, float32",
    "trl defaults": "SFTTrainer's defaults",
    "trl packed": "SFTTrainer: packing, no checkpointing",
    "trl packed float32": "the same in float32",
    "trl packed bfloat16": "the same with weights in bfloat16",
}
RANK, ALPHA, LONGEST, RATE = 16, 32, 1024, 2e-4


def conversations(folder: Path, count: int) -> list[list[dict[str, str]]]:
    """Each ends with a reply, and fits whole: what is too long is cut otherwise by each way."""
    from engine.tokenizer import PromptTokenizer

    tokenizer = PromptTokenizer(folder)
    found = []
    for line in (DATA / "oasst1-en-100-trees.jsonl").read_text(encoding="utf-8").splitlines():
        at = json.loads(line)["prompt"]
        messages = []
        while at is not None:
            messages.append({"role": "user" if at["role"] == "prompter" else "assistant", "content": at["text"]})
            at = min(at["replies"], key=lambda reply: reply.get("rank") or 0, default=None)
        if messages[-1]["role"] == "user":
            messages.pop()
        if messages and tokenizer.count(messages) <= LONGEST:
            found.append(messages)
    return [found[place % len(found)] for place in range(count)]


def ours(folder: Path, work: Path, steps: int, each: int, dtype: Any) -> dict[str, Any]:
    from finetune import training
    from finetune.examples import Example, Source
    from finetune.job import Job
    from finetune.tokens import Renderer
    from settings import Finetune

    learnt = tuple(
        Example(tuple(messages), (0.0,) * (len(messages) - 1) + (1.0,), "imported", Source(f"file:oasst:{number}"))
        for number, messages in enumerate(conversations(folder, steps * each))
    )
    renderer = Renderer(folder)
    tokens = sum(len(encoded.ids) for one in learnt if (encoded := renderer.encode(one, LONGEST)))
    settings = Finetune(
        rank=RANK, alpha=ALPHA, learning_rate=RATE, epochs=1, max_tokens=LONGEST, kl=0, dtype=dtype,
        batch_tokens=tokens // steps,
    )  # fmt: skip
    run = training._Trainer.run
    spent = {}

    def timed(trainer: Any) -> None:
        begun, used = time.monotonic(), time.process_time()
        run(trainer)
        spent["seconds"], spent["core_s"] = time.monotonic() - begun, time.process_time() - used

    training._Trainer.run = timed  # type: ignore[method-assign]
    done = training.train(Job(folder, work, settings, learnt, ()))
    return spent | {"tokens": done.tokens, "steps": done.steps, "dtype": done.dtype}


def trl(folder: Path, work: Path, steps: int, each: int, **best: Any) -> dict[str, Any]:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    rows = [{"prompt": one[:-1], "completion": one[-1:]} for one in conversations(folder, steps * each)]
    settings = SFTConfig(
        output_dir=str(work), learning_rate=RATE, num_train_epochs=1, per_device_train_batch_size=each,
        use_cpu=True, max_length=LONGEST, save_strategy="no", report_to="none", disable_tqdm=True, **best,
    )  # fmt: skip
    lora = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = SFTTrainer(model=str(folder), args=settings, train_dataset=Dataset.from_list(rows), peft_config=lora)
    if settings.packing:  # a batch of rows, not of conversations
        trainer.args.per_device_train_batch_size = -(-len(trainer.train_dataset) // steps)
        trainer._train_batch_size = trainer.args.per_device_train_batch_size
    count = {"tokens": 0, "seconds": 0.0, "steps": 0, "dtype": "", "core_s": 0.0}
    step = trainer.training_step

    def counted(model: Any, inputs: dict[str, Any], *rest: Any) -> Any:
        mask = inputs.get("attention_mask")
        count["tokens"] += int(mask.sum()) if mask is not None else inputs["input_ids"].numel()
        return step(model, inputs, *rest)

    trainer.training_step = counted

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.begun, self.spent = time.monotonic(), time.process_time()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            count["seconds"] = time.monotonic() - self.begun
            count["core_s"] = time.process_time() - self.spent
            count["steps"] += 1

    trainer.add_callback(Watch())
    trainer.train()
    weights = next(each.dtype for each in trainer.model.parameters() if not each.requires_grad)
    count["dtype"] = f"{weights}".removeprefix("torch.") + (" autocast" if settings.bf16 else "")
    return count


def measure(way: str, folder: Path, steps: int, each: int) -> dict[str, Any]:
    packed: dict[str, Any] = {"packing": True, "gradient_checkpointing": False}
    plain: dict[str, Any] = {"bf16": False, "model_init_kwargs": {"dtype": "float32"}}
    ways: dict[str, Callable[[Path], dict[str, Any]]] = {
        "ours": lambda work: ours(folder, work, steps, each, "auto"),
        "ours float32": lambda work: ours(folder, work, steps, each, "float32"),
        "trl defaults": lambda work: trl(folder, work, steps, each),
        "trl packed": lambda work: trl(folder, work, steps, each, **packed),
        "trl packed float32": lambda work: trl(folder, work, steps, each, **packed, **plain),
        "trl packed bfloat16": lambda work: trl(
            folder, work, steps, each, **packed, model_init_kwargs={"dtype": "bfloat16"}
        ),
    }
    with tempfile.TemporaryDirectory() as work:
        count = ways[way](Path(work))
    return count | {"gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--conversations", type=int, default=8, help="a step")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS))
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.way:
        print(json.dumps(measure(asked.way, asked.model, asked.steps, asked.conversations)), flush=True)
        return

    from bench.running import heading
    from engine import hardware, models
    from finetune.process import PATIENT, QUIET
    from settings import load

    configured = load()
    folder = asked.model or models.ensure(
        models.choose(configured.engine.model, hardware.detect()), configured.data.folder / "models", print
    )
    heading(f"Training LoRA on {folder.name}: {asked.steps} steps of {asked.conversations} conversations")
    print(f"{'':38} tokens/s  peak GiB  tokens  steps  seconds  core-seconds  number format")
    speeds: dict[str, float] = {}
    per_core: dict[str, float] = {}
    for way in asked.ways:
        options = ["--way", way, "--model", str(folder), "--steps", str(asked.steps)]
        ended = subprocess.run(
            [sys.executable, "-m", "bench.finetune", *options, "--conversations", str(asked.conversations)],
            env=(PATIENT if way.startswith("ours") else {}) | os.environ | QUIET,
            capture_output=True,
            text=True,
        )
        if ended.returncode:
            print(f"{TITLES[way]:38} failed: {ended.stderr.strip().splitlines()[-1:]}", flush=True)
            continue
        count = json.loads(ended.stdout.strip().splitlines()[-1])
        speeds[way] = count["tokens"] / count["seconds"]
        per_core[way] = count["tokens"] / count["core_s"]
        print(
            f"{TITLES[way]:38} {speeds[way]:8.1f}  {count['gib']:8.1f}  {count['tokens']:6}  {count['steps']:5}"
            f"  {count['seconds']:7.1f}  {count['core_s']:12.1f}  {count['dtype']}",
            flush=True,
        )
    best = max((way for way in speeds if way.startswith("trl packed")), key=lambda way: speeds[way], default="")
    for other, what in (("trl defaults", "its defaults (aim 2.5)"), (best, "its best settings (aim 1.2)")):
        if "ours" in speeds and other in speeds:
            by_clock, by_core = speeds["ours"] / speeds[other], per_core["ours"] / per_core[other]
            print(f"\n{by_clock:.2f} times {what}, {by_core:.2f} times by the processor's time", flush=True)


if __name__ == "__main__":
    main()
