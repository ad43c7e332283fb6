"""Whose adapters are to be learnt: one of everybody's, or (learning.apart) one of private chats and one of each group.

A group's adapter learns from what was said there and nothing else, and answers there and nowhere else. Until a group
has one, what is in force for everybody answers there.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from engine.adapters import DEFAULT, apart_name
from finetune.collect import collect
from finetune.run import under_way
from settings import Settings
from store import places, runs
from store.session import Store

PRIVATE = "private"  # as an operator calls the place where nobody else is
NO_MORE = "It was cut short, and groups have no adapters of their own any more (learning.apart)."


@dataclass(frozen=True)
class Target:
    """An adapter that a run can make."""

    name: str
    place: str  # "" of everybody or of private chats, else a group, as "channel:id"
    title: str  # for a person
    examples: int  # in the log, before anything is cleaned away


def of(place: str) -> Target:
    """The one that an operator names, as "private" or "channel:id"; its examples are not counted."""
    if place in ("", PRIVATE):
        return Target(DEFAULT, "", "Private chats", 0)
    return Target(apart_name(place), place.partition("/")[0], place, 0)


def targets(settings: Settings, store: Store) -> tuple[tuple[Target, ...], tuple[Target, ...]]:
    """Those to be learnt now, and the groups that have too few examples. Blocks. Raises StoreError.

    The first is learnt in any case: it says what is missing. A run that was cut short goes on though its group has too
    few by now, or nothing would ever end it.
    """
    cut_short = {run.place for run in runs.unfinished(store) if run.place}
    if settings.learning.apart == "off":
        if not under_way(settings):
            _end(store)
        return (Target(DEFAULT, "", "Everybody", 0),), ()
    counts = Counter(each.source.place for each in collect(store, settings.learning).examples)
    titles = {f"{each.channel}:{each.external_id}": each.title for each in places.listing(store)}
    groups = [
        Target(apart_name(place), place, _title(place, titles.get(place, "")), counts[place])
        for place in sorted({*titles, *counts, *cut_short} - {""})
    ]
    least = settings.finetune.min_new_examples
    enough = [each for each in groups if each.examples >= least or each.place in cut_short]
    private = Target(DEFAULT, "", "Private chats", counts[""])
    return (private, *enough), tuple(each for each in groups if each not in enough)


def _title(place: str, title: str) -> str:
    return f"{title} ({place})" if title else place


def _end(store: Store) -> None:
    for run in runs.unfinished(store):
        if run.place and run.id is not None:
            runs.end(store, run.id, "failed", NO_MORE)
