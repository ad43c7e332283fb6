"""Attention inside each conversation of a packed row, computed one conversation after the other.

transformers' own way computes every token of the row against every other and masks most of it away: for four
conversations of equal length, seven eighths of the work. And it finds out by itself, silently, whether the row is
packed at all. Here the caller says where each conversation ends, so that none can see another.

It fits models whose layers attend to everything before, and that hand on what they are called with; `use` says whether
this is one, by trying.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

NAME = "familiar_segments"


def segmented(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    segments: Sequence[int] | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Query (1, heads, T, size), key and value with as many heads or fewer; `segments`: lengths, T together.

    Without segments the row is one text.
    """
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    lengths = list(segments or (query.shape[2],))
    parts = zip(*(torch.split(each, lengths, dim=2) for each in (query, key, value)), strict=True)
    found = [sdpa_attention_forward(module, *part, None, dropout, scaling, is_causal=True)[0] for part in parts]
    return torch.cat(found, dim=1), None


def use(model: Any) -> bool:
    """Let the model attend so, if it can. False where packed conversations still saw each other: it is as it was."""
    from transformers import AttentionInterface

    config = model.config.get_text_config()
    if getattr(config, "sliding_window", None) or set(getattr(config, "layer_types", None) or ()) - {"full_attention"}:
        return False
    before = config._attn_implementation
    AttentionInterface.register(NAME, segmented)
    try:
        model.set_attn_implementation(NAME)
        if isolates(model):
            return True
    except (TypeError, ValueError):  # the model takes no `segments`, or nobody else's attention
        pass
    model.set_attn_implementation(before)
    return False


def isolates(model: Any) -> bool:
    """Does a packed conversation get the logits that it gets alone?"""
    import torch

    from finetune.packing import forward, pack
    from finetune.tokens import Encoded

    vocabulary = model.config.get_text_config().vocab_size
    one, other = (
        Encoded(tuple((start + 97 * place) % vocabulary for place in range(12)), (0.0, *(1.0,) * 11))
        for start in (vocabulary // 3, vocabulary // 2)
    )
    training = model.training
    model.eval()
    with torch.inference_mode():
        alone, together = forward(model, pack([other], [0])), forward(model, pack([one, other], [0, 1]))[11:]
    model.train(training)
    # Rounding to bfloat16 changes logits by a hundredth of their spread; a leak by about all of it.
    return bool((alone - together).abs().mean() < 0.05 * alone.std())
