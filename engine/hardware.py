"""What this machine has to run a model on."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

import psutil

GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    name: str
    memory_gib: float
    free_gib: float = 0.0
    uuid: str = ""


@dataclass(frozen=True)
class Hardware:
    gpus: tuple[Gpu, ...]
    cores: int  # those that this process may use
    memory_gib: float

    @property
    def gpu_memory_gib(self) -> float:
        """Of the largest GPU: one model runs on one GPU unless vLLM's own flags say otherwise."""
        return max((gpu.memory_gib for gpu in self.gpus), default=0.0)

    def __str__(self) -> str:
        processors = f"{self.cores} cores, {self.memory_gib:.0f} GiB of memory"
        if not self.gpus:
            return f"no GPU, {processors}"
        return ", ".join(f"{gpu.name} with {gpu.memory_gib:.0f} GiB" for gpu in self.gpus) + f"; {processors}"


def detect() -> Hardware:
    """This machine, as nvidia-smi and the operating system tell it. No GPU driver means no GPU."""
    return Hardware(_gpus(), len(os.sched_getaffinity(0)), psutil.virtual_memory().total / GIB)


def _gpus() -> tuple[Gpu, ...]:
    query = ["nvidia-smi", "--query-gpu=name,memory.total,memory.free,uuid", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = [[word.strip() for word in line.rsplit(",", 3)] for line in answer.splitlines() if line.count(",") >= 3]
    return tuple(Gpu(name, _gib(all_), _gib(free), uuid) for name, all_, free, uuid in rows)


def _gib(mebibytes: str) -> float:
    """0.0 where the driver has no number, as for a GPU that is cut into parts ("[N/A]")."""
    return float(mebibytes) / 1024 if mebibytes.replace(".", "", 1).isdecimal() else 0.0
