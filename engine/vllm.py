"""vLLM's command line and environment, from the settings, the model and the hardware.

What each choice buys is measured in docs/tuning.md.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.hardware import Hardware
from engine.models import context_length
from settings import Engine

LEFT_FOR_TRAINING = 0.4  # of the GPU's memory, where finetune.gpu is "share"


@dataclass(frozen=True)
class Launch:
    """One start of vLLM."""

    command: list[str]
    environment: dict[str, str]
    max_model_len: int
    lora: bool


def launch(
    settings: Engine,
    folder: Path,
    served_name: str,
    hardware: Hardware,
    *,
    port: int,
    api_key: str,
    lora: bool,
    adapters: Path,
    training: Literal["sleep", "share"] = "sleep",
) -> Launch:
    """How to start vLLM on `port` for the model in `folder`, with adapters (if `lora`) from below `adapters` alone.

    `training`: what happens to a GPU that training needs, too (finetune.gpu): it is given away, or shared.
    """
    length = min(settings.max_model_len, context_length(folder) or settings.max_model_len)
    # The `vllm` script looks for its own version under a name that the CPU build does not have.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", str(folder), "--served-model-name", served_name]
    command += ["--host", "127.0.0.1", "--port", str(port), "--disable-uvicorn-access-log"]
    command += ["--middleware", "engine.door.Door"]
    command += ["--dtype", settings.dtype, "--max-model-len", str(length)]
    command += ["--enable-prompt-tokens-details"]  # replies then say how much of the prompt came from the cache
    command += ["--enable-prefix-caching" if settings.prefix_caching else "--no-enable-prefix-caching"]
    if lora:
        command += ["--enable-lora", "--max-lora-rank", str(settings.max_lora_rank)]
        command += ["--max-loras", str(settings.max_loras)]
        command += ["--max-cpu-loras", str(max(settings.max_cpu_loras, settings.max_loras))]
    if hardware.gpus:
        command += ["--gpu-memory-utilization", str(gpu_share(settings, training))]
        command += ["--enable-sleep-mode"] if training == "sleep" else []
    else:
        # Compiling saves a quarter of the time a token takes and costs a minute at every start on two cores.
        # Blocks of 32 tokens: of the default 128 a short prompt fills none, and only full blocks are reused.
        command += ["--enforce-eager", "--block-size", "32"]
    environment = _environment(settings, hardware, api_key, lora, adapters)
    if hardware.gpus and training == "sleep":
        environment["VLLM_SERVER_DEV_MODE"] = "1"  # sleep mode is behind it; engine.door closes what else it opens
    return Launch([*command, *settings.flags], environment, length, lora)


def gpu_share(settings: Engine, training: Literal["sleep", "share"]) -> float:
    """Of the GPU's memory: what the engine takes."""
    if training == "sleep":
        return settings.gpu_memory_share
    return round(min(settings.gpu_memory_share, 1 - LEFT_FOR_TRAINING), 3)


def _environment(settings: Engine, hardware: Hardware, api_key: str, lora: bool, adapters: Path) -> dict[str, str]:
    environment = dict(os.environ)
    environment |= {
        "VLLM_API_KEY": api_key,  # not on the command line, which every user of the machine can read
        "FAMILIAR_ADAPTER_ROOT": str(adapters),
        "HF_HUB_OFFLINE": "1",  # the model is a folder by now: nothing is to be fetched
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",  # torch reads its templates in the locale's encoding, and they hold more than ASCII
    }
    environment.pop("VLLM_SERVER_DEV_MODE", None)
    if lora:
        environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True"
    if not hardware.gpus:
        environment["VLLM_CPU_KVCACHE_SPACE"] = str(settings.cpu_cache_gib)
        environment.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # the worker inside the core: 3 s, 0.7 GB less
        environment["OMP_NUM_THREADS"] = str(settings.cpu_threads or hardware.cores)
        # Threads wait for each other after every layer. Spinning as long as the default does, they take the cores from
        # each other beside any busy process, and a reply becomes 40 times slower; not spinning at all costs a third.
        environment.setdefault("GOMP_SPINCOUNT", "10000")
    return environment
