"""Training on several GPUs: one process each, started by `accelerate launch` or torchrun, that act as one.

Each takes its part of every batch; their gradients are added up, not averaged, since each token's share in the loss is
of the whole batch. So a step is the same on one process and on eight.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Processes:
    rank: int = 0
    count: int = 1
    device: str = "cpu"

    @classmethod
    def join(cls, device: str) -> Processes:
        """As the launcher's variables say; alone where there are none."""
        import torch

        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            return cls(device=device)
        if device != "cpu":
            torch.cuda.set_device(device)
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("gloo" if device == "cpu" else "nccl")
        return cls(torch.distributed.get_rank(), count, device)

    @property
    def first(self) -> bool:
        return self.rank == 0

    def add_gradients(self, parameters: Iterable[Tensor]) -> None:
        import torch

        if self.count == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:  # this process had no part of a small batch
                parameter.grad = torch.zeros_like(parameter)
            torch.distributed.all_reduce(parameter.grad)

    def sums(self, one: float, other: int) -> tuple[float, int]:
        import torch

        if self.count == 1:
            return one, other
        both = torch.tensor([one, other], dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(both)
        return float(both[0]), int(both[1])

    def wait(self) -> None:
        """Until all are here."""
        import torch

        if self.count > 1:
            torch.distributed.barrier()
