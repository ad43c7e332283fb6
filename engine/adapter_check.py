"""Is this folder a sound LoRA adapter for this base model?

vLLM refuses most broken adapters itself, but two kinds it takes without a word: one made for another base model, whose
foreign layers it leaves out, and one that holds NaN, which spoils every later reply of the whole server. Options that
it does not know it leaves out too. So everything is looked at here first, without torch, which takes seconds to import.

The folder is PEFT's: adapter_config.json, adapter_model.safetensors and, where Familiar trained it, familiar.json with
the fingerprint of the base model it was trained on. Other files are never read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import AdapterRefused
from engine.weights import Tensor, json_object, tensors_in

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
ORIGIN = "familiar.json"

LARGEST_JSON = 1 << 20  # bytes
LARGEST_WEIGHTS = 4 << 30  # bytes; rank 256 on every linear layer of a model of 30 billion parameters
SAMPLE = 256  # bytes of each base tensor that its fingerprint reads

# Where |x| reaches 65536, the end of float16, as bits without the sign. The bit patterns of floats are ordered like
# their magnitudes, infinity and NaN last, so one comparison finds every number that no engine can compute with.
TOO_LARGE = {"F32": ("<u4", 0x4780_0000), "BF16": ("<u2", 0x4780), "F16": ("<u2", 0x7C00)}

# Options of PEFT that do not change what a finished adapter computes, or that vLLM honours.
HARMLESS = {
    *("alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "exclude_modules", "inference_mode"),
    *("init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha", "lora_dropout", "megatron_core", "r"),
    *("peft_type", "peft_version", "qalora_group_size", "rank_pattern", "revision", "runtime_config", "target_modules"),
    *(
        "task_type",
        "use_rslora",
        "ensure_weight_tying",
        "eva_config",
        "loftq_config",
        "lora_ga_config",
        "velora_config",
    ),
}
# Ways to initialise that leave the base model's weights as they are; PiSSA, OLoRA, CorDA and LoftQ change them.
KEEP_THE_BASE = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
SPELT_OUT = {
    "use_dora": "uses DoRA",
    "modules_to_save": "holds whole layers (modules_to_save)",
    "trainable_token_indices": "trains single tokens (trainable_token_indices)",
    "target_parameters": "trains bare parameters (target_parameters)",
}

TENSOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
PATTERN = re.compile(r"[\w.\\^-]{1,200}")  # a regular expression without quantifiers: it cannot take forever
NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
FLOATS_IN_ROWS = {
    "F64",
    "F32",
    "F16",
    "BF16",
    "F8_E4M3",
    "F8_E5M2",
    "I8",
}  # one element a weight; packed formats are not


@dataclass(frozen=True)
class AdapterInfo:
    """What a sound adapter is."""

    rank: int  # the largest that any of its modules may have
    alpha: float
    target_modules: tuple[str, ...]  # the last parts of their names, sorted
    layers: tuple[int, ...]  # those it changes, sorted
    parameters: int
    base_fingerprint: str


def check(folder: Path, model_folder: Path, *, max_rank: int) -> AdapterInfo:
    """Look at everything that could go wrong when the adapter in `folder` is served on the model in `model_folder`.

    Reads every weight once (about 1 GB/s from the page cache). `max_rank` is the engine's largest rank.
    Raises AdapterRefused with what is wrong and what to do.
    """
    adapter_files(folder)
    config = _read_config(folder / CONFIG, max_rank)
    tensors = tensors_in(folder / WEIGHTS)
    base = _base_tensors(model_folder)
    fingerprint = _fingerprint(model_folder, base)
    _check_origin(folder / ORIGIN, fingerprint)

    base_modules = {name.rpartition(".")[0] for name in base}
    sees = "text_config" in json_object(model_folder / "config.json")
    found: dict[str, str] = {}  # the adapter's module -> the base model's name for it
    for module, (a, b) in _pairs(tensors).items():
        found[module] = _in_base(module, base_modules, sees)
        _check_shapes(module, a, b, config.rank_of(module), base.get(f"{found[module]}.weight"))
    _check_layers(config, set(found.values()), base_modules)
    for name, tensor in tensors.items():
        _check_finite(name, tensor)

    return AdapterInfo(
        rank=config.largest_rank,
        alpha=config.alpha,
        target_modules=tuple(sorted({module.rpartition(".")[2] for module in found})),
        layers=tuple(sorted({layer for module in found if (layer := _layer(module)) is not None})),
        parameters=sum(math.prod(tensor.shape) for tensor in tensors.values()),
        base_fingerprint=fingerprint,
    )


def base_fingerprint(model_folder: Path) -> str:
    """A short name for exactly this base model: 32 hexadecimal digits, the same wherever and whenever it is read.

    Taken from what config.json says of the architecture, every tensor's name, type and shape, and a few bytes from the
    middle of every tensor, so that a fine-tuned sister of the same shape differs. How the files are split does not
    count.
    Raises AdapterRefused when there is no readable model.
    """
    return _fingerprint(model_folder, _base_tensors(model_folder))


def adapter_files(folder: Path) -> list[Path]:
    """The files that make up the adapter in `folder`, each of them real and of a sane size. Raises AdapterRefused."""
    try:
        entries = {entry.name: entry.lstat() for entry in folder.iterdir()}
    except NotADirectoryError:
        raise AdapterRefused(
            f"{folder} is a file; an adapter is the folder that PEFT's save_pretrained writes."
        ) from None
    except OSError as error:
        raise AdapterRefused(f"The adapter folder {folder} cannot be read: {error.strerror}.") from None
    if links := sorted(name for name, entry in entries.items() if stat.S_ISLNK(entry.st_mode)):
        raise AdapterRefused(f"{folder} holds a symbolic link, {links[0]}. Copy the real file in its place.")
    if pickles := sorted(name for name in entries if name in ("adapter_model.bin", "adapter_model.pt")):
        raise AdapterRefused(
            f"{folder} holds {pickles[0]}, a pickle, which can run any code when it is read. Save the adapter "
            f"anew with save_pretrained(..., safe_serialization=True) and leave that file out."
        )
    limits = {CONFIG: LARGEST_JSON, WEIGHTS: LARGEST_WEIGHTS, ORIGIN: LARGEST_JSON}
    for name in (CONFIG, WEIGHTS):
        if name not in entries:
            raise AdapterRefused(f"{folder} has no {name}; it is not a complete LoRA adapter as PEFT saves one.")
    for name, limit in limits.items():
        if name in entries and not stat.S_ISREG(entries[name].st_mode):
            raise AdapterRefused(f"{name} in {folder} is not a file.")
        if name in entries and entries[name].st_size > limit:
            raise AdapterRefused(f"{name} is larger than {limit >> 20} MiB; that is no sane LoRA adapter.")
    return [folder / name for name in limits if name in entries]


@dataclass(frozen=True)
class _Config:
    """The part of adapter_config.json that decides how the weights are used."""

    rank: int
    alpha: float
    rank_pattern: dict[str, int]
    targets: tuple[str, ...]  # () where they are a pattern, or not every layer is meant

    @property
    def largest_rank(self) -> int:
        return max(self.rank, *self.rank_pattern.values(), 0)

    def rank_of(self, module: str) -> int:
        """As PEFT and vLLM resolve it: the first pattern that matches the end of the module's name."""
        matching = (rank for key, rank in self.rank_pattern.items() if re.match(rf"(.*\.)?({key})$", module))
        return next(matching, self.rank)


def _read_config(file: Path, max_rank: int) -> _Config:
    given = json_object(file)
    if given.get("peft_type") != "LORA":
        raise AdapterRefused(f"{CONFIG}: peft_type is {given.get('peft_type')!r}; only LORA adapters can be served.")
    _refuse_options(given)
    rank, alpha = given.get("r"), given.get("lora_alpha")
    ranks, alphas = given.get("rank_pattern") or {}, given.get("alpha_pattern") or {}
    if not isinstance(ranks, dict) or not isinstance(alphas, dict):
        raise AdapterRefused(f"{CONFIG}: rank_pattern and alpha_pattern must be tables from module names to numbers.")
    for key in (*ranks, *alphas):
        _check_pattern(key)
    for each in (rank, *ranks.values()):
        if type(each) is not int or each < 1:
            raise AdapterRefused(f"{CONFIG}: the rank r (and each in rank_pattern) must be 1 or more, not {each!r}.")
        if each > max_rank:
            raise AdapterRefused(
                f"The adapter's rank {each} is above the engine's largest, {max_rank}. Raise engine.max_lora_rank and "
                f"restart the engine, or train with a lower rank."
            )
    for each in (alpha, *alphas.values()):
        if type(each) not in (int, float) or not 0 < each <= 65504:
            raise AdapterRefused(
                f"{CONFIG}: lora_alpha (and each in alpha_pattern) must lie between 0 and 65504, not {each!r}."
            )
    targets = given.get("target_modules")
    if not targets or not isinstance(targets, str | list) or not all(isinstance(each, str) for each in targets):
        raise AdapterRefused(f"{CONFIG} names no target_modules.")
    partial = isinstance(targets, str) or given.get("layers_to_transform") is not None or given.get("exclude_modules")
    partial = partial or any(part.isdigit() for each in targets for part in each.split("."))
    assert isinstance(rank, int)
    assert isinstance(alpha, int | float)
    return _Config(rank, float(alpha), ranks, () if partial else tuple(targets))


def _refuse_options(given: dict[str, Any]) -> None:
    """Refuse what vLLM would leave out, and what nobody knows yet: both would change the replies unnoticed."""
    if given.get("bias", "none") != "none":
        raise AdapterRefused(f"The adapter trains biases (bias={given['bias']!r}), which cannot be served. Use 'none'.")
    init = given.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower() not in KEEP_THE_BASE:
        raise AdapterRefused(
            f"The adapter was started with init_lora_weights={init!r}, which changes the base model's own weights. "
            f"Convert it to a plain one with PEFT's path_initial_model_for_weight_conversion."
        )
    for option, value in given.items():
        if value and option not in HARMLESS:
            what = SPELT_OUT.get(option, f"sets the option {option}")
            raise AdapterRefused(
                f"The adapter {what}, which the engine cannot serve. Train a plain LoRA adapter instead."
            )


def _check_pattern(key: str) -> None:
    try:
        if PATTERN.fullmatch(key):
            re.compile(key)
            return
    except re.error:
        pass
    raise AdapterRefused(f"{CONFIG}: the pattern {key[:60]!r} is not a module's name or its end. Write the names out.")


def _check_origin(file: Path, fingerprint: str) -> None:
    if not file.exists():
        return
    recorded = json_object(file).get("base_fingerprint")
    if recorded != fingerprint:
        raise AdapterRefused(
            f"The adapter was trained on another base model ({ORIGIN} says {recorded!r}, this model is "
            f"{fingerprint!r}). Choose the model it was trained on in engine.model, or train it anew on this one."
        )


def _pairs(tensors: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """module -> (A, B). Raises AdapterRefused when a half is missing or a tensor is something else."""
    sides: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        parts = TENSOR.fullmatch(name)
        if parts is None:
            raise AdapterRefused(
                f"{WEIGHTS} holds {name!r}, which is not the A or B matrix of a linear layer as PEFT names them. "
                f"Copies of the embedding are left out with save_pretrained(..., save_embedding_layers=False)."
            )
        sides.setdefault(parts["module"], {})[parts["side"]] = tensor
    if not sides:
        raise AdapterRefused(f"{WEIGHTS} is empty.")
    for module, halves in sides.items():
        if missing := {"A", "B"} - set(halves):
            raise AdapterRefused(f"{WEIGHTS} lacks lora_{missing.pop()} of {module}. Save the adapter anew.")
    return {module: (halves["A"], halves["B"]) for module, halves in sides.items()}


def _in_base(module: str, base_modules: set[str], sees: bool) -> str:
    """The base model's files' name of an adapter's module. Raises AdapterRefused when the base has no such module.

    Some files of models that also see keep older names, which vLLM translates, for such models only.
    """
    spellings = [module]
    if sees and (inner := re.fullmatch(r"model\.language_model\.(.+)", module)):
        spellings += [f"language_model.model.{inner[1]}", f"model.{inner[1]}"]
    for spelling in spellings:
        if spelling in base_modules:
            return spelling
    family = re.compile(NUMBER.sub(r"(\\d+)", re.escape(module).replace(r"\.", "."), count=1))
    layers = sorted(int(match[1]) for name in base_modules if (match := family.fullmatch(name)) and family.groups)
    if layers:
        raise AdapterRefused(
            f"The adapter changes layer {_layer(module)}, but the base model has {len(layers)} layers, {layers[0]} to "
            f"{layers[-1]}: it was made for another model."
        )
    raise AdapterRefused(f"The base model has no {module}: the adapter was made for another model.")


def _check_shapes(module: str, a: Tensor, b: Tensor, rank: int, weight: Tensor | None) -> None:
    """A is (rank, in), B is (out, rank), the base's weight (out, in). A packed, quantised weight hides its shape."""
    if len(a.shape) != 2 or len(b.shape) != 2:
        raise AdapterRefused(f"{WEIGHTS}: A and B of {module} must have two dimensions, not {a.shape} and {b.shape}.")
    if a.shape[0] != rank or b.shape[1] != rank:
        raise AdapterRefused(
            f"{WEIGHTS}: {module} has matrices A {a.shape} and B {b.shape}, but {CONFIG} gives it rank {rank}."
        )
    if weight is None or weight.dtype not in FLOATS_IN_ROWS:
        return
    if weight.shape != (b.shape[0], a.shape[1]):
        raise AdapterRefused(
            f"The adapter's {module} is for a layer of shape {(b.shape[0], a.shape[1])}, the base model's has "
            f"{weight.shape}: it was made for another model."
        )


def _check_layers(config: _Config, touched: set[str], base_modules: set[str]) -> None:
    """An adapter for a shallower model of the same width fits everywhere and lacks the upper layers."""
    stacks = {NUMBER.split(name, 1)[0] for name in touched if NUMBER.search(name)}
    expected = {
        _layer(name)
        for name in base_modules
        if NUMBER.split(name, 1)[0] in stacks and name.endswith(tuple(f".{target}" for target in config.targets))
    }
    missing = sorted(layer for layer in expected - {_layer(name) for name in touched} if layer is not None)
    if missing:
        listed = ", ".join(map(str, missing[:8])) + (", …" if len(missing) > 8 else "")
        raise AdapterRefused(
            f"The adapter should change every layer of the base model and lacks layer {listed}: it was made for "
            f"another model, or not saved whole."
        )


def _check_finite(name: str, tensor: Tensor) -> None:
    if tensor.dtype not in TOO_LARGE:
        raise AdapterRefused(f"{WEIGHTS}: {name} is stored as {tensor.dtype}; save it as float32, bfloat16 or float16.")
    integers, limit = TOO_LARGE[tensor.dtype]
    for chunk in tensor.chunks():
        bits = np.frombuffer(chunk, integers)
        if (bits & (np.iinfo(integers).max >> 1)).max(initial=0) >= limit:
            raise AdapterRefused(
                f"{WEIGHTS}: {name} holds NaN, infinity or a number beyond 65504, which would spoil every reply. The "
                f"training diverged; train it anew with a lower learning rate."
            )


def _layer(module: str) -> int | None:
    number = NUMBER.search(module)
    return int(number[0]) if number else None


def _base_tensors(model_folder: Path) -> dict[str, Tensor]:
    """Every tensor of the base model, which lies in one file or in several with an index."""
    single, index = model_folder / "model.safetensors", model_folder / "model.safetensors.index.json"
    if single.exists():
        return tensors_in(single)
    if not index.exists():
        raise AdapterRefused(
            f"The base model in {model_folder} has no model.safetensors, so no adapter can be checked."
        )
    files = sorted(set(json_object(index).get("weight_map", {}).values()))
    return {name: tensor for file in files for name, tensor in tensors_in(model_folder / file).items()}


def _fingerprint(model_folder: Path, tensors: dict[str, Tensor]) -> str:
    config = json_object(model_folder / "config.json")
    language = config.get("text_config") or config  # models that also see keep it one level deeper
    keys = (
        "model_type",
        "num_hidden_layers",
        "hidden_size",
        "num_attention_heads",
        "num_key_value_heads",
        "vocab_size",
    )
    digest = hashlib.sha256(json.dumps([config.get("architectures"), [language.get(key) for key in keys]]).encode())
    with contextlib.ExitStack() as stack:
        files = {file: stack.enter_context(file.open("rb")) for file in {tensor.file for tensor in tensors.values()}}
        for name, tensor in sorted(tensors.items()):
            digest.update(json.dumps([name, tensor.dtype, tensor.shape]).encode())
            files[tensor.file].seek(max(tensor.begin, (tensor.begin + tensor.end - SAMPLE) // 2))
            digest.update(files[tensor.file].read(min(SAMPLE, tensor.end - tensor.begin)))
    return digest.hexdigest()[:32]
