"""Replies as a model gives them, many prompts at a time, always the same ones.

Greedy, so that a difference between two models is one of the models. The other settings are those of the model's
generation_config.json, as when it is served: without its repetition penalty a small model loops in replies that nobody
would ever see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engine.errors import EngineRefused
from engine.tokenizer import ChatMessage
from finetune.tokens import Renderer

# Prompts. A token for each of 20 took 1.1 times as long as for each of 8, on a CPU that has to read all weights for
# either; and padding is computed like words are, so only prompts of about one length go together.
AT_ONCE = 48
TOKENS_AT_ONCE = 16_384  # of prompts and replies, padding included: what the cache holds


@dataclass(frozen=True)
class Written:
    text: str
    tokens: int
    finish: Literal["stop", "length"]


def written(
    model: Any,
    renderer: Renderer,
    model_folder: Path,
    prompts: Sequence[tuple[Sequence[ChatMessage], int]],
    *,
    max_prompt: int,
    told: Callable[[int], None] = lambda done: None,
) -> list[Written | None]:
    """The reply to each prompt, of at most as many tokens as stand beside it, in order.

    A prompt longer than `max_prompt` tokens loses its oldest turns. None for one whose newest turn alone is longer, or
    that the chat template does not take. `told` hears how many are done.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model_folder / "tokenizer.json"))
    encoded = [_within(renderer, messages, max_prompt) for messages, _ in prompts]
    replies: list[Written | None] = [None] * len(prompts)
    takes = [place for place, ids in enumerate(encoded) if ids]
    takes.sort(key=lambda place: len(encoded[place] or ()))
    model.eval()
    done = 0
    for batch in _batches(takes, [len(ids or ()) for ids in encoded], max((limit for _, limit in prompts), default=0)):
        limits = [prompts[place][1] for place in batch]
        rows = _generated(model, [encoded[place] or [] for place in batch], max(limits))
        for place, row, limit in zip(batch, rows, limits, strict=True):
            replies[place] = _reply(model, tokenizer, row, limit)
        done += len(batch)
        told(done)
    return replies


def _batches(places: Sequence[int], lengths: Sequence[int], limit: int) -> Iterator[list[int]]:
    """`places` are in the order of their lengths."""
    batch: list[int] = []
    for place in places:
        length = lengths[place]
        full = len(batch) == AT_ONCE or (length + limit) * (len(batch) + 1) > TOKENS_AT_ONCE
        if batch and (full or length > 2 * lengths[batch[0]] + 32):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _reply(model: Any, tokenizer: Any, row: list[int], limit: int) -> Written:
    """Of the new tokens of a row, which may go on for longer than this reply may."""
    ended = 0 < len(row) <= limit and row[-1] in _ends(model)
    text = tokenizer.decode(row[: len(row) - 1 if ended else limit], skip_special_tokens=True).strip()
    return Written(text, min(len(row), limit), "stop" if ended else "length")


def _within(renderer: Renderer, messages: Sequence[ChatMessage], max_prompt: int) -> list[int] | None:
    kept = list(messages)
    while kept:
        try:
            ids = renderer.prompt_ids(kept)
        except EngineRefused:
            return None
        if len(ids) <= max_prompt:
            return ids
        first = 1 if kept[0]["role"] == "system" else 0
        later = [place for place in range(first + 1, len(kept)) if kept[place]["role"] == "user"]
        if not later:
            return None
        kept = kept[:first] + kept[later[0] :]
    return None


def _generated(model: Any, prompts: Sequence[list[int]], limit: int) -> list[list[int]]:
    """The new tokens of each, with the one that ends it but nothing after that."""
    import torch

    longest = max(len(ids) for ids in prompts)
    # Padded with tokens of its own: nobody attends to them, but a repetition penalty counts them.
    ids = torch.tensor([each[:1] * (longest - len(each)) + each for each in prompts], device=model.device)
    mask = torch.tensor([[0] * (longest - len(each)) + [1] * len(each) for each in prompts], device=model.device)
    with torch.inference_mode():
        whole = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=limit,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=next(iter(_ends(model)), 0),  # after the end of a row
        )
    return [_up_to_end(model, row) for row in whole[:, longest:].tolist()]


def _up_to_end(model: Any, row: list[int]) -> list[int]:
    ends = _ends(model)
    place = next((place for place, token in enumerate(row) if token in ends), None)
    return row if place is None else row[: place + 1]


def _ends(model: Any) -> list[int]:
    ends = model.generation_config.eos_token_id
    return list(ends) if isinstance(ends, list) else [] if ends is None else [ends]
