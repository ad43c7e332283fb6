"""A narrow layer beside each feed-forward layer, which can become a part of it.

A gated feed-forward layer, as models of the Llama type have it, is a sum over its neurons:

    down(act(gate x) * up x)  =  Σ over neurons n of  down_n · act(gate_n·x) · (up_n·x)

The adapter adds a few neurons of the same form. So it is a parallel adapter (He et al. 2022, "Towards a Unified View of
Parameter-Efficient Transfer Learning", arXiv:2110.04366) with the model's own gated activation, and merging it is
making the layer wider: the sum is the same, neuron by neuron. Adapters in series (Houlsby et al. 2019,
arXiv:1902.00751; Pfeiffer et al. 2021, arXiv:2005.00247) put an activation between the layer and what follows, which
no weight of the model can express.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from finetune.errors import MethodRefused

PARTS = ("gate_proj", "up_proj", "down_proj")
NAME = "bottleneck"  # of the adapter, as a child of the feed-forward layer
ROUND_TO = 64  # neurons that are added, the rest of them zero: kernels and several GPUs like even sizes


class Bottleneck(nn.Module):
    """`size` neurons that read and write the hidden states; at the start it adds nothing."""

    def __init__(self, hidden: int, size: int, activation: nn.Module, dropout: float) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.empty(size, hidden))
        self.up = nn.Parameter(torch.empty(size, hidden))
        self.down = nn.Parameter(torch.zeros(hidden, size))
        nn.init.kaiming_uniform_(self.gate, a=math.sqrt(5))
        nn.init.kaiming_uniform_(self.up, a=math.sqrt(5))
        self.activation = activation
        self.dropout = nn.Dropout(dropout)
        self.switched_off = False

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., hidden) -> (..., hidden)"""
        seen = self.dropout(hidden.to(self.gate.dtype))
        neurons = self.activation(nn.functional.linear(seen, self.gate)) * nn.functional.linear(seen, self.up)
        return nn.functional.linear(neurons, self.down).to(hidden.dtype)


def insert(model: Any, size: int, dropout: float) -> None:
    """Put one beside each feed-forward layer and let it alone learn. Raises MethodRefused where there are no such."""
    layers = feed_forward_layers(model)
    for layer in layers:
        adapter = Bottleneck(layer.gate_proj.in_features, size, layer.act_fn, dropout)
        layer.add_module(NAME, adapter.to(layer.gate_proj.weight.device))
        layer.register_forward_hook(_add)


def feed_forward_layers(model: Any) -> list[Any]:
    """One of each layer of the model. Raises MethodRefused for a model that is built otherwise."""
    found = [
        module
        for module in model.base_model.modules()
        if all(isinstance(getattr(module, part, None), nn.Linear) for part in PARTS) and hasattr(module, "act_fn")
    ]
    if len(found) != model.config.num_hidden_layers:
        raise MethodRefused(
            f"A bottleneck adapter is put beside gated feed-forward layers ({', '.join(PARTS)}), one a layer, and "
            f"{type(model).__name__} is built otherwise. Use finetune.method = 'lora'."
        )
    return found


def widened(model: Any) -> tuple[dict[str, Tensor], dict[str, int]]:
    """The weights in which the adapters are neurons of their layers, by name, and what changes in the model's config.

    The model stays as it is.
    """
    weights: dict[str, Tensor] = {}
    added = 0
    layers = {id(layer) for layer in feed_forward_layers(model)}
    for name, layer in model.named_modules():
        if id(layer) not in layers:
            continue
        adapter = getattr(layer, NAME)
        size = adapter.gate.shape[0]
        added = ROUND_TO * math.ceil(size / ROUND_TO)
        for part, rows in (("gate_proj", adapter.gate), ("up_proj", adapter.up)):
            linear = getattr(layer, part)
            weights[f"{name}.{part}.weight"] = _longer(linear.weight, rows, added)
            if linear.bias is not None:
                weights[f"{name}.{part}.bias"] = nn.functional.pad(linear.bias.detach(), (0, added))
        weights[f"{name}.down_proj.weight"] = _longer(layer.down_proj.weight.T, adapter.down.T, added).T.contiguous()
    return weights, {"intermediate_size": model.config.intermediate_size + added}


def _longer(weight: Tensor, rows: Tensor, added: int) -> Tensor:
    """`added` rows more: the given ones, and zeros."""
    padded = nn.functional.pad(rows.detach(), (0, 0, 0, added - rows.shape[0]))
    return torch.cat([weight.detach(), padded.to(weight.dtype)])


def _add(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    adapter = getattr(layer, NAME)
    return output if adapter.switched_off else output + adapter(inputs[0])
