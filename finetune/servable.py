"""What training leaves, in the form in which it is served, and back.

    adapter/   a plain LoRA adapter as PEFT writes it, with familiar.json, that engine.adapter_check accepts
    model/     a whole model folder: weights in the base model's number format, its tokenizer and chat template
    offline/   learnt prompts and prefixes in PEFT's form, which nothing serves

A folder gets its name when it is whole: what a crash leaves is one that nobody looks at. One that was there before is
put aside for that moment, and `made_in` finds it again.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.adapter_check import CONFIG, ORIGIN, adapter_files, base_fingerprint
from finetune.errors import MethodRefused

if TYPE_CHECKING:
    from torch import Tensor


MADE = ("adapter", "model", "offline")


def made_in(folder: Path) -> Path | None:
    """What training left in a run's folder, also where it was killed while it put another in its place."""
    for place in (folder / name for name in MADE):
        with contextlib.suppress(OSError):  # nothing was put aside, or what came into its place is there
            _aside(place).rename(place)
        if place.is_dir():
            return place
    return None


def save_adapter(model: Any, place: Path, model_folder: Path) -> Path:
    """A LoRA adapter that the engine loads. One from PiSSA becomes the difference to its start, of twice the rank.

    Raises MethodRefused for one that is not plain LoRA on linear layers of the body.
    """
    from finetune import pissa
    from finetune.merging import refuse_tied

    refuse_tied(model)
    with _whole(place) as folder:
        model.save_pretrained(
            folder, safe_serialization=True, save_embedding_layers=False, selected_adapters=["default"]
        )
        if pissa.START in model.peft_config:
            pissa.write_as_difference(model, folder)
        _name_the_base(folder, model_folder)
        _write_origin(folder, model_folder)
        for file in set(folder.iterdir()) - set(adapter_files(folder)):  # PEFT's model card, of no use to anybody
            file.unlink()
    return place


def save_model(model: Any, way: str, place: Path, model_folder: Path) -> Path:
    """A whole model folder: the base model's with other weights. Raises MethodRefused when it cannot be merged."""
    from finetune.merging import merged
    from finetune.methods import transformers_model

    weights, changes = merged(model)
    inner = transformers_model(model)
    with _whole(place) as folder:
        inner.save_pretrained(folder, state_dict=_as_in_the_base(weights, model_folder), max_shard_size="5GB")
        for file in model_folder.iterdir():
            if file.is_file() and not file.name.startswith(".") and not _holds_weights(file.name):
                shutil.copyfile(file, folder / file.name)
        config = json.loads((model_folder / "config.json").read_text(encoding="utf-8"))
        if "text_config" not in config:  # refused before training otherwise
            config |= changes
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
        _write_origin(folder, model_folder, kind="model", way=way)
    return place


def save_offline(model: Any, way: str, place: Path, model_folder: Path) -> Path:
    """A learnt prompt or prefix, in PEFT's form."""
    from finetune import virtual

    with _whole(place) as folder:
        virtual.save(model, way, folder)
        _name_the_base(folder, model_folder)
        _write_origin(folder, model_folder, kind="offline", way=way)
    return place


def load(model_folder: Path, made: Path | None = None, *, dtype: Any = "auto") -> Any:
    """The base model with what `save` left in `made`, for measuring; it is called and generates as the base does.

    Raises MethodRefused when there is nothing of ours.
    """
    from transformers import AutoModelForCausalLM

    if made is not None and (made / "config.json").is_file():
        return AutoModelForCausalLM.from_pretrained(made, dtype=dtype, local_files_only=True).eval()
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=dtype, local_files_only=True).eval()
    if made is None:
        return model
    try:
        kind = json.loads((made / CONFIG).read_text(encoding="utf-8"))["peft_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MethodRefused(f"{made} holds neither an adapter nor a model.") from error
    if kind == "LORA":
        from peft import PeftModel

        return PeftModel.from_pretrained(model, made).eval()
    from finetune import virtual

    virtual.load(model, made)
    return model.requires_grad_(False)


def _holds_weights(name: str) -> bool:
    return name.endswith((".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".index.json"))


def _as_in_the_base(weights: dict[str, Tensor], model_folder: Path) -> dict[str, Tensor]:
    """In the base files' number formats; weights that share their memory still do."""
    import torch

    from engine.weights import tensors_in

    formats = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
    stored = {
        name: formats.get(tensor.dtype, torch.bfloat16)
        for file in sorted(model_folder.glob("*.safetensors"))
        for name, tensor in tensors_in(file).items()
    }
    usual = Counter(stored.values()).most_common(1)[0][0]
    converted: dict[tuple[int, torch.dtype, tuple[int, ...]], Tensor] = {}
    for name, weight in weights.items():
        dtype = stored.get(name, usual)
        key = (weight.data_ptr(), dtype, tuple(weight.shape))
        if key not in converted:
            converted[key] = weight.detach().to("cpu", dtype).contiguous()
    return {
        name: converted[(weight.data_ptr(), stored.get(name, usual), tuple(weight.shape))]
        for name, weight in weights.items()
    }


def _name_the_base(folder: Path, model_folder: Path) -> None:
    """PEFT writes where the base lies on this machine, which is nobody's business elsewhere."""
    file = folder / CONFIG
    config = json.loads(file.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = model_folder.resolve().name
    file.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def _write_origin(folder: Path, model_folder: Path, **more: Any) -> None:
    origin = {"base": model_folder.resolve().name, "base_fingerprint": base_fingerprint(model_folder), **more}
    (folder / ORIGIN).write_text(json.dumps(origin, indent=2), encoding="utf-8")


@contextlib.contextmanager
def _whole(place: Path) -> Iterator[Path]:
    """A new folder that takes `place` at the end, and is gone when something went wrong."""
    place.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        yield folder
        for file in folder.iterdir():
            _sync(file)
        _sync(folder)
        if place.exists():
            shutil.rmtree(_aside(place), ignore_errors=True)
            place.rename(_aside(place))
        folder.rename(place)
        _sync(place.parent)
        shutil.rmtree(_aside(place), ignore_errors=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _aside(place: Path) -> Path:
    """Where what had this name is, while what takes its place gets it."""
    return place.with_name(f".{place.name}.before")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
