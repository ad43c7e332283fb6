"""What people would say of the replies before and after, as far as their earlier ratings foretell it.

A head that learns from the run's ratings, none of them of a conversation that the replies belong to, gives each reply
the probability of being rated up. It is a number to look at and no rule of the gate: a model that is chosen by what
foretells ratings learns to please that (Gao et al., "Scaling Laws for Reward Model Overoptimization", 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from finetune import dataset, pairs, quality
from finetune.comparison import row
from finetune.errors import DataRefused
from finetune.examples import Judged, Source
from finetune.measurements import Measurements, Reply
from finetune.record import Interval
from knowledge.embedding import bundled
from knowledge.errors import EmbeddingsFailed
from settings import Settings

NEWEST = 500  # ratings that are learnt from: half a minute of one core


@dataclass(frozen=True)
class Foretold:
    rows: tuple[Interval, ...] = ()
    notes: tuple[str, ...] = ()


def foretold(folder: Path, before: Measurements, after: Measurements, settings: Settings) -> Foretold:
    """Of the run in `folder`; nothing where there are too few ratings or no replies. Blocks."""
    try:
        judged = dataset.load(folder).judged
        replies = pairs.replies(before, after)
        newest = sorted(judged, key=_when, reverse=True)[:NEWEST]
        if not replies or not quality.are_enough(newest):
            return Foretold()
        embedder = bundled.open_bundled(settings)
        try:
            return _foretold(newest, replies, embedder.embed_passages, settings)
        finally:
            embedder.close()
    except (DataRefused, EmbeddingsFailed) as error:
        return Foretold(notes=(f"What people would say of the replies was not foretold: {error}",))


def _foretold(
    judged: Sequence[Judged], replies: Sequence[tuple[Reply, Reply]], embed: quality.Embed, settings: Settings
) -> Foretold:
    scores = quality.evaluated(judged, embed)
    if not scores.better_than_a_guess:
        return Foretold(notes=(f"From their text, ratings cannot be foretold better than by a guess. {scores.said()}",))
    head = quality.learn(judged, embed)
    old, new = (
        head.probability(quality.features([_unrated(pair[side]) for pair in replies], embed)).tolist()
        for side in (0, 1)
    )
    by = [each.conversation for each, _ in replies]
    rows = row("predicted quality of replies", old, new, by, "higher", settings.gate)
    return Foretold(tuple(rows), (f"The predicted quality of replies is as sure as this: {scores.said()}",))


def _unrated(reply: Reply) -> Judged:
    return Judged(({"role": "user", "content": reply.question},), reply.text, False, Source(reply.conversation))


def _when(judged: Judged) -> datetime:
    return judged.source.at or datetime.min.replace(tzinfo=UTC)
