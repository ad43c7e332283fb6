"""Conversations go through the model packed: end to end in one row, without a padding token.

Each keeps its own positions, from 0, by which transformers tells where one ends and the next begins, but only when
there is neither a cache nor an attention mask: with the default cache, or a mask of ones, it takes the row for one text
and lets each conversation see those before it, without a word (tests/finetune/test_packing.py shows both). So `Pack` is
the only way in, and `forward` the only call of the model.

The output head is computed only where a token is to be predicted: with a vocabulary of 49,152 it would cost more than
a third of this model, for tokens that the loss then leaves out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune import attention
from finetune.tokens import Encoded

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Pack:
    """Some of a list of encoded examples, as one row of T tokens, P of which are predicted."""

    members: tuple[int, ...]  # places in the list
    ids: tuple[int, ...]  # (T,)
    positions: tuple[int, ...]  # (T,), from 0 in each example
    predicted: tuple[int, ...]  # (P,), places in `ids`
    weights: tuple[float, ...]  # (P,)
    owners: tuple[int, ...]  # (P,), the member that each belongs to

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> tuple[int, ...]:
        starts = [place for place, position in enumerate(self.positions) if position == 0]
        return tuple(end - start for start, end in zip(starts, [*starts[1:], len(self.ids)], strict=True))


def packs(encoded: Sequence[Encoded], budget: int) -> list[Pack]:
    """All of them in as few rows of at most `budget` tokens as first-fit-decreasing finds.

    One that is longer than the budget has a row of its own.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for member in sorted(range(len(encoded)), key=lambda each: -len(encoded[each].ids)):
        length = len(encoded[member].ids)
        row = next((place for place, left in enumerate(room) if left >= length), None)
        if row is None:
            rows.append([member])
            room.append(budget - length)
        else:
            rows[row].append(member)
            room[row] -= length
    return [pack(encoded, row) for row in rows]


def pack(encoded: Sequence[Encoded], members: Sequence[int]) -> Pack:
    """These members of the list in one row."""
    ids: list[int] = []
    positions: list[int] = []
    predicted: list[tuple[int, float, int]] = []
    for member in members:
        each = encoded[member]
        start = len(ids)
        ids += each.ids
        positions += range(len(each.ids))
        # The first token has none before it to be predicted from.
        predicted += [(start + at, weight, member) for at, weight in enumerate(each.weights) if at and weight > 0]
    places, weights, owners = zip(*predicted, strict=True) if predicted else ((), (), ())
    return Pack(tuple(members), tuple(ids), tuple(positions), places, weights, owners)


def forward(model: Any, pack: Pack) -> Tensor:
    """The logits, (P, vocabulary) in float32, from which the pack's predicted tokens are to be predicted."""
    import torch

    device = model.device
    # Counted from the end: methods that put tokens of their own in front of the row move everything else.
    at = torch.tensor([place - 1 - len(pack) for place in pack.predicted], device=device)
    positions = torch.tensor([pack.positions], device=device) if len(pack.members) > 1 else None
    told = {"segments": pack.lengths} if getattr(model.config, "_attn_implementation", "") == attention.NAME else {}
    output = model(
        input_ids=torch.tensor([pack.ids], device=device),
        position_ids=positions,
        use_cache=False,
        logits_to_keep=at,
        **told,
    )
    logits: Tensor = output.logits[0].float()
    return logits


def token_losses(model: Any, pack: Pack) -> Tensor:
    """-log p of each predicted token, (P,) in nats, differentiable."""
    import torch

    logits = forward(model, pack)
    targets = torch.tensor([pack.ids[place] for place in pack.predicted], device=logits.device)
    return torch.nn.functional.cross_entropy(logits, targets, reduction="none")


@dataclass
class Measured:
    """Of one example's predicted tokens."""

    loss: float = 0.0  # their sum, in nats
    tokens: int = 0
    mistakes: int = 0  # where another token was likelier; of a reply without any, it is what greedy decoding writes


def measured(model: Any, encoded: Sequence[Encoded], budget: int) -> list[Measured]:
    """Of each, in order. Without gradients; the model is put into evaluation mode."""
    import torch

    model.eval()
    found = [Measured() for _ in encoded]
    with torch.inference_mode():
        for each in packs(encoded, budget):
            if not each.predicted:
                continue
            logits = forward(model, each)
            targets = torch.tensor([each.ids[place] for place in each.predicted], device=logits.device)
            losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
            mistaken = logits.argmax(dim=-1) != targets
            for owner, loss, mistake in zip(each.owners, losses.tolist(), mistaken.tolist(), strict=True):
                found[owner].loss += loss
                found[owner].tokens += 1
                found[owner].mistakes += mistake
    return found


def losses(model: Any, encoded: Sequence[Encoded], budget: int) -> list[tuple[float, int]]:
    """(sum in nats, how many tokens) of each, as `measured` has it."""
    return [(each.loss, each.tokens) for each in measured(model, encoded, budget)]
