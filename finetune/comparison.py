"""What a report shows of a model before and after: a table of every number, and replies side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from finetune import pairs
from finetune.degenerate import empty, looping, refusal
from finetune.measurements import Measurements, Reply
from finetune.pairs import Losses
from finetune.record import Interval, Sample, Unlearned
from finetune.statistics import mean
from settings import Gate

Better = Literal["lower", "higher", "same"]

_SETS = {
    "test": "held-out conversations",
    "validation": "validation",
    "general": "general text",
    "unlearned": "what people took back",
}
_KINDS = {
    "safety": "refused what is dangerous",
    "over_refusal": "answered what only sounds dangerous",
    "format": "kept to the form asked for",
    "retrieval": "answered from passages",
    "citation": "cited passages",
    "not_in_documents": "said that the documents do not say",
    "language": "answered in the language asked for",
    "fact": "knew plain facts",
}


def table(before: Measurements, after: Measurements, gate: Gate) -> tuple[Interval, ...]:
    """Every number before and after, with the paired interval of the difference."""
    rows: list[Interval] = []
    for name in before.losses:
        rows += _loss_rows(name, before, after, gate)
    rows += _preference_rows(before, after, gate)
    rows += _reply_rows(before, after, gate)
    for kind, said in _KINDS.items():
        asked = [pair for pair in pairs.probes(before, after) if pair[0].kind == kind]
        passed = [float(old.passed) for old, _ in asked], [float(new.passed) for _, new in asked]
        rows += row(f"fixed questions: {said}", *passed, [old.key for old, _ in asked], "higher", gate)
    return tuple(rows)


def samples(before: Measurements, after: Measurements, n: int) -> tuple[Sample, ...]:
    """Replies side by side: of different conversations as far as there are enough, in the order they were measured."""
    seen: set[str] = set()
    first: list[tuple[Reply, Reply]] = []
    later: list[tuple[Reply, Reply]] = []
    for pair in pairs.replies(before, after):
        (later if pair[0].conversation in seen else first).append(pair)
        seen.add(pair[0].conversation)
    return tuple(
        Sample(old.conversation, old.question, old.reference, old.text, new.text) for old, new in (first + later)[:n]
    )


def unlearned(
    before: Measurements, after: Measurements, base: Measurements | None, taken_back: Mapping[str, int], gate: Gate
) -> Unlearned | None:
    """Whether the new model knows what people took back better than the base model, which never saw it.

    None where nothing was taken back, or not the same was measured with all three. `taken_back`: of the DataCounts.
    """
    if base is None:
        return None
    known, now = Losses.of(base, before, "unlearned"), Losses.of(base, after, "unlearned")
    if known.fault("texts") is not None or now.fault("texts") is not None:
        return None
    difference = now.by_conversation(gate)
    return Unlearned(
        people=taken_back.get("people", 0),
        conversations=difference.n,
        before=mean(known.after, known.conversations),
        after=mean(now.after, now.conversations),
        base=mean(now.before, now.conversations),
        difference=difference.mean,
        low=pairs.ends(difference)[0],
        high=pairs.ends(difference)[1],
        taught_by_others=taken_back.get("taught_by_others", 0),
    )


def _loss_rows(name: str, before: Measurements, after: Measurements, gate: Gate) -> list[Interval]:
    losses = Losses.of(before, after, name)
    said = _SETS.get(name, name.replace("round ", "test of run "))
    better: Better = "higher" if name == "unlearned" else "lower"
    rows = row(f"loss a token, {said}", losses.before, losses.after, losses.conversations, better, gate)
    if not rows:
        return []
    rows += _word_for_word(said, losses, gate)
    ratio = pairs.exponential(losses.by_token(gate))
    was, now = before.perplexity(name), after.perplexity(name)
    low, high = (None if end is None else was * end - was for end in pairs.ends(ratio))
    return [*rows, Interval(f"perplexity, {said}", was, now, now - was, low, high, ratio.n, better)]


def _word_for_word(said: str, losses: Losses, gate: Gate) -> list[Interval]:
    """For what people wrote; no model writes a paragraph of common knowledge as it stands."""
    if said == _SETS["general"] or any(each.mistakes < 0 for pair in losses.pairs for each in pair):
        return []
    old, new = ([float(pair[side].word_for_word) for pair in losses.pairs] for side in (0, 1))
    better: Better = "lower" if said == _SETS["unlearned"] else "higher"
    return row(f"written word for word, {said}", old, new, losses.conversations, better, gate)


def _preference_rows(before: Measurements, after: Measurements, gate: Gate) -> list[Interval]:
    chosen = pairs.chosen(before, after)
    by = [old.conversation for old, _ in chosen]
    old, new = ([pair[side].better - pair[side].worse for pair in chosen] for side in (0, 1))
    won = [float(each > 0) for each in old], [float(each > 0) for each in new]
    return [
        *row("lead of preferred replies, nats a token", old, new, by, "higher", gate),
        *row("preferred reply is the likelier one", *won, by, "higher", gate),
    ]


def _reply_rows(before: Measurements, after: Measurements, gate: Gate) -> list[Interval]:
    replies = pairs.replies(before, after)
    by = [old.conversation for old, _ in replies]
    rows: list[Interval] = []
    for name, fault in (("refusals", refusal), ("replies that loop", looping), ("empty replies", empty)):
        old, new = ([float(fault(pair[side].text)) for pair in replies] for side in (0, 1))
        rows += row(name, old, new, by, "lower", gate)
    old, new = ([float(len(pair[side].text)) for pair in replies] for side in (0, 1))
    return [*rows, *row("characters of a reply", old, new, by, "same", gate)]


def row(
    name: str, old: Sequence[float], new: Sequence[float], by: Sequence[str], better: Better, gate: Gate
) -> list[Interval]:
    """One row, or none where there is nothing. Each conversation counts the same."""
    if not by:
        return []
    change = pairs.difference(old, new, by, gate)
    was = mean(old, by)
    return [Interval(name, was, was + change.mean, change.mean, *pairs.ends(change), change.n, better)]
