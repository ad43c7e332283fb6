"""Units -> texts that, with their header, have at most so many tokens.

The cuts of a run are chosen together: of all ways to cut, the one with the least sum of what its chunks cost, found by
dynamic programming, as TeX breaks a paragraph into lines (Knuth and Plass, 1981). A chunk costs 1, the square of the
share of it that stays empty, and the strain of the cut before it. So chunks are few, evenly filled (no orphan of three
words at the end), and cut where it hurts least.

Tokens of parts are added up for this, which is a good estimate of the tokens of the whole, but no bound. So each text
is counted as it will be embedded, and what is over the limit is cut again with less room.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, zip_longest

from knowledge.splitting.counting import Tokens, least
from knowledge.splitting.finer import finer
from knowledge.splitting.units import Unit

_FINEST = 24  # units a chunk that the cuts are chosen among; smaller neighbours are joined before, to stay linear


@dataclass(frozen=True, slots=True)
class Run:
    """What may share chunks: neighbours under one heading."""

    heading: str
    header: str  # as it is embedded
    room: int  # tokens that the header leaves
    units: Sequence[Unit]


@dataclass(frozen=True, slots=True)
class Fitted:
    text: str
    heading: str
    page: int | None
    page_end: int | None
    tokens: int


def fitted(runs: Iterable[Run], tokens: Tokens, chunk_tokens: int) -> list[Fitted]:
    """The chunks of all runs, in order."""
    done: dict[tuple[int, ...], Fitted] = {}
    open_runs: dict[tuple[int, ...], Run] = {(number,): run for number, run in enumerate(runs)}
    while open_runs:
        cut = _all_cut(open_runs, tokens)
        counts = tokens.exactly([run.header + text for run, _, text in cut.values()])
        open_runs = {}
        for (key, (run, units, text)), count in zip(cut.items(), counts, strict=True):
            weight = max(count, least(text))
            if weight <= chunk_tokens or len(text) == 1:
                done[key] = _fitted(run, units, text, count)
            else:
                room = max(1, min(run.room - 1, run.room * chunk_tokens // (weight + 1)))
                open_runs[key] = replace(run, room=room, units=units)
    return [done[key] for key in sorted(done)]


def _fitted(run: Run, units: Sequence[Unit], text: str, count: int) -> Fitted:
    pages = [unit.page for unit in units if unit.page is not None]
    return Fitted(text, run.heading, min(pages, default=None), max(pages, default=None), count)


def _all_cut(runs: dict[tuple[int, ...], Run], tokens: Tokens) -> dict[tuple[int, ...], tuple[Run, list[Unit], str]]:
    """Every chunk of every run, by the run's key and its number in the run; texts of nothing but space are left out."""
    fine = _cut_what_is_too_long(runs, tokens)
    cut: dict[tuple[int, ...], tuple[Run, list[Unit], str]] = {}
    for key, units in fine.items():
        units = _joined(units, tokens, runs[key].room // _FINEST)
        for number, (begin, end) in enumerate(pairwise(_cuts(units, tokens, runs[key].room))):
            if text := _text(units[begin:end], tokens, runs[key].room):
                cut[(*key, number)] = (runs[key], units[begin:end], text)
    return cut


def _text(units: Sequence[Unit], tokens: Tokens, room: int) -> str:
    repeated = units[0].repeat if _lead(units[0], tokens, room) else ""
    text = repeated + units[0].text + "".join(unit.glue + unit.text for unit in units[1:])
    return text.lstrip("\n").rstrip() if text.strip() else ""


def _lead(unit: Unit, tokens: Tokens, room: int) -> int:
    """The weight of what is repeated before a unit; nothing is when it would take more than a third of the chunk."""
    weight = tokens.weight(unit.repeat) if unit.repeat else 0
    return weight if weight <= room // 3 else 0


def _cut_what_is_too_long(runs: dict[tuple[int, ...], Run], tokens: Tokens) -> dict[tuple[int, ...], list[Unit]]:
    units = {key: list(run.units) for key, run in runs.items()}
    unsettled = set(units)
    while unsettled:
        tokens.learn(text for key in unsettled for unit in units[key] for text in (unit.text, unit.repeat))
        settled = set()
        for key in unsettled:
            finer_units = _halved(units[key], tokens, runs[key].room)
            if len(finer_units) == len(units[key]):
                settled.add(key)
            units[key] = finer_units
        unsettled -= settled
    return units


def _halved(units: Sequence[Unit], tokens: Tokens, room: int) -> list[Unit]:
    """The units that fit, and those that do not in spans of about half the room; as many as before: all fit."""
    result: list[Unit] = []
    for unit in units:
        weight, allowed = tokens.weight(unit.text), room - _lead(unit, tokens, room)
        if weight <= allowed or len(unit.text) == 1:
            result.append(unit)
            continue
        size = max(1, min(len(unit.text) - 1, len(unit.text) * allowed // (2 * weight)))
        spans = finer(unit.text, size)
        result.append(replace(unit, text=spans[0][0]))
        result += [Unit(text, strain, page=unit.page) for text, strain in spans[1:]]
    return result


def _joined(units: list[Unit], tokens: Tokens, tiny: int) -> list[Unit]:
    """Neighbours of one chunk's tiny fraction become one where there are many; not over the better of two cuts."""
    total = sum(tokens.weight(unit.text) for unit in units)
    if total >= tiny * len(units):
        return units
    result: list[Unit] = []
    parts: list[str] = []
    weight = 0
    for unit, following in zip_longest(units, units[1:]):
        more = tokens.weight(unit.text) + len(unit.glue)
        better = following is not None and unit.strain < following.strain
        if parts and weight + more <= tiny and unit.page == result[-1].page and not better:
            parts.append(unit.glue + unit.text)
            weight += more
            continue
        if parts:
            result[-1] = replace(result[-1], text="".join(parts))
        result.append(unit)
        parts, weight = [unit.text], more
    result[-1] = replace(result[-1], text="".join(parts))
    tokens.learn(unit.text for unit in result)
    return result


def _cuts(units: Sequence[Unit], tokens: Tokens, room: int) -> list[int]:
    """Where the chunks begin, and the end of the last: [0, ..., len(units)]."""
    sums = [0]
    for unit in units:
        sums.append(sums[-1] + max(1, tokens.weight(unit.text)) + bool(unit.glue))
    leads = [_lead(unit, tokens, room) for unit in units]
    best, came_from = [0.0], [0]
    for end in range(1, len(units) + 1):
        least_cost, least_begin = float("inf"), end - 1
        for begin in range(end - 1, -1, -1):
            weight = sums[end] - sums[begin]
            if weight > room and begin < end - 1:
                break
            weight += leads[begin]
            empty = (room - weight) / room
            if empty < 0 and begin < end - 1:
                continue
            cost = best[begin] + 1 + empty * empty + (units[begin].strain if begin else 0)
            if cost < least_cost:
                least_cost, least_begin = cost, begin
        best.append(least_cost)
        came_from.append(least_begin)
    cuts = [len(units)]
    while cuts[-1] > 0:
        cuts.append(came_from[cuts[-1]])
    return cuts[::-1]
