"""What training runs on here: device, number format, threads, and whether activations fit into memory.

On a CPU the number format is found by measuring, not by reading flags: bfloat16 halves the time where the processor
multiplies matrices in it (AMX), and doubles it where it has to be emulated, and a virtual machine may show either flag
without the speed. On a GPU that knows it, bfloat16 is taken.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from settings import Finetune

FASTER = 2.0  # bfloat16 must multiply so much faster: rounding to and fro between the matrices takes time too
KEPT_FREE = 0.8  # share of the free memory that training may plan with
RAPL = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Plan:
    device: str  # cpu, cuda:0
    dtype: Literal["float32", "bfloat16"]
    threads: int
    checkpointing: bool


def plan(settings: Finetune, model_folder: Path | None = None) -> Plan:
    """How to train, or to measure, on this machine. Sets nothing. `model_folder`: to know what its activations take."""
    import torch

    threads = settings.threads or len(os.sched_getaffinity(0))
    device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
    dtype = settings.dtype
    if dtype == "auto" and device != "cpu":
        dtype = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    elif dtype == "auto":
        dtype = "bfloat16" if bfloat16_speedup() >= FASTER else "float32"
    checkpointing = settings.checkpointing == "on"
    if settings.checkpointing == "auto" and model_folder is not None:
        checkpointing = memory_needed(settings, model_folder, dtype) > KEPT_FREE * free_memory(device)
    return Plan(device, dtype, threads, checkpointing)


def bfloat16_speedup() -> float:
    """How much faster this CPU multiplies matrices of a small model's size in bfloat16 than in float32: about 0.2 s.

    In the processor's time on one thread, so that what else the machine does counts little.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        formats = (torch.float32, torch.bfloat16)
        factors = {dtype: (torch.ones(256, 768, dtype=dtype), torch.ones(1536, 768, dtype=dtype)) for dtype in formats}
        seconds: dict[Any, list[float]] = {dtype: [] for dtype in formats}
        for _ in range(8):  # by turns: the clock's speed changes meanwhile
            for dtype in formats:
                seconds[dtype].append(_processor_seconds_of(*factors[dtype]))
        return min(seconds[torch.float32]) / min(seconds[torch.bfloat16])
    finally:
        torch.set_num_threads(before)


def _processor_seconds_of(one: Any, other: Any) -> float:
    import torch

    begun = time.thread_time()
    torch.nn.functional.linear(one, other)
    return time.thread_time() - begun


def memory_needed(settings: Finetune, model_folder: Path, dtype: str) -> float:
    """Bytes that weights, activations and logits of one micro-batch take without checkpointing, roughly.

    A layer keeps the inputs of its matrices and of what lies between them: about 20 vectors of the hidden size and 7 of
    the feed-forward size a token, by what SmolLM2 with LoRA on every linear layer takes (bench/finetune.py).
    """
    config = json.loads((model_folder / "config.json").read_text(encoding="utf-8"))
    config = config.get("text_config", config)
    weights = sum(file.stat().st_size for file in model_folder.glob("*.safetensors"))
    each = 4 if dtype == "float32" else 2
    hidden, layers = config.get("hidden_size", 0), config.get("num_hidden_layers", 0)
    inner = config.get("intermediate_size") or 4 * hidden
    tokens = max(settings.micro_batch_tokens, settings.max_tokens)
    activations = tokens * layers * (20 * hidden + 7 * inner) * each
    logits = 3 * tokens * config.get("vocab_size", 0) * 4
    trained = 4 * weights * 4 / 2 if settings.method == "full" else 0  # gradient, two moments, start; in float32
    return float(weights * each / 2 + activations + logits + trained)


def free_memory(device: str) -> float:
    """Bytes."""
    import torch

    if device != "cpu":
        return float(torch.cuda.mem_get_info(device)[0])
    return float(min(psutil.virtual_memory().available, _left_in_cgroup()))


def _left_in_cgroup() -> float:
    """A container's own limit, which the system's numbers do not show."""
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        return (
            float("inf") if limit == "max" else float(limit) - float(Path("/sys/fs/cgroup/memory.current").read_text())
        )
    except (OSError, ValueError):
        return float("inf")


def peak_memory_mb(device: str) -> float:
    """The most memory that this process has held, in MiB; on a GPU, the GPU's."""
    import resource

    import torch

    if device != "cpu":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class EnergyMeter:
    """Joules that processors and GPU took since it was made, everything that ran on them included."""

    def __init__(self, device: str, counters: Path = RAPL) -> None:
        self._device = device
        self._packages = [
            folder for folder in sorted(counters.glob("intel-rapl:*")) if folder.name.count(":") == 1
        ]  # of each processor as a whole; "intel-rapl:0:1" is a part of it
        self._last = [_microjoules(folder / "energy_uj") for folder in self._packages]
        self._passed = 0.0
        self._gpu = self._gpu_joules()

    def joules(self) -> float | None:
        """None where no counter can be read. Ask at least every few minutes: the processors' start anew."""
        now = [_microjoules(folder / "energy_uj") for folder in self._packages]
        known = False
        for folder, before, after in zip(self._packages, self._last, now, strict=True):
            if before is None or after is None:
                continue
            known = True
            around = _microjoules(folder / "max_energy_range_uj") or 0.0 if after < before else 0.0
            self._passed += (after - before + around) / 1e6
        self._last = now
        gpu = self._gpu_joules()
        if gpu is None or self._gpu is None:
            return self._passed if known else None
        return self._passed + gpu - self._gpu

    def _gpu_joules(self) -> float | None:
        if self._device == "cpu":
            return None
        try:
            import pynvml  # type: ignore[import-not-found]  # comes with the GPU build of vLLM alone

            pynvml.nvmlInit()
            handle = pynvml.nvmlDeviceGetHandleByIndex(int(self._device.partition(":")[2] or 0))
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
        except Exception:  # a library of the driver, which may be missing or too old: the number is a courtesy
            return None


def _microjoules(file: Path) -> float | None:
    try:
        return float(file.read_text())
    except (OSError, ValueError):
        return None
