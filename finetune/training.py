"""Examples become an adapter: the loop in which a model learns.

Our own, because on a CPU it is more than twice as fast as the usual trainers (bench/finetune.py): conversations are
packed without padding, logits are computed for the replies alone, and activations are kept where there is room. And
because it can be told to the letter what a step is: the gradient of one batch, the same whether the batch goes through
the model at once or in many parts, on one process or on several, in one go or after a SIGKILL.

What a step draws (dropout) comes from the seed and the step's number alone. DPO and KTO are in prefer.py.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune import attention, hardware, methods, prefer
from finetune.batches import batch_of, learning_rate_at, steps
from finetune.checkpoints import Checkpoints, Saved, State, key_of
from finetune.errors import NotEnoughData, TrainingFailed
from finetune.files import read_json, write_json
from finetune.hardware import EnergyMeter, Plan
from finetune.job import Job, Progress, Told
from finetune.packing import Pack, losses, packs, token_losses
from finetune.processes import Processes
from finetune.record import Point, Training
from finetune.servable import made_in
from finetune.tokens import Encoded, Renderer
from settings import Finetune

if TYPE_CHECKING:
    from torch import Tensor

CHECKPOINT_S = 60.0
POINTS = 100  # of the training curve
TRAINING = "training.json"
LOOKED_AT = 8  # packs from which EVA takes its start

log = logging.getLogger("familiar")


def train(job: Job, told: Told = lambda progress: None) -> Training:
    """Train as the job says; what was learnt lies in job.folder/adapter (or /model, /offline) afterwards.

    A job that was ended before goes on from its last checkpoint; one that is done is not done again.
    Raises NotEnoughData, MethodRefused, TrainingFailed.
    """
    with explained(job.folder):
        renderer = Renderer(job.model_folder)
        learnt = _encoded(renderer, job.train, job.settings)
        held_out = _encoded(renderer, job.validation, job.settings)
        anchors = _encoded(renderer, job.anchors, job.settings)
        if not learnt:
            raise NotEnoughData(
                f"None of the {len(job.train)} examples can be learnt from: each is longer than finetune.max_tokens = "
                f"{job.settings.max_tokens} tokens, or is refused by the model's chat template."
            )
        key = key_of(job, learnt, held_out, anchors)
        if (done := _done(job.folder, key)) is not None:
            return done
        checkpoints = Checkpoints(job.folder / "checkpoints", key)
        saved = checkpoints.load()
        trainer = _Trainer(job, learnt, held_out, anchors, checkpoints, saved, told)
        if trainer.processes.first:
            prefer.begin_anew(job.folder)
        trainer.run()
        training = trainer.finish()
        if trainer.processes.first:
            write_json(job.folder / TRAINING, {"key": key, **asdict(training)})
            checkpoints.remove()
        trainer.processes.wait()  # whoever asks next whether it is done must find the answer
        return training


def load_training(folder: Path) -> Training:
    """What `train` said of the run in this folder. Raises DataRefused."""
    return _training(read_json(folder / TRAINING))


class _Trainer:
    def __init__(
        self,
        job: Job,
        learnt: list[Encoded],
        held_out: list[Encoded],
        anchors: list[Encoded],
        checkpoints: Checkpoints,
        saved: Saved | None,
        told: Told,
    ) -> None:
        import torch

        self.job, self.learnt, self.held_out, self.checkpoints, self.told = job, learnt, held_out, checkpoints, told
        settings = self.settings = job.settings
        # Measured once: after a restart the machine may be busier, and other formats give other numbers.
        self.plan: Plan = saved.plan if saved else hardware.plan(settings, job.model_folder)
        self.processes = Processes.join(self.plan.device)
        torch.set_num_threads(self.plan.threads)
        self.way = methods.way(settings.method)
        self.highest_rate = methods.learning_rate(self.way, settings)
        self.members = list(steps([len(each.ids) for each in learnt], settings))
        self.per_epoch = max(1, round(len(self.members) / settings.epochs))
        self.model = self._load_model()
        self.parameters = {name: each for name, each in self.model.named_parameters() if each.requires_grad}
        self.optimizer = self._make_optimizer()
        self.regulariser: Callable[[int], Tensor | None] | None = None
        if settings.l2 > 0 or (settings.kl > 0 and anchors):
            from finetune import continual

            self.regulariser = continual.regulariser(self.model, settings, anchors)
        self.state = State()
        if saved:
            self._go_on_from(saved)
        self.energy = EnergyMeter(self.plan.device)
        self.begun = time.monotonic()

    def run(self) -> None:
        total = len(self.members)
        if self.state.step == 0 and not self.state.curve:
            self._validate()
        while self.state.step < total and not self.state.stopped_early:
            self._step(self.state.step)
            step = self.state.step = self.state.step + 1
            due = self._validation_is_due(step)
            point = None
            if due or step == total or step % max(1, total // POINTS) == 0:
                point = self._point()
            if due:
                point = self._validate(point)
            if due or time.monotonic() - self.begun > CHECKPOINT_S:
                self._checkpoint()
            self.told(Progress("training", step, total, "", point))

    def finish(self) -> Training:
        import torch

        best = self.checkpoints.best(self.state) if self.held_out else None
        if best is not None:
            self._put(best)
        if not all(bool(torch.isfinite(each).all()) for each in self.parameters.values()):
            raise TrainingFailed(_NOT_A_NUMBER.format("What was learnt is not a number"))
        self.processes.wait()
        if self.processes.first:
            self.model.eval()
            methods.save(self.model, self.way, self.job.folder, self.job.model_folder)
        self._count_time()
        state = self.state
        trainable = sum(each.numel() for each in self.parameters.values())
        return Training(
            method=self.settings.method,
            base=self.job.model_folder.name,
            continued_from=self.job.continued_from,
            trainable=trainable,
            parameters=self.parameters_of_base,
            steps=state.step,
            best_step=state.best_step if self.held_out else state.step,
            stopped_early=state.stopped_early,
            epochs=round(state.step / self.per_epoch, 2),
            tokens=state.tokens,
            seconds=round(state.seconds, 3),
            tokens_per_s=round(state.tokens / state.seconds, 1) if state.seconds else 0.0,
            peak_mb=round(hardware.peak_memory_mb(self.plan.device), 1),
            energy_j=state.energy_j,
            device=self.plan.device,
            dtype=self.plan.dtype,
            resumed=state.resumed,
            curve=tuple(state.curve),
            settings=self.settings.model_dump(mode="json"),
        )

    # One step

    def _step(self, step: int) -> None:
        import torch

        batch = batch_of(self.learnt, self.members[step], self.settings, self.row_tokens)
        _seed(self.settings.seed, step, self.processes.rank)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=False)
        loss_sum, loss_tokens = 0.0, 0
        mine = list(zip(batch.packs, batch.shares, strict=True))[self.processes.rank :: self.processes.count]
        for part, shares in mine:
            with self._autocast():
                each = token_losses(self.model, part)
                loss = (each * torch.tensor(shares, device=each.device)).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            loss_sum += float(each.detach().sum())
            loss_tokens += len(part.predicted)
        if self.regulariser is not None and self.processes.first:
            with self._autocast():
                held_back = self.regulariser(step)
            if held_back is not None:
                held_back.backward()  # type: ignore[no-untyped-call]
        self.processes.add_gradients(self.parameters.values())
        loss_sum, loss_tokens = self.processes.sums(loss_sum, loss_tokens)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.clip or math.inf)
        if not (math.isfinite(loss_sum) and bool(torch.isfinite(norm))):
            raise TrainingFailed(_NOT_A_NUMBER.format(f"The loss is not a number at step {step + 1}"))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(step, len(self.members), self.settings, self.highest_rate)
        self.optimizer.step()
        self.state.tokens += batch.tokens
        self.state.loss_sum += loss_sum
        self.state.loss_tokens += loss_tokens

    # Where it stands

    def _point(self) -> Point:
        state = self.state
        rate = learning_rate_at(state.step - 1, len(self.members), self.settings, self.highest_rate)
        point = Point(state.step, state.loss_sum / max(1, state.loss_tokens), None, rate)
        state.curve.append(point)
        state.loss_sum, state.loss_tokens = 0.0, 0
        return point

    def _validation_is_due(self, step: int) -> bool:
        if not self.held_out:
            return False
        looks = self.settings.validations_per_epoch
        return step == len(self.members) or step * looks // self.per_epoch > (step - 1) * looks // self.per_epoch

    def _validate(self, point: Point | None = None) -> Point | None:
        """Look at the validation loss (nats a token) and decide whether to go on; the state before any step counts."""
        if not self.held_out:
            return None
        mine = self.held_out[self.processes.rank :: self.processes.count]
        with self._autocast():
            measured = losses(self.model, mine, self.row_tokens)
        loss_sum, tokens = self.processes.sums(sum(each for each, _ in measured), sum(count for _, count in measured))
        loss = loss_sum / tokens
        state = self.state
        if not math.isfinite(loss):
            raise TrainingFailed(_NOT_A_NUMBER.format(f"The validation loss is not a number after step {state.step}"))
        if loss < state.best_loss:
            state.best_loss, state.best_step, state.worse_since = loss, state.step, 0
            if self.processes.first:
                self.checkpoints.save_best(state, self.parameters)
        else:
            state.worse_since += 1
            state.stopped_early = state.worse_since >= self.settings.patience and state.step < len(self.members)
        if point is not None:
            state.curve.pop()
        point = Point(state.step, point.train if point else None, loss, point.learning_rate if point else 0.0)
        state.curve.append(point)
        return point

    def _checkpoint(self) -> None:
        self._count_time()
        if self.processes.first:
            self.checkpoints.save(self.state, self.plan, self.parameters, self.optimizer)

    def _count_time(self) -> None:
        self.state.seconds += time.monotonic() - self.begun
        self.begun = time.monotonic()
        joules = self.energy.joules()
        if joules is not None:
            self.state.energy_j = round(joules + self.energy_before, 1)

    def _go_on_from(self, saved: Saved) -> None:
        self.state = saved.state
        self.state.resumed += 1
        self.energy_before = saved.state.energy_j or 0.0
        self._put(saved.parameters)
        self.optimizer.load_state_dict(saved.optimizer)
        log.info("training goes on after step %d of %d", self.state.step, len(self.members))

    def _put(self, values: dict[str, Tensor]) -> None:
        import torch

        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(values[name])

    # What it starts from

    energy_before = 0.0
    parameters_of_base = 0

    def _load_model(self) -> Any:
        import torch
        from transformers import AutoModelForCausalLM

        start = self.job.continue_from
        whole = start is not None and (start / "config.json").is_file()
        folder = start if start is not None and whole else self.job.model_folder
        dtype = torch.bfloat16 if self.plan.dtype == "bfloat16" else torch.float32
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True).to(self.plan.device)
        self.parameters_of_base = model.num_parameters()
        if self.plan.checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if self.way.served != "offline" and not self.plan.checkpointing:
            attention.use(model)
        self.row_tokens = self.settings.micro_batch_tokens
        if not attention.isolates(model):
            log.warning(
                "%s cannot be trained on packed conversations; each goes through it alone", type(model).__name__
            )
            self.row_tokens = 0
        _seed(self.settings.seed, -1, 0)
        looked_at = (self._tensors(part) for part in packs(self.learnt, self.row_tokens)[:LOOKED_AT])
        model = methods.attach(model, self.way, self.settings, looked_at, start=None if whole else start)
        for module in model.modules():
            if self.plan.dtype == "bfloat16" and hasattr(module, "cast_input_dtype_enabled"):
                module.cast_input_dtype_enabled = False  # of LoRA's: autocast does it, there and not back
        for parameter in model.parameters():
            if parameter.requires_grad:  # small steps on them would be lost in bfloat16
                parameter.data = parameter.data.float()
        return model

    def _tensors(self, part: Pack) -> dict[str, Tensor]:
        import torch

        return {
            "input_ids": torch.tensor([part.ids], device=self.plan.device),
            "position_ids": torch.tensor([part.positions], device=self.plan.device),
        }

    def _make_optimizer(self) -> Any:
        import torch

        matrices = [each for each in self.parameters.values() if each.ndim > 1]
        scales = [each for each in self.parameters.values() if each.ndim <= 1]  # and biases, which do not decay
        groups: list[dict[str, Any]] = [{"params": matrices}, {"params": scales, "weight_decay": 0.0}]
        groups = [group for group in groups if group["params"]]
        decay = self.settings.weight_decay
        if self.settings.optimizer == "sgd":
            return torch.optim.SGD(groups, lr=self.highest_rate, momentum=0.9, weight_decay=decay)
        return torch.optim.AdamW(groups, lr=self.highest_rate, weight_decay=decay, fused=True)

    def _autocast(self) -> Any:
        import torch

        return torch.autocast(self.plan.device.partition(":")[0], torch.bfloat16, enabled=self.plan.dtype == "bfloat16")


_NOT_A_NUMBER = (
    "{}: training has run away. Lower finetune.learning_rate (0 takes what suits the method), and leave finetune.clip "
    "at 1."
)


def _encoded(renderer: Renderer, examples: Sequence[Any], settings: Finetune) -> list[Encoded]:
    found = (renderer.encode(example, settings.max_tokens) for example in examples)
    return [each for each in found if each is not None]


def _seed(seed: int, step: int, rank: int) -> None:
    import numpy
    import torch

    drawn = random.Random(f"{seed} {step} {rank}").getrandbits(32)
    random.seed(drawn)
    numpy.random.seed(drawn)
    torch.manual_seed(drawn)


def _done(folder: Path, key: str) -> Training | None:
    if not (folder / TRAINING).is_file() or made_in(folder) is None:
        return None
    written = read_json(folder / TRAINING)
    return _training(written) if written.get("key") == key else None


def _training(written: dict[str, Any]) -> Training:
    fields = {name: value for name, value in written.items() if name != "key"}
    return Training(**fields | {"curve": tuple(Point(**each) for each in fields["curve"])})


@contextlib.contextmanager
def explained(folder: Path) -> Iterator[None]:
    """What the machine lacks, in words of what to do about it."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise TrainingFailed(
            f"There is no room left in {folder}. Free some, and run it again: it goes on from its last checkpoint."
        ) from error
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error).lower():
            raise
        raise TrainingFailed(
            "Training ran out of memory. Set finetune.checkpointing to 'on', or lower finetune.micro_batch_tokens; "
            "it goes on from its last checkpoint."
        ) from error
