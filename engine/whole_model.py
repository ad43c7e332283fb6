"""A whole model folder that is served in the base model's place: is it sound, and made from this base model?

Training methods that no adapter can hold leave such a folder: the base model's files with other weights. It must be the
base in all but numbers, since prompts are counted and templates are rendered with the base model's files. Only the
feed-forward layers may be wider, as merged bottleneck adapters make them (config.json's intermediate_size).
"""

from __future__ import annotations

import filecmp
import stat
from pathlib import Path

import numpy as np

from engine.adapter_check import ORIGIN, TOO_LARGE, base_fingerprint
from engine.errors import AdapterRefused
from engine.weights import Tensor, json_object, tensors_in

CONFIG = "config.json"
KINDS = (".safetensors", ".json", ".txt", ".model", ".jinja")  # what a model folder is made of; nothing that can run
TEXT_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")  # how texts become tokens
WIDTH = "intermediate_size"
MAY_DIFFER = {WIDTH, "dtype", "torch_dtype", "transformers_version", "_name_or_path"}


def model_files(folder: Path) -> list[Path]:
    """The files that make up the model in `folder`, each of them real. Raises AdapterRefused."""
    try:
        entries = {entry: entry.lstat() for entry in sorted(folder.iterdir())}
    except OSError as error:
        raise AdapterRefused(f"The model folder {folder} cannot be read: {error.strerror}.") from None
    if link := next((entry.name for entry, seen in entries.items() if stat.S_ISLNK(seen.st_mode)), ""):
        raise AdapterRefused(f"{folder} holds a symbolic link, {link}. Copy the real file in its place.")
    files = [entry for entry, seen in entries.items() if stat.S_ISREG(seen.st_mode) and entry.suffix in KINDS]
    if not any(file.suffix == ".safetensors" for file in files):
        raise AdapterRefused(f"{folder} has no weights in safetensors form.")
    return files


def check(folder: Path, model_folder: Path, *, numbers: bool = True) -> str:
    """Look at everything that could go wrong when `folder` is served in place of the model in `model_folder`.

    `numbers`: look at every weight too, at about 1 GB/s; else only that no file is missing or cut short. Returns the
    base model's fingerprint. Raises AdapterRefused with what is wrong and what to do.
    """
    files = model_files(folder)
    base = base_fingerprint(model_folder)
    origin = json_object(folder / ORIGIN)
    if origin.get("kind") != "model" or origin.get("base_fingerprint") != base:
        raise AdapterRefused(
            f"The model in {folder} was made from another base model ({ORIGIN} says "
            f"{origin.get('base_fingerprint')!r}, this one is {base!r}). Choose that base model in engine.model, or "
            f"train anew on this one."
        )
    _check_config(folder, model_folder)
    for name in TEXT_FILES:
        expected = model_folder / name
        if expected.exists() and not ((folder / name).exists() and filecmp.cmp(folder / name, expected, shallow=False)):
            raise AdapterRefused(f"{name} in {folder} is missing or not the base model's. Save the model anew.")
    tensors = _tensors(files)
    _compare(tensors, _tensors(model_files(model_folder)))
    if numbers:
        for name, tensor in tensors.items():
            _check_finite(name, tensor)
    return base


def _check_config(folder: Path, model_folder: Path) -> None:
    given, expected = json_object(folder / CONFIG), json_object(model_folder / CONFIG)
    for key in sorted((given.keys() | expected.keys()) - MAY_DIFFER):
        if given.get(key) != expected.get(key):
            raise AdapterRefused(
                f"{CONFIG} in {folder} gives {key} as {given.get(key)!r}, the base model's as {expected.get(key)!r}: "
                f"it was made from another model."
            )


def _tensors(files: list[Path]) -> dict[str, Tensor]:
    return {name: each for file in files if file.suffix == ".safetensors" for name, each in tensors_in(file).items()}


def _compare(tensors: dict[str, Tensor], base: dict[str, Tensor]) -> None:
    if missing := sorted(base.keys() - tensors.keys()):
        raise AdapterRefused(f"The model lacks {missing[0]} of its base model: it was not saved whole.")
    if added := sorted(tensors.keys() - base.keys()):
        raise AdapterRefused(f"The model holds {added[0]}, which its base model has not: it was made from another one.")
    for name, tensor in tensors.items():
        expected = base[name].shape
        wider = (
            ".mlp." in name and len(tensor.shape) == len(expected) and sum(map(int.__ne__, tensor.shape, expected)) == 1
        )
        if tensor.shape != expected and not wider:
            raise AdapterRefused(f"The model's {name} has the shape {tensor.shape}, its base model's {expected}.")


def _check_finite(name: str, tensor: Tensor) -> None:
    if tensor.dtype not in TOO_LARGE:
        raise AdapterRefused(f"{name} is stored as {tensor.dtype}; save it as float32, bfloat16 or float16.")
    integers, limit = TOO_LARGE[tensor.dtype]
    for chunk in tensor.chunks():
        bits = np.frombuffer(chunk, integers)
        if (bits & (np.iinfo(integers).max >> 1)).max(initial=0) >= limit:
            raise AdapterRefused(
                f"{name} holds NaN, infinity or a number beyond 65504, which would spoil every reply. The training "
                f"diverged; train it anew with a lower learning rate."
            )
