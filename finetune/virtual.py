"""Learnt prompts and prefixes: positions before each conversation that stand for no words.

A prompt (Lester et al. 2021, arXiv:2104.08691) is embeddings before the first token's. A prefix (Li and Liang 2021,
arXiv:2101.00190) is keys and values in every layer; here without the reparametrisation of the paper, and begun, as it
advises, with those of real words.

PEFT's own put one before each row of a batch, and only where the model is called with its head. A row of packed samples
would have the prompt before its first sample alone. These stand before each sample of a row: a prompt by being
inserted there, a prefix by being visible to all. The files are PEFT's, which computes the same from them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

VIRTUAL_TOKENS = 16
NAME = "virtual"  # of the module, as a child of the model's body or of its attention layers
ATTENTION = "familiar_prefix"
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
SAVED = "prompt_embeddings"  # PEFT's name for the one tensor

Kind = Literal["prompt", "prefix"]


def insert(model: Any, kind: str, batches: Iterable[Mapping[str, Tensor]] = ()) -> None:
    """Put a prompt or prefix before everything that the model reads, and let it alone learn.

    It begins with the first words of the first batch, so with the system prompt as a rule, else with random ones.
    """
    words = _first_words(model, batches)
    if kind == "prompt":
        _insert_prompt(model, model.get_input_embeddings()(words)[0].detach().float())
    else:
        _insert_prefix(model, words)


def _first_words(model: Any, batches: Iterable[Mapping[str, Tensor]]) -> Tensor:
    """(1, VIRTUAL_TOKENS) token ids"""
    device = model.get_input_embeddings().weight.device
    for batch in batches:
        row = batch["input_ids"][:1, :VIRTUAL_TOKENS]
        if row.shape[1] == VIRTUAL_TOKENS:
            return row.to(device)
    return torch.randint(0, model.config.vocab_size, (1, VIRTUAL_TOKENS)).to(device)


# Prompts


class Prompt(nn.Module):
    def __init__(self, tokens: Tensor) -> None:
        super().__init__()
        self.tokens = nn.Parameter(tokens.clone())  # (virtual tokens, hidden)
        self.switched_off = False
        self.kept: Tensor | None = None  # of the positions that the body computes, those that somebody asked for


def _insert_prompt(model: Any, tokens: Tensor) -> None:
    body = model.base_model
    body.add_module(NAME, Prompt(tokens))
    body.register_forward_pre_hook(_before_body, with_kwargs=True)
    body.register_forward_hook(_after_body)


def _before_body(body: Any, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    prompt: Prompt = getattr(body, NAME)
    prompt.kept = None
    if prompt.switched_off:
        return args, given
    given = dict(given)
    ids = args[0] if args else given.pop("input_ids", None)
    words = body.get_input_embeddings()(ids) if given.get("inputs_embeds") is None else given["inputs_embeds"]
    rows, length, count = words.shape[0], words.shape[1], prompt.tokens.shape[0]
    positions, mask = given.get("position_ids"), given.get("attention_mask")
    if mask is not None:
        given["attention_mask"] = torch.cat([mask.new_ones(rows, count), mask], 1)
    cache = given.get("past_key_values")
    if cache is not None and cache.get_seq_length() > 0:  # it was read before; what comes now stands after it
        if positions is not None:
            given["position_ids"] = positions + count
        return (), given | {"input_ids": None, "inputs_embeds": words}
    if positions is None:
        positions = torch.arange(length, device=words.device)[None]
    begins = [0] if mask is not None else _begins(positions)
    pieces, places, kept, at = [], [], [], 0
    learnt = prompt.tokens.to(words.dtype).expand(rows, -1, -1)
    numbers = torch.arange(count, device=words.device).expand(positions.shape[0], -1)
    for first, end in zip(begins, [*begins[1:], length], strict=True):
        pieces += [learnt, words[:, first:end]]
        places += [numbers, positions[:, first:end] + count]
        kept.append(torch.arange(at + count, at + count + end - first, device=words.device))
        at += count + end - first
    prompt.kept = torch.cat(kept)
    return (), given | {"input_ids": None, "inputs_embeds": torch.cat(pieces, 1), "position_ids": torch.cat(places, 1)}


def _begins(positions: Tensor) -> list[int]:
    """Where samples begin in a packed row. All rows must be alike: insertion makes them longer."""
    begin = positions != nn.functional.pad(positions[:, :-1] + 1, (1, 0), value=-1)
    if not bool((begin == begin[:1]).all()):
        raise ValueError("rows whose samples begin at different places cannot be given a prompt together")
    return [int(at) for at in begin[0].nonzero()[:, 0]]


def _after_body(body: Any, _args: tuple[Any, ...], output: Any) -> Any:
    kept = getattr(body, NAME).kept
    if kept is not None:
        output.last_hidden_state = output.last_hidden_state[:, kept]
    return output


# Prefixes


class Prefix(nn.Module):
    """Of one layer."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.keys = nn.Parameter(keys.clone())  # (heads for keys and values, virtual tokens, head size)
        self.values = nn.Parameter(values.clone())
        self.switched_off = False


def _insert_prefix(model: Any, words: Tensor) -> None:
    from transformers import AttentionInterface, DynamicCache
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    from finetune.methods import decoder_layers

    layers = decoder_layers(model)
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model.base_model(input_ids=words, past_key_values=cache, use_cache=True)
    for layer, seen in zip(layers, cache.layers, strict=True):
        layer.self_attn.add_module(NAME, Prefix(seen.keys[0].float(), seen.values[0].float()))
    AttentionInterface.register(ATTENTION, _attend)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)
    model.set_attn_implementation(ATTENTION)
    model.base_model.register_forward_pre_hook(_make_room, with_kwargs=True)


def _make_room(body: Any, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The first token stands behind the prefix, not in its place."""
    prefix: Prefix = getattr(body.layers[0].self_attn, NAME)
    if prefix.switched_off:
        return args, given
    positions = given.get("position_ids")
    if positions is None:
        words = args[0] if args else given.get("input_ids")
        words = given["inputs_embeds"] if words is None else words
        cache = given.get("past_key_values")
        before = cache.get_seq_length() if cache is not None else 0
        positions = before + torch.arange(words.shape[1], device=words.device)[None]
    return args, given | {"position_ids": positions + prefix.keys.shape[1]}


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **more: Any
) -> tuple[Tensor, None]:
    """Attention in which each query also sees the prefix. Tensors are (rows, heads, positions, head size)."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    prefix: Prefix = getattr(module, NAME)
    if not prefix.switched_off:
        if attention_mask is None and query.shape[2] > 1:
            attention_mask = query.new_ones(query.shape[2], key.shape[2], dtype=torch.bool)
            attention_mask = attention_mask.tril(key.shape[2] - query.shape[2])[None, None]
        if attention_mask is not None:
            visible = attention_mask.dtype == torch.bool
            attention_mask = nn.functional.pad(attention_mask, (prefix.keys.shape[1], 0), value=visible)
        key = torch.cat([prefix.keys.to(key.dtype).expand(key.shape[0], -1, -1, -1), key], 2)
        value = torch.cat([prefix.values.to(value.dtype).expand(value.shape[0], -1, -1, -1), value], 2)
    attended: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **more)
    return attended


# Files


def save(model: Any, kind: str, folder: Path) -> None:
    """Into `folder`, as PEFT saves it."""
    from safetensors.torch import save_file

    config = model.config
    heads = config.num_key_value_heads if kind == "prefix" else config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    save_file({SAVED: _flat(model, kind)}, folder / WEIGHTS, metadata={"format": "pt"})
    described = {
        "peft_type": "PREFIX_TUNING" if kind == "prefix" else "PROMPT_TUNING",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "",
        "inference_mode": True,
        "num_virtual_tokens": VIRTUAL_TOKENS,
        "num_layers": config.num_hidden_layers,
        "num_attention_heads": heads,
        "token_dim": heads * size if kind == "prefix" else config.hidden_size,
        "num_transformer_submodules": 1,
    }
    (folder / CONFIG).write_text(json.dumps(described, indent=2, sort_keys=True), encoding="utf-8")


def _flat(model: Any, kind: str) -> Tensor:
    """(virtual tokens, what each of them is)"""
    if kind == "prompt":
        tokens: Tensor = getattr(model.base_model, NAME).tokens
        return tokens.detach().float().contiguous()
    prefixes = [getattr(layer.self_attn, NAME) for layer in model.base_model.layers]
    both = [each.transpose(0, 1).flatten(1) for prefix in prefixes for each in (prefix.keys, prefix.values)]
    return torch.cat(both, 1).detach().float().contiguous()


def load(model: Any, folder: Path) -> None:
    """Put what was saved in `folder` before everything that the model reads."""
    from safetensors.torch import load_file

    kind = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["peft_type"]
    saved = load_file(folder / WEIGHTS)[SAVED]
    if kind == "PROMPT_TUNING":
        _insert_prompt(model, saved)
        return
    _insert_prefix(model, _first_words(model, ()))
    parts = saved.view(saved.shape[0], 2 * model.config.num_hidden_layers, -1)
    with torch.no_grad():
        for number, layer in enumerate(model.base_model.layers):
            prefix = getattr(layer.self_attn, NAME)
            for part, parameter in enumerate((prefix.keys, prefix.values)):
                heads, count, size = parameter.shape
                parameter.copy_(parts[:, 2 * number + part].view(count, heads, size).transpose(0, 1))
