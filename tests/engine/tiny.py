"""Base models and LoRA adapters as transformers and PEFT save them, small enough to make by the dozen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM


def save_base(folder: Path, *, layers: int = 2, hidden: int = 32, seed: int = 0, **saving: Any) -> Path:
    """A Llama with random weights: 4 heads, 2 of them for keys and values."""
    torch.manual_seed(seed)
    shape = LlamaConfig(
        vocab_size=64,
        hidden_size=hidden,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(shape).save_pretrained(folder, **saving)
    return folder


def save_adapter(folder: Path, base: Path, *, dtype: torch.dtype = torch.float32, seed: int = 0, **lora: Any) -> Path:
    """An adapter of `base` with random weights, of rank 4 on q_proj and v_proj unless told otherwise."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM.from_pretrained(base, dtype=dtype)
    wanted = {"r": 4, "target_modules": ["q_proj", "v_proj"], "init_lora_weights": False, "task_type": "CAUSAL_LM"}
    get_peft_model(model, LoraConfig(**(wanted | lora)), autocast_adapter_dtype=False).save_pretrained(folder)
    return folder


def rewrite_config(adapter: Path, **changes: Any) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def rewrite_weights(adapter: Path, change: Any) -> None:
    """`change` gets the tensors by name and alters or replaces them in place."""
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
