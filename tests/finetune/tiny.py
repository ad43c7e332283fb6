"""A chat model small enough to train in a second: random weights, the bundled model's own tokenizer and template."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from engine.hardware import Hardware
from engine.models import choose, ensure
from finetune.examples import Example, Source
from settings import REPOSITORY

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")


def bundled_model() -> Path:
    """The real model's folder, as `make setup` prepares it. Tests read it and change nothing."""
    return ensure(choose("bundled", Hardware((), 1, 1.0)), REPOSITORY / "var" / "models", print)


def chat_model(folder: Path, *, seed: int = 0, layers: int = 2, hidden: int = 32) -> Path:
    """A Llama of 2 layers with 4 heads, 2 of them for keys and values. About 8 MB."""
    torch.set_num_threads(1)
    source = bundled_model()
    torch.manual_seed(seed)
    shape = LlamaConfig(
        vocab_size=49152,
        hidden_size=hidden,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        tie_word_embeddings=True,
        initializer_range=0.2,  # with the usual 0.02 so small a model says hardly anything, and can learn nothing
    )
    LlamaForCausalLM(shape).save_pretrained(folder)
    for name in TOKENIZER:
        shutil.copy(source / name, folder / name)
    return folder


def example(
    question: str,
    reply: str,
    *,
    conversation: str = "log:1",
    system: str = "You are Familiar.",
    earlier: Sequence[tuple[str, str]] = (),
    weight: float = 1.0,
) -> Example:
    """A conversation whose last reply is learnt."""
    messages = [{"role": "system", "content": system}] if system else []
    for asked, answered in (*earlier, (question, reply)):
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    weights = (0.0,) * (len(messages) - 1) + (weight,)
    return Example(tuple(messages), weights, "corrected", Source(conversation))


def examples(count: int, *, first: int = 0) -> tuple[Example, ...]:
    """So many short conversations, all different, of different lengths."""
    return tuple(
        example(
            f"What is number {n}?" + " Please tell me." * (n % 4),
            f"Number {n} is {n * 7}." + " That is all." * (n % 3),
            conversation=f"log:{n}",
        )
        for n in range(first, first + count)
    )
