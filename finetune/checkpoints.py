"""Where training stands, so that it goes on after a SIGKILL as if nothing had been.

    checkpoints/last.pt      the newest state: parameters that learn, optimizer, place in the data, curve, machine plan
    checkpoints/best-12.pt   the parameters with the best validation loss, of step 12

Each belongs to one job: `key` is a fingerprint of what is trained on and how; a state of another job is not gone on
from. Random numbers are not kept, since each step draws its own from the seed and its number.
"""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from finetune.files import write
from finetune.hardware import Plan
from finetune.job import Job
from finetune.record import Point
from finetune.tokens import Encoded

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("familiar")


@dataclass
class State:
    """All that changes while training goes on, beside tensors."""

    step: int = 0  # that are done
    tokens: int = 0
    seconds: float = 0.0
    energy_j: float | None = None
    resumed: int = 0
    best_step: int = 0
    best_loss: float = float("inf")
    worse_since: int = 0  # validations without a better loss
    stopped_early: bool = False
    loss_sum: float = 0.0  # since the newest point of the curve
    loss_tokens: int = 0
    curve: list[Point] = field(default_factory=list)


@dataclass(frozen=True)
class Saved:
    state: State
    plan: Plan
    parameters: dict[str, Tensor]
    optimizer: dict[str, Any]


def key_of(job: Job, train: Sequence[Encoded], validation: Sequence[Encoded], anchors: Sequence[Encoded]) -> str:
    """The same for the same model, data and settings, wherever the run's folder lies."""
    settings = job.settings.model_dump(mode="json", exclude={"schedule", "timeout_hours", "keep_runs", "threads"})
    digest = hashlib.sha256(json.dumps([str(job.model_folder), str(job.continue_from), settings]).encode())
    for side in (train, validation, anchors):
        digest.update(repr([(each.ids, each.weights) for each in side]).encode())
    return digest.hexdigest()


class Checkpoints:
    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self.key = key

    def save(self, state: State, plan: Plan, parameters: Mapping[str, Tensor], optimizer: Any) -> None:
        """Raises OSError."""
        content = {
            "key": self.key,
            "state": asdict(state),
            "plan": asdict(plan),
            "parameters": {name: each.detach() for name, each in parameters.items()},
            "optimizer": optimizer.state_dict(),
        }
        self._write("last.pt", content)
        for best in self.folder.glob("best-*.pt"):  # only now: an older state would still have named it
            if best != self._best(state):
                best.unlink(missing_ok=True)

    def load(self) -> Saved | None:
        """The newest state of this job; None where there is none."""
        content = self._read("last.pt")
        if content is None:
            return None
        state = State(**content["state"] | {"curve": [Point(**each) for each in content["state"]["curve"]]})
        return Saved(state, Plan(**content["plan"]), content["parameters"], content["optimizer"])

    def save_best(self, state: State, parameters: Mapping[str, Tensor]) -> None:
        """Before the state that names it is saved. Raises OSError."""
        content = {"key": self.key, "parameters": {name: each.detach() for name, each in parameters.items()}}
        self._write(self._best(state).name, content)

    def best(self, state: State) -> dict[str, Tensor] | None:
        content = self._read(self._best(state).name)
        return content["parameters"] if content else None

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _best(self, state: State) -> Path:
        return self.folder / f"best-{state.best_step}.pt"

    def _write(self, name: str, content: Any) -> None:
        write(self.folder / name, lambda file: _save(content, file))

    def _read(self, name: str) -> dict[str, Any] | None:
        import torch

        file = self.folder / name
        if not file.is_file():
            return None
        try:
            content: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        except (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
            log.warning("%s cannot be read, training begins anew: %s", file, error)
            return None
        return content if content.get("key") == self.key else None


def _save(content: Any, file: IO[bytes]) -> None:
    import torch

    try:
        torch.save(content, file)
    except RuntimeError as error:  # of its own bookkeeping, over a disk that is full
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
