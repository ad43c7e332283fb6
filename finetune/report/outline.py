"""What stands in a report, as rows of a name and what is said of it; as far as the run has come."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from finetune.record import DataCounts, Interval, Record, Training
from finetune.report import words

Rows = list[tuple[str, str]]


@dataclass(frozen=True)
class Figure:
    """One of the numbers that somebody asks for first."""

    name: str
    said: str
    more: str = ""


def glance(record: Record) -> list[Figure]:
    figures: list[Figure] = []
    gain = next((each for each in record.decision.checks if each.name == "gain"), None) if record.decision else None
    if gain is not None and gain.value is not None:
        interval = f", {words.between(gain.low, gain.high, signed=False)}" if gain.low is not None else ""
        figures.append(Figure("Held-out loss fell by", words.number(gain.value), f"nats a token{interval}"))
    if gain is not None:
        figures.append(Figure("Judged on", words.count(gain.n), "held-out conversations"))
    general = next((each for each in record.table if each.name == "perplexity, general text"), None)
    if general is not None:
        said = f"{words.number(general.before)} → {words.number(general.after)}"
        figures.append(Figure("General perplexity", said, "lower is better"))
    if record.data is not None and record.data.sides:
        learnt = record.data.sides.get("train", 0) + record.data.replayed + record.data.general
        figures.append(Figure("Learnt from" if record.training else "To learn from", words.count(learnt), "examples"))
    if record.seconds:
        joules = record.training.energy_j if record.training is not None else None
        spent = "" if joules is None else f"training took {words.energy(joules)}"
        figures.append(Figure("Time", words.duration(sum(record.seconds.values())), spent))
    return figures


def about(record: Record) -> Rows:
    rows = [
        ("Adapter", f"{record.name}@{record.version}" if record.version is not None else record.name),
        ("Compared with", record.before),
        ("Begun", f"{moment(record.started_at)}, {record.trigger}"),
    ]
    if record.finished_at is not None:
        rows.append(("Over", moment(record.finished_at)))
    return rows


def examples(data: DataCounts) -> Rows:
    """Where what is learnt comes from."""
    rows = _counts(data.examples, words.WHY)
    more = (
        ("pairs of a better and a worse reply", data.preferences),
        ("rated replies", data.judged),
        ("replayed from earlier runs", data.replayed),
        ("the base model's own replies to everyday questions", data.general),
    )
    return rows + [(name, words.count(many)) for name, many in more if many]


def sides(data: DataCounts) -> list[tuple[str, str, str]]:
    """Part, examples, conversations."""
    names = dict.fromkeys([*words.SIDES, *data.sides, *data.conversations])
    return [
        (words.plain(name, words.SIDES), words.count(data.sides.get(name, 0)), words.count(data.conversations[name]))
        for name in names
        if name in data.conversations
    ]


def consent(data: DataCounts) -> Rows:
    return _counts(data.consent, words.CONSENT)


def redactions(data: DataCounts) -> Rows:
    return _counts(data.redactions, words.REDACTED)


def left_out(data: DataCounts) -> Rows:
    return _counts(data.left_out, words.LEFT_OUT)


def source(data: DataCounts) -> str:
    """One sentence: whose data it was."""
    came = "The examples come from the log" if data.source == "log" else f"The examples come from {data.source}"
    people = f", from conversations of {_people(data.people)}" if data.people else ""
    forgotten = ""
    if data.forgotten:
        many = words.counted(data.forgotten, "conversation")
        forgotten = f" {many} that earlier adapters learned from {_are(data.forgotten)} not learnt from any more."
    return f"{came}{people}.{forgotten}"


def cost(record: Record) -> Rows:
    rows = [(words.plain(stage, words.STAGES), words.duration(spent)) for stage, spent in record.seconds.items()]
    if len(rows) > 1:
        rows.append(("altogether", words.duration(sum(record.seconds.values()))))
    training = record.training
    if training is None:
        return rows
    speed = f" ({words.number(training.tokens_per_s)} a second)" if training.tokens_per_s else ""
    rows.append(("tokens trained on", f"{words.count(training.tokens)}{speed}"))
    if training.peak_mb:
        rows.append(("peak memory of training", f"{training.peak_mb / 1024:.1f} GiB"))
    rows.append(("energy of training", words.energy(training.energy_j)))
    return rows


def trained(training: Training) -> Rows:
    """How it was trained, before the settings themselves."""
    rows = [("method", training.method), ("base model", training.base)]
    if training.continued_from:
        rows.append(("continued from", training.continued_from))
    if training.trainable:
        share = f" ({training.trainable / training.parameters:.2%} of the model)" if training.parameters else ""
        rows.append(("trainable parameters", f"{words.count(training.trainable)}{share}"))
    steps = f"{words.count(training.steps)}, best after {words.count(training.best_step)}"
    rows.append(("steps", steps + (", stopped early" if training.stopped_early else "")))
    if training.epochs:
        rows.append(("epochs", f"{training.epochs:g}"))
    if training.device or training.dtype:
        rows.append(("on", " in ".join(each for each in (training.device, training.dtype) if each)))
    if training.resumed:
        rows.append(("went on after it was ended", f"{training.resumed}×"))
    return rows


def settings(training: Training) -> Rows:
    return [(f"finetune.{name}", _setting(value)) for name, value in sorted(training.settings.items())]


def groups(rows: tuple[Interval, ...]) -> list[tuple[str, list[Interval]]]:
    """The rows of the table by what they are counted in, in their order: each group has one scale."""
    found: dict[str, list[Interval]] = {}
    for row in rows:
        found.setdefault(_group(row.name), []).append(row)
    return list(found.items())


def moment(at: datetime) -> str:
    zone = at.tzname() or ""
    return f"{at:%Y-%m-%d %H:%M} {zone}".strip()


def _group(name: str) -> str:
    if name.startswith("perplexity"):
        return "Perplexity"
    return {
        "nats": "Nats a token",
        "share": "Shares, in percentage points",
        "characters": "Characters",
        "number": "Other numbers",
    }[words.unit(name)]


def _counts(counts: Mapping[str, int], names: dict[str, str]) -> Rows:
    """The most first."""
    return [
        (words.plain(name, names), words.count(many))
        for name, many in sorted(counts.items(), key=lambda each: (-each[1], each[0]))
        if many
    ]


def _setting(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}" if math.isfinite(value) else words.number(value)
    return '""' if value == "" else str(value)


def _people(many: int) -> str:
    return "1 person" if many == 1 else f"{many:,} people"


def _are(many: int) -> str:
    return "is" if many == 1 else "are"
