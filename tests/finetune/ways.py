"""Each way of training, on a model of two layers, for a few steps: what the tests of ways have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from finetune.methods import attach, way
from settings import Finetune

RANK = 4
IDS = torch.randint(3, 64, (1, 60), generator=torch.Generator().manual_seed(5))
POSITIONS = torch.cat([torch.arange(25), torch.arange(35)])[None]  # two samples in one row
SERVED_AS_ADAPTER = ("lora", "rslora", "pissa", "eva")
MERGED = ("dora", "ia3", "bottleneck", "bitfit", "top_layers", "full")
OFFLINE = ("prompt", "prefix")


def save_model(folder: Path, *, dtype: torch.dtype = torch.float32, **shape: Any) -> Path:
    """A Llama with random weights of 2 layers, ends tied, without biases; `shape` says what is otherwise."""
    torch.manual_seed(0)
    config = LlamaConfig(
        **{
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "tie_word_embeddings": True,
        }
        | shape
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, each in model.named_parameters():  # as new, biases are 0 and scales 1, which would hide mistakes
            if each.ndim == 1:
                each.add_(0.1 * torch.randn_like(each) if name.endswith("weight") else torch.randn_like(each))
    model.to(dtype).save_pretrained(folder)
    return folder


def load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def settings(name: str, **changes: Any) -> Finetune:
    return Finetune(method=name, rank=RANK, alpha=8, **changes)


def attached(folder: Path, name: str, **changes: Any) -> Any:
    batches = [{"input_ids": IDS, "position_ids": POSITIONS}]
    return attach(load(folder), way(name), settings(name, **changes), batches).eval()


def logits(model: Any, ids: torch.Tensor = IDS, positions: torch.Tensor | None = POSITIONS) -> torch.Tensor:
    with torch.no_grad():
        output: torch.Tensor = model(input_ids=ids, position_ids=positions, use_cache=False).logits
        return output


def loss(model: Any) -> torch.Tensor:
    output = model(input_ids=IDS, position_ids=POSITIONS, use_cache=False).logits
    return torch.nn.functional.cross_entropy(output[0, :-1], IDS[0, 1:])


def learn(model: Any, steps: int = 3, rate: float = 0.02) -> Any:
    """The optimizer gets all parameters, so that one which should not learn could."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model


def values(model: Any, wanted: Callable[[Any], bool] = lambda _: True) -> dict[str, torch.Tensor]:
    return {name: each.detach().clone() for name, each in model.named_parameters() if wanted(each)}


def close(one: torch.Tensor, other: torch.Tensor, within: float = 1e-5) -> bool:
    return bool((one - other).abs().max() < within)
