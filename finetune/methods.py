"""The ways to train: which parameters of the model learn, and how the result is served.

    adapter   LoRA and its relatives: a few MiB that the running engine takes in beside the base model
    model     what only a whole model can hold: merged into a model folder, onto which the engine is started anew
    offline   what neither the engine nor the base's weights can take in: to be measured, not to be served

    chosen = way("lora")
    refuse(chosen, model_folder, settings)              before anything is trained
    model = attach(model, chosen, settings.finetune)    exactly the right parameters are trainable
    ...
    made = save(model, chosen, folder, model_folder)    folder/adapter, folder/model or folder/offline

A model that `attach` gave is trained packed like any other: token ids, position_ids that begin again at 0 with each
sample, no attention mask, no cache. Its layers do the rest, also where the body is called without its head.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from finetune.errors import MethodRefused
from settings import Finetune, Settings

if TYPE_CHECKING:
    from torch import Tensor, nn

Served = Literal["adapter", "model", "offline"]

START = "familiar_start"  # what the trained parameters were, kept on the model as an attribute
TOP_SHARE = 4  # top_layers trains the highest of so many equal parts
IA3_MODULES = ("k_proj", "v_proj", "down_proj")


@dataclass(frozen=True)
class Way:
    name: str
    title: str
    learning_rate: float  # that suits it: AdamW, and the default rank and alpha where it has them
    served: Served
    note: str  # what an operator should know of it, and where it was published


WAYS = {
    each.name: each
    for each in (
        Way(
            *("lora", "LoRA", 8e-4, "adapter"),
            "Low-rank updates of every linear layer of the body (Hu et al. 2021, arXiv:2106.09685).",
        ),
        Way(
            *("rslora", "rsLoRA", 2e-4, "adapter"),
            "LoRA scaled by alpha/sqrt(rank), so that large ranks learn as well (Kalajdzievski 2023, "
            "arXiv:2312.03732).",
        ),
        Way(
            *("dora", "DoRA", 8e-4, "model"),
            "LoRA on the direction of the weights beside a learnt magnitude (Liu et al. 2024, arXiv:2402.09353). The "
            "engine loads no DoRA adapters, so it is merged.",
        ),
        Way(
            *("pissa", "LoRA from PiSSA", 4e-4, "adapter"),
            "LoRA that starts from the largest singular values of the weights (Meng et al. 2024, arXiv:2404.02948). "
            "What is served is the difference to that start: a plain LoRA adapter of twice the rank.",
        ),
        Way(
            *("eva", "LoRA from EVA", 8e-4, "adapter"),
            "LoRA that starts from the main directions of what the layers see of the examples (Paischer et al. 2024, "
            "arXiv:2410.07170), here with the same rank everywhere.",
        ),
        Way(
            *("ia3", "IA3", 1e-2, "model"),
            "Learnt scales of keys, values and feed-forward activations (Liu et al. 2022, arXiv:2205.05638). The "
            "engine loads no IA3 adapters, so it is merged.",
        ),
        Way(
            *("bottleneck", "Bottleneck adapter", 1e-2, "model"),
            "A narrow layer beside each feed-forward layer: the parallel adapter of He et al. 2022 "
            "(arXiv:2110.04366), gated as the feed-forward layer itself is. The bottlenecks in series of Houlsby et "
            "al. 2019 (arXiv:1902.00751) could be neither merged nor served; this one is rank more neurons of the "
            "feed-forward layer, so it is merged without loss into a slightly wider model.",
        ),
        Way(
            *("prompt", "Prompt tuning", 1e-2, "offline"),
            "Learnt embeddings before every conversation (Lester et al. 2021, arXiv:2104.08691). The engine loads "
            "none, and no weight of the model can hold them.",
        ),
        Way(
            *("prefix", "Prefix tuning", 1e-2, "offline"),
            "Learnt keys and values before every conversation, in every layer (Li and Liang 2021, arXiv:2101.00190). "
            "The engine loads none, and no weight of the model can hold them.",
        ),
        Way(
            *("bitfit", "BitFit", 2e-3, "model"),
            "Only the biases (Ben Zaken et al. 2022, arXiv:2106.10199). Models of the Llama type have none; there it "
            "is the scales of the normalisation layers, LN-tuning (Zhao et al. 2024, arXiv:2312.11420), the nearest "
            "that is honest.",
        ),
        Way(
            *("top_layers", "Top layers", 3e-4, "model"),
            "The upper quarter of the layers, at least one, and the normalisation above them; all below stays.",
        ),
        Way(
            *("full", "Full fine-tuning", 5e-5, "model"),
            "Every parameter. Takes several times the memory of the model.",
        ),
    )
}


def way(name: str) -> Way:
    """The way of this name (finetune.method). Raises MethodRefused for one that there is not."""
    if name not in WAYS:
        raise MethodRefused(f"There is no way of training {name!r}; there are {', '.join(WAYS)}.")
    return WAYS[name]


def learning_rate(chosen: Way, settings: Finetune) -> float:
    """What the operator set, or what suits the way."""
    return settings.learning_rate or chosen.learning_rate


def served_rank(chosen: Way, rank: int) -> int:
    """The rank that the engine must take for an adapter trained with `rank`."""
    return 2 * rank if chosen.name == "pissa" else rank


# Before training


def refuse(chosen: Way, model_folder: Path, settings: Settings, *, offline: bool = False) -> None:
    """Raise MethodRefused where the result could not be served, or the model cannot learn so; else do nothing.

    `offline`: somebody only wants to measure it.
    """
    config = _config(model_folder)
    if "quantization_config" in config and chosen.served != "adapter":
        raise MethodRefused(
            f"{chosen.title} changes the model's own weights, and those of {model_folder.name} are quantised. Choose "
            f"the unquantised model, or finetune.method = 'lora'."
        )
    if "text_config" in config and chosen.served == "model":
        raise MethodRefused(
            f"{chosen.title} leaves a whole model, and of {model_folder.name}, which also sees, only the half that "
            f"writes could be saved. Use finetune.method = 'lora'."
        )
    if offline:
        return
    if chosen.served == "offline":
        raise MethodRefused(
            f"{chosen.title} cannot be served: {chosen.note} Use finetune.method = 'lora', or give --offline to train "
            f"and measure it without promoting it."
        )
    if chosen.served == "model" and settings.engine.url:
        raise MethodRefused(
            f"{chosen.title} leaves a whole model, and the server at engine.url cannot be started anew onto it from "
            f"here. Use finetune.method = 'lora', or give --offline and serve the folder there yourself."
        )
    if chosen.served == "adapter":
        _refuse_adapter(chosen, settings)


def _refuse_adapter(chosen: Way, settings: Settings) -> None:
    if settings.engine.lora == "off" and not settings.engine.url:
        raise MethodRefused(
            f"{chosen.title} makes an adapter, and engine.lora is 'off'. Set it to 'auto', or choose a method that "
            f"is merged, e.g. finetune.method = 'top_layers'."
        )
    rank, largest = served_rank(chosen, settings.finetune.rank), settings.engine.max_lora_rank
    if rank <= largest:
        return
    doubled = f" {chosen.title} doubles the rank when it becomes a plain adapter." if chosen.name == "pissa" else ""
    fitting = largest * settings.finetune.rank // rank
    raise MethodRefused(
        f"The adapter would have rank {rank}, above the engine's largest, engine.max_lora_rank = {largest}.{doubled} "
        f"Set finetune.rank to {fitting} or less, or engine.max_lora_rank to {_next_rank(rank)} and restart the engine."
    )


def _next_rank(rank: int) -> int:
    return next((allowed for allowed in (8, 16, 32, 64, 128, 256) if allowed >= rank), rank)


def _config(model_folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((model_folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MethodRefused(f"{model_folder} is not a model folder: its config.json cannot be read.") from error
    return config


# Training


def attach(
    model: nn.Module,
    chosen: Way,
    settings: Finetune,
    batches: Iterable[Mapping[str, Tensor]] = (),
    *,
    start: Path | None = None,
) -> Any:
    """The model with exactly the right parameters trainable, in float32 where they are new.

    `model` is a transformers causal language model, which is changed. `batches` (input_ids, and position_ids and labels
    where there are any) are what EVA looks at, and where prompts take their first words from. `start`: an adapter of
    an earlier run from which LoRA goes on. What is drawn comes from torch's generator, seeded by settings.seed.
    Raises MethodRefused.
    """
    import torch

    if start is not None and chosen.served != "adapter":
        raise MethodRefused(
            f"{chosen.title} cannot go on from the adapter of an earlier run; LoRA can. Set finetune.start to 'base', "
            f"so that it learns everything anew, or use finetune.method = 'lora'."
        )
    torch.manual_seed(settings.seed)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    match chosen.name:
        case "lora" | "rslora" | "dora" | "pissa" | "eva":
            from finetune import lora

            model = lora.put_on(model, chosen.name, settings, batches, start)
        case "ia3":
            model = _ia3(model)
        case "bottleneck":
            from finetune import bottleneck

            bottleneck.insert(model, settings.rank, settings.dropout)
        case "prompt" | "prefix":
            from finetune import virtual

            virtual.insert(model, chosen.name, batches)
        case "bitfit":
            _require(model, _biases_or_scales(model))
        case "top_layers":
            _require(model, _top(model))
        case "full":
            _require(model, [name for name, _ in model.named_parameters()])
    setattr(model, START, _values(model) if _changes_the_base(chosen) else None)
    return model


@contextlib.contextmanager
def as_base(model: Any) -> Iterator[None]:
    """Within it, the model computes what it did before `attach`, e.g. to compare the trained one with it."""
    start: dict[str, Tensor] | None = getattr(model, START, None)
    if start is not None:
        with swapped(model, start):
            yield
    elif hasattr(model, "peft_config"):
        with model.disable_adapter():
            yield
    else:
        switches = [module for module in model.modules() if hasattr(module, "switched_off")]
        for module in switches:
            module.switched_off = True
        try:
            yield
        finally:
            for module in switches:
                module.switched_off = False


def transformers_model(model: Any) -> Any:
    """The causal language model of transformers in what `attach` gave: `.base_model` is its body, without the head."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


def save(model: Any, chosen: Way, folder: Path, model_folder: Path) -> Path:
    """Leave what was learnt in folder/adapter, folder/model or folder/offline, whole or not at all; returns which.

    `model_folder` is the base model's. Raises MethodRefused.
    """
    from finetune import servable

    match chosen.served:
        case "adapter":
            return servable.save_adapter(model, folder / "adapter", model_folder)
        case "model":
            return servable.save_model(model, chosen.name, folder / "model", model_folder)
        case "offline":
            return servable.save_offline(model, chosen.name, folder / "offline", model_folder)


def _ia3(model: Any) -> Any:
    from peft import IA3Config, get_peft_model

    names = {name.rpartition(".")[2] for name, _ in model.base_model.named_modules()}
    if missing := [name for name in IA3_MODULES if name not in names]:
        raise MethodRefused(
            f"IA3 scales {', '.join(IA3_MODULES)}, and {type(model).__name__} has no {missing[0]}. Use "
            f"finetune.method = 'lora'."
        )
    config = IA3Config(target_modules=list(IA3_MODULES), feedforward_modules=["down_proj"], task_type="CAUSAL_LM")
    return get_peft_model(model, config)


def _biases_or_scales(model: nn.Module) -> list[str]:
    biases = [name for name, _ in model.named_parameters() if name.rpartition(".")[2] == "bias"]
    return biases or _scales(model)


def _scales(model: nn.Module) -> list[str]:
    """Of the normalisation layers, whose parameters are the only ones with one dimension beside biases."""
    return [name for name, each in model.named_parameters() if each.ndim == 1 and name.endswith("weight")]


def linear_layers(model: Any) -> list[str]:
    """The last parts of the names of every linear layer of the body. Never the head: it may be the embedding again,
    and a change of one that is not a change of the other cannot be merged."""
    from torch import nn

    body, head = model.base_model, model.get_output_embeddings()
    found = {name.rpartition(".")[2] for name, module in body.named_modules() if isinstance(module, nn.Linear)}
    heads = {name.rpartition(".")[2] for name, module in model.named_modules() if module is head}
    if not found - heads:
        raise MethodRefused(f"{type(model).__name__} has no linear layers that LoRA could be put on.")
    return sorted(found - heads)


def decoder_layers(model: Any) -> list[Any]:
    """From the lowest to the highest. Raises MethodRefused for a model that is built otherwise."""
    layers = list(getattr(model.base_model, "layers", ()))
    if not layers or not all(hasattr(layer, "self_attn") for layer in layers):
        raise MethodRefused(
            f"{type(model).__name__} is not built of layers as Llama is. Use finetune.method = 'lora' or 'full'."
        )
    return layers


def _top(model: Any) -> list[str]:
    layers = decoder_layers(model)
    first = len(layers) - max(1, math.ceil(len(layers) / TOP_SHARE))
    above = [*layers[first:], *([model.base_model.norm] if hasattr(model.base_model, "norm") else [])]
    kept = {id(each) for layer in above for each in layer.parameters()}
    return [name for name, each in model.named_parameters() if id(each) in kept]


def _require(model: nn.Module, names: list[str]) -> None:
    wanted = set(names)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in wanted)


def _changes_the_base(chosen: Way) -> bool:
    """Does it train the base's own weights, so that they must be put back to compute as the base did?"""
    return chosen.name in ("bitfit", "top_layers", "full")


def _values(model: nn.Module) -> dict[str, Tensor]:
    return {name: each.detach().clone() for name, each in model.named_parameters() if each.requires_grad}


@contextlib.contextmanager
def swapped(model: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    parameters = {name: each for name, each in model.named_parameters() if name in values}
    learnt = {name: each.data for name, each in parameters.items()}
    for name, each in parameters.items():
        each.data = values[name]
    try:
        yield
    finally:
        for name, each in parameters.items():
            each.data = learnt[name]
