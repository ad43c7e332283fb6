"""From the name in `engine.model` to a folder with weights.

`auto` picks by hardware, from the table below; `bundled` is engine.bundled; anything else is a folder, if there is one
of this name, or a Hugging Face id, which is downloaded once into the data folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from engine import bundled
from engine.errors import ModelUnavailable
from engine.hardware import Hardware

# The largest instruct model whose bf16 weights leave a third of the GPU for the cache: (GPU memory in GiB, model).
# Models that think aloud before they answer are left out: a chat would show nothing for a long while.
GPU_MODELS = (
    (76.0, "Qwen/Qwen3-30B-A3B-Instruct-2507"),
    (44.0, "Qwen/Qwen2.5-14B-Instruct"),
    (23.0, "Qwen/Qwen2.5-7B-Instruct"),
    (11.0, "Qwen/Qwen3-4B-Instruct-2507"),
    (5.5, "Qwen/Qwen2.5-1.5B-Instruct"),
)

Report = Callable[[str], None]


@dataclass(frozen=True)
class Choice:
    """Which model is meant, and why."""

    model: str  # "bundled", a folder, or a Hugging Face id
    reason: str
    automatic: bool = False

    @property
    def served_name(self) -> str:
        """The name under which the engine serves it."""
        if self.model == "bundled":
            return bundled.NAME
        return Path(self.model).name if Path(self.model).is_dir() else self.model


def choose(wanted: str, hardware: Hardware) -> Choice:
    """The model that `wanted` (the setting engine.model) means on this hardware."""
    if wanted != "auto":
        return Choice(wanted, "engine.model names it")
    for memory_gib, model in GPU_MODELS:
        if hardware.gpu_memory_gib >= memory_gib:
            return Choice(
                model, f"the largest of the table that fits {hardware.gpu_memory_gib:.0f} GiB", automatic=True
            )
    return Choice("bundled", f"the one that runs anywhere; this machine has {hardware}", automatic=True)


def ensure(choice: Choice, models: Path, report: Report) -> Path:
    """The folder of the chosen model, downloaded or converted below `models` if it is not there yet.

    Two processes that ask at once do the work once. Raises ModelUnavailable.
    """
    folder = Path(choice.model).expanduser()
    if choice.model != "bundled" and folder.is_dir():
        return _checked(folder.resolve())
    models.mkdir(parents=True, exist_ok=True)
    with FileLock(models / ".lock"):
        if choice.model == "bundled":
            return bundled.ensure(models, report)
        if folder.is_absolute() or choice.model.count("/") != 1:
            raise ModelUnavailable(
                f"engine.model is {choice.model!r}: there is no such folder, and it is no Hugging Face id (owner/name)."
            )
        try:
            return _from_hub(choice.model, models, report)
        except ModelUnavailable as error:
            if not choice.automatic:
                raise
            report(f"{error} Taking the bundled model instead.")
            return bundled.ensure(models, report)


def sampling_defaults(folder: Path | None) -> dict[str, Any]:
    """What the model's makers advise (generation_config.json), in vLLM's names; {} where nothing is known."""
    if folder is None or not (folder / "generation_config.json").is_file():
        return {}
    try:
        advised = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    except ValueError:
        return {}
    names = ("temperature", "top_p", "top_k", "repetition_penalty")
    return {name: advised[name] for name in names if advised.get(name) is not None}


def context_length(folder: Path) -> int | None:
    """The longest text the model was made for, in tokens; None where its config does not say."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    length = config.get("max_position_embeddings") or config.get("text_config", {}).get("max_position_embeddings")
    return int(length) if length else None


def _from_hub(model: str, models: Path, report: Report) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    target = models / model.replace("/", "--")
    if (target / ".whole").is_file():
        return target
    report(f"downloading {model} from the Hugging Face hub")
    try:
        snapshot_download(model, local_dir=target, ignore_patterns=["*.bin", "*.pth", "*.gguf", "*.onnx", "original/*"])
    except GatedRepoError as error:
        raise ModelUnavailable(
            f"{model} asks you to accept its licence on its page first; then set HF_TOKEN to a token of yours."
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelUnavailable(f"The Hugging Face hub has no model {model!r}.") from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise ModelUnavailable(
            f"{model} could not be downloaded ({type(error).__name__}). Is the hub in reach and the disk not full? "
            "Run the command again: what was downloaded is kept."
        ) from error
    folder = _checked(target)
    (target / ".whole").touch()
    return folder


def _checked(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise ModelUnavailable(f"{folder} is not a model folder: it has no config.json.")
    if not any(folder.glob("*.safetensors")):
        raise ModelUnavailable(f"{folder} has no weights in safetensors form.")
    if not (folder / "tokenizer.json").is_file():
        raise ModelUnavailable(f"{folder} has no tokenizer.json.")
    return folder
