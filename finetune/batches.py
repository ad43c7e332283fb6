"""What each step of training is made of, and how far it moves the model: decided before the first one.

A batch is about finetune.batch_tokens tokens of whole examples; it goes through the model in rows, whose losses are
weighted such that they add up to the loss of the batch, whatever the rows are.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from finetune.packing import Pack, packs
from finetune.tokens import Encoded
from settings import Finetune


@dataclass(frozen=True)
class Batch:
    """What one step of the optimizer is made of."""

    packs: tuple[Pack, ...]
    shares: tuple[tuple[float, ...], ...]  # of each pack's predicted tokens in the loss
    tokens: int


def batch_of(encoded: Sequence[Encoded], members: Sequence[int], settings: Finetune, row_tokens: int) -> Batch:
    """These examples as one batch, in rows of `row_tokens`. Its loss is the mean over its tokens, or over its examples
    of the mean over theirs.

    Weights count against the mean weight of all that is learnt, not of the batch: in a batch of a single example its
    weight would otherwise not count at all.
    """
    chosen = [encoded[member] for member in members]
    by_example = settings.loss_of == "examples"
    parts = packs(chosen, row_tokens)
    count = len(chosen) if by_example else sum(each.predicted for each in chosen)
    every = count * mean_weight(encoded, settings)
    shares = tuple(
        tuple(
            weight / every / (chosen[owner].predicted if by_example else 1)
            for weight, owner in zip(part.weights, part.owners, strict=True)
        )
        for part in parts
    )
    return Batch(tuple(parts), shares, sum(len(part) for part in parts))


def mean_weight(encoded: Sequence[Encoded], settings: Finetune) -> float:
    """Of an example, or of a predicted token, over all."""
    if settings.loss_of == "examples":
        return sum(sum(each.weights) / each.predicted for each in encoded) / len(encoded)
    return sum(sum(each.weights) for each in encoded) / sum(each.predicted for each in encoded)


def steps(lengths: Sequence[int], settings: Finetune) -> Iterator[list[int]]:
    """The examples (places in `lengths`) of each step, of all epochs, each epoch in an order of its own."""
    left, epoch = settings.epochs, 0
    while left > 0:
        order = list(range(len(lengths)))
        random.Random(f"{settings.seed} {epoch}").shuffle(order)
        cut = batches(lengths, order, settings.batch_tokens)
        yield from cut[: math.ceil(len(cut) * min(1.0, left))]
        left, epoch = left - 1, epoch + 1


def batches(lengths: Sequence[int], order: Sequence[int], budget: int) -> list[list[int]]:
    """`order` (places in `lengths`) cut into batches of about `budget` tokens, none much smaller than the others.

    A small rest at the end would move the model as far as a whole batch does, on little evidence.
    """
    total = sum(lengths[each] for each in order)
    count = max(1, round(total / budget))
    cut: list[list[int]] = [[] for _ in range(count)]
    passed = 0
    for each in order:
        middle = passed + lengths[each] / 2
        cut[min(count - 1, int(middle * count / total))].append(each)
        passed += lengths[each]
    return [batch for batch in cut if batch]


def learning_rate_at(step: int, steps: int, settings: Finetune, highest: float) -> float:
    """Of step 0, 1, ...: rises over the warm-up, then falls to nearly 0 as a cosine (Loshchilov and Hutter 2016)."""
    warm_up = round(settings.warmup_share * steps)
    if step < warm_up:
        return highest * (step + 1) / (warm_up + 1)
    return highest * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))
