"""Learnt changes as the base model's own weights: the same function, without an adapter beside them.

The model that was trained stays as it is; what comes out is its weights by name.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from finetune.errors import MethodRefused

OF_THE_BASE = "base_layer"  # PEFT's name for the layer that it has put something around


def merged(model: Any) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Every weight by its name in the base model, what was learnt within it, and what changes in the model's config.

    Raises MethodRefused for a change that cannot be merged rightly, and for one that is not finite.
    """
    refuse_tied(model)
    inner = model.get_base_model() if hasattr(model, "peft_config") else model
    changed, config = _changed(inner)
    weights: dict[str, Tensor] = {}
    own = {name.replace(f".{OF_THE_BASE}.", "."): value for name, value in inner.state_dict().items()}
    learnt = {name.replace(f".{OF_THE_BASE}.", ".") for name in _names_of_adapters(inner)}
    for name, value in own.items():
        if name not in learnt:
            weights[name] = changed.get(name, value)
    if sick := next((name for name, value in weights.items() if not bool(torch.isfinite(value).all())), ""):
        raise MethodRefused(f"{sick} is not finite: the training diverged. Train with a lower learning rate.")
    return weights, config


def _changed(inner: Any) -> tuple[dict[str, Tensor], dict[str, int]]:
    """The weights that are not what the model holds under their names."""
    from finetune import bottleneck

    if any(isinstance(module, bottleneck.Bottleneck) for module in inner.modules()):
        return bottleneck.widened(inner)
    weights: dict[str, Tensor] = {}
    for name, layer in inner.named_modules():
        if hasattr(layer, OF_THE_BASE) and hasattr(layer, "merge"):
            weights |= _merged_layer(name, layer)
    return weights, {}


def _merged_layer(name: str, layer: Any) -> dict[str, Tensor]:
    """A layer with PEFT's change in it. PEFT merges in place, and takes it back with a rounding error or worse; so what
    was there before is put back itself."""
    plain = layer.get_base_layer()
    before = {part: each.data for part, each in plain.named_parameters(recurse=False)}
    for part, each in plain.named_parameters(recurse=False):
        each.data = before[part].clone()
    layer.merge()
    after = {f"{name}.{part}": each.data for part, each in plain.named_parameters(recurse=False)}
    for part, each in plain.named_parameters(recurse=False):
        each.data = before[part]
    layer.merged_adapters.clear()
    return after


def _names_of_adapters(inner: Any) -> set[str]:
    """Of the state that no base model has."""
    from finetune import bottleneck, virtual

    names: set[str] = set()
    for name, layer in inner.named_modules():
        children = [
            *getattr(layer, "adapter_layer_names", ()),
            *getattr(layer, "other_param_names", ()),
            *(own for own in (bottleneck.NAME, virtual.NAME) if hasattr(layer, own)),
        ]
        for child in children:
            module = getattr(layer, child, None)
            if isinstance(module, torch.nn.Module):
                names |= {f"{name}.{child}.{rest}" for rest in module.state_dict()}
    return names


def refuse_tied(model: Any) -> None:
    """Raise MethodRefused for LoRA on the embedding or the head.

    Where both are one tensor, a change of one of them is not a change of the other, and merging it would change both.
    """
    if not hasattr(model, "peft_config"):
        return
    inner = model.get_base_model()
    ends = {id(_plain(inner.get_input_embeddings())), id(_plain(inner.get_output_embeddings()))}
    for name, module in inner.named_modules():
        if hasattr(module, OF_THE_BASE) and id(_plain(module)) in ends:
            raise MethodRefused(
                f"The adapter changes {name}, an end of the model. Where both ends are one tensor, a change of one "
                f"cannot be merged, and the engine does not serve it. Leave it out of target_modules."
            )


def _plain(module: Any) -> Any:
    return getattr(module, OF_THE_BASE, module)
