"""LoRA that starts from the main part of each weight: PiSSA (Meng et al. 2024, arXiv:2404.02948).

    W = U S V'      A = sqrt(S) V', B = U sqrt(S), of the `rank` largest singular values

PEFT's own takes B A out of the base model's weights, so that both together begin as W. In bfloat16 what is left of W
is rounded, the model is trained on that, and what is served later, on W itself, is another one. Here W stays as it is,
and a second adapter that does not learn takes the start away again: W + B A - B0 A0. What is saved is the same sum, as
PEFT's path_initial_model_for_weight_conversion writes it: a plain LoRA adapter of twice the rank.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.adapter_check import CONFIG, WEIGHTS

START = "start"  # PEFT's name for the adapter that takes the start away
LEARNT = "default"


def begin(adapted: Any, config: Any) -> None:
    """Give a fresh LoRA model PiSSA's start. The function is still the base model's; the first adapter alone learns."""
    steady = copy.deepcopy(config)
    steady.lora_dropout = 0.0
    adapted.add_adapter(START, steady)
    for layer in _layers(adapted):
        a, b = _start_of(layer.get_base_layer().weight.detach(), config.r, layer.scaling[LEARNT])
        with torch.no_grad():
            for name, sign in ((LEARNT, 1), (START, -1)):
                layer.lora_A[name].weight.copy_(a)
                layer.lora_B[name].weight.copy_(sign * b)
    adapted.base_model.set_adapter([LEARNT, START])
    for name, parameter in adapted.named_parameters():
        parameter.requires_grad_(f".{LEARNT}." in name)


def write_as_difference(model: Any, folder: Path) -> None:
    """Make the saved adapter in `folder` the sum of both."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / WEIGHTS)
    for name, layer in model.named_modules():
        if not hasattr(layer, "lora_A") or START not in layer.lora_A:
            continue
        for part, side, dimension in (("lora_A", layer.lora_A, 0), ("lora_B", layer.lora_B, 1)):
            both = [side[each].weight.detach().cpu() for each in (LEARNT, START)]
            tensors[f"{name}.{part}.weight"] = torch.cat(both, dimension).contiguous()
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    file = folder / CONFIG
    config = json.loads(file.read_text(encoding="utf-8"))
    config |= {"r": 2 * config["r"], "lora_alpha": 2 * config["lora_alpha"]}  # the same scale
    file.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def _layers(adapted: Any) -> list[Any]:
    return [layer for layer in adapted.modules() if hasattr(layer, "lora_A") and LEARNT in layer.lora_A]


def _start_of(weight: Tensor, rank: int, scaling: float) -> tuple[Tensor, Tensor]:
    """A (rank, in) and B (out, rank), with scaling * B A the main part of the weight (out, in)."""
    u, s, v = torch.linalg.svd(weight.float(), full_matrices=False)
    root = (s[:rank] / scaling).sqrt()
    return root[:, None] * v[:rank], u[:, :rank] * root
