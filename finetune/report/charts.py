"""Curves and intervals as SVG, drawn here: a report must not need a script, a font or another file.

Each picture is made twice, for a wide page and for a phone's, so that letters keep their size. Colours come from the
page's style by class. Numbers that are not finite leave a gap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup, escape

from finetune.record import Interval, Training
from finetune.report import words

Width = Literal["wide", "narrow"]
At = tuple[float, float]

_SIZES: dict[Width, tuple[int, int]] = {"wide": (720, 320), "narrow": (320, 280)}
_LEFT, _RIGHT, _BOTTOM = 52, 14, 46
_ROW = 18  # of what stands above the curves
_MOST_POINTS = 400  # of a line; more are not to be told apart


@dataclass(frozen=True)
class Curve:
    name: str  # the style's class
    title: str
    points: tuple[At, ...]  # step, loss


def curves(training: Training) -> tuple[Curve, ...]:
    """Those that have a number to show."""
    train = tuple((float(each.step), each.train) for each in training.curve if each.train is not None)
    validation = tuple((float(each.step), each.validation) for each in training.curve if each.validation is not None)
    both = Curve("train", "training", train), Curve("validation", "validation", validation)
    return tuple(each for each in both if _finite(each.points))


def loss_curves(training: Training, width: Width) -> Markup:
    """The loss by step, with where the best was and where it stopped; empty where no loss is a number."""
    lines = curves(training)
    if not lines:
        return Markup("")
    full, high = _SIZES[width]
    points = [point for line in lines for point in _finite(line.points)]
    last = max(training.steps, training.best_step, *(round(x) for x, _ in points), 1)
    ticks_y = _ticks(min(y for _, y in points), max(y for _, y in points), 5)
    ticks_x = [each for each in _ticks(0, last, 6 if width == "wide" else 4) if each <= last and each == round(each)]
    low_y, high_y = ticks_y[0], ticks_y[-1]
    legend_row = 1 if width == "wide" else 2
    top = _ROW * (legend_row + 1) + 6
    inner_w, inner_h = full - _LEFT - _RIGHT, high - top - _BOTTOM

    def at(point: At) -> At:
        x, y = point
        return _LEFT + inner_w * x / last, top + inner_h * (high_y - y) / (high_y - low_y)

    said = _described(training, lines)
    parts = [
        Markup('<svg class="chart {}" viewBox="0 0 {} {}" role="img" aria-labelledby="t-{} d-{}">').format(
            width, full, high, width, width
        )
    ]
    parts.append(Markup('<title id="t-{}">Loss by step</title><desc id="d-{}">{}</desc>').format(width, width, said))
    for y in ticks_y:
        _, there = at((0, y))
        parts.append(_line("grid", (_LEFT, there), (full - _RIGHT, there)))
        parts.append(_text(_LEFT - 6, there + 4, _tick(y, ticks_y), "end"))
    for x in ticks_x:
        there, _ = at((x, low_y))
        parts.append(_line("tick", (there, high - _BOTTOM), (there, high - _BOTTOM + 4)))
        parts.append(_text(there, high - _BOTTOM + 18, f"{x:,.0f}", "middle"))
    parts.append(_line("axis", (_LEFT, high - _BOTTOM), (full - _RIGHT, high - _BOTTOM)))
    parts.append(_text(_LEFT + inner_w / 2, high - 8, "step", "middle"))
    parts.append(_text(4, 16, "loss (nats a token)", "start"))
    parts += _legend(lines, full - _RIGHT, _ROW * legend_row - 2)
    if training.best_step and any(line.name == "validation" for line in lines):
        x, _ = at((training.best_step, low_y))
        parts += _best(training, x, (top, high - _BOTTOM), full)
    for line in lines:
        parts += _drawn(line, at)
    parts.append(Markup("</svg>"))
    return Markup("").join(parts)


def _described(training: Training, lines: Sequence[Curve]) -> str:
    said = []
    for line in lines:
        there = _finite(line.points)
        said.append(f"{line.title} loss from {words.number(there[0][1])} to {words.number(there[-1][1])}")
    ends = f"best at step {training.best_step}" if training.best_step else ""
    stopped = f"stopped early at step {training.steps}" if training.stopped_early else ""
    return "; ".join(part for part in (*said, ends, stopped) if part) + "."


def _legend(lines: Sequence[Curve], x: float, y: float) -> list[Markup]:
    """The names beside a piece of their lines, as far to the right as `x`."""
    parts = []
    for line in reversed(lines):
        x -= 6.6 * len(line.title) + 4
        parts.append(_text(x, y, line.title, "start"))
        parts.append(_line(f"line {line.name}", (x - 26, y - 4), (x - 6, y - 4)))
        parts.append(_dot(line.name, (x - 16, y - 4)))
        x -= 38
    return parts


def _best(training: Training, x: float, between: tuple[float, float], full: int) -> list[Markup]:
    """A mark at the step whose weights were kept, with its name above it."""
    said = f"best: step {training.best_step:,}" + (", then stopped early" if training.stopped_early else "")
    half = 3.2 * len(said) + 4
    top, bottom = between
    there = min(max(x, half), full - half)
    return [_line("best", (x, top), (x, bottom)), _text(there, top - 6, said, "middle", "mark")]


def _drawn(line: Curve, at: Callable[[At], At]) -> list[Markup]:
    """A line broken where a loss is no number; dots where there are few."""
    parts = []
    for piece in _pieces(_thinned(line.points)):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(at, piece))
        parts.append(Markup('<polyline class="line {}" points="{}"/>').format(line.name, path))
        if len(line.points) <= 60 or len(piece) == 1:
            parts += [_dot(line.name, at(point)) for point in piece]
    return parts


# Intervals


_BAR = (160, 24)


def interval(row: Interval, reach: float) -> Markup:
    """A difference with its interval around the line of no change; `reach` is what the ends of the picture stand for.

    Empty where a number is missing.
    """
    ends = (row.low, row.difference, row.high)
    if row.low is None or row.high is None or not all(each is not None and math.isfinite(each) for each in ends):
        return Markup("")
    wide, high = _BAR
    of = words.unit(row.name)
    said = f"{words.number(row.difference, of, signed=True)} ({words.between(row.low, row.high, of)})"

    def x(value: float) -> float:
        return wide / 2 + (wide / 2 - 6) * max(-1.0, min(1.0, value / reach))

    middle = high / 2
    kind = words.moved(row)
    return Markup("").join(
        [
            Markup('<svg class="forest {}" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
                kind, wide, high, said
            ),
            _line("zero", (wide / 2, 0), (wide / 2, high)),
            _line("whisker", (x(row.low), middle), (x(row.high), middle)),
            _line("whisker", (x(row.low), middle - 4), (x(row.low), middle + 4)),
            _line("whisker", (x(row.high), middle - 4), (x(row.high), middle + 4)),
            Markup('<rect class="point" x="{:.1f}" y="{:.1f}" width="8" height="8"/>').format(
                x(row.difference) - 4, middle - 4
            ),
            Markup("</svg>"),
        ]
    )


def reach(rows: Iterable[Interval]) -> float:
    """How far from no change rows of one unit go: they share a scale."""
    ends = [abs(end) for row in rows for end in (row.low, row.high, row.difference) if end is not None]
    return max((end for end in ends if math.isfinite(end)), default=0.0) or 1.0


# What they are drawn with


def _finite(points: Iterable[At]) -> list[At]:
    return [point for point in points if _is_a_loss(point[1])]


def _is_a_loss(y: float) -> bool:
    """What no picture could show is left out with what is no number at all."""
    return abs(y) < 1e6  # also False for NaN


def _pieces(points: Iterable[At]) -> list[list[At]]:
    pieces: list[list[At]] = [[]]
    for point in points:
        if _is_a_loss(point[1]):
            pieces[-1].append(point)
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _thinned(points: Sequence[At]) -> Sequence[At]:
    """Of too many points every so manyth, and the last."""
    step = math.ceil(len(points) / _MOST_POINTS)
    return points if step <= 1 else [*points[:-1:step], points[-1]]


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers from just below `low` to just above `high`."""
    span = high - low or abs(high) or 1.0
    rough = span / most
    size = 10 ** math.floor(math.log10(rough))
    step = next(size * each for each in (1, 2, 5, 10) if size * each >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [each * step for each in range(first, max(last, first + 1) + 1)]


def _tick(value: float, ticks: Sequence[float]) -> str:
    step = ticks[1] - ticks[0]
    if max(abs(ticks[0]), abs(ticks[-1])) >= 1e5:
        return f"{value:.1e}"
    return f"{value:,.{max(0, -math.floor(math.log10(step)))}f}"


def _line(name: str, start: At, end: At) -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(name, *start, *end)


def _dot(name: str, at: At) -> Markup:
    return Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="3"/>').format(name, *at)


def _text(x: float, y: float, said: str, anchor: str, name: str = "") -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        name, x, y, anchor, escape(said)
    )
