"""The report in the terminal: the verdict, the checks, what changed, and what it cost; as wide as the window.

Words of conversations are shown as text: nothing in them moves the cursor or is read as rich's markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from finetune.record import Check, Interval, Record, Sample
from finetune.report import outline, unlearning, words

_NOT_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SAMPLES = 3
_LONGEST = 400  # characters of a sample
_COLUMNS = 60  # of a curve
_HEIGHTS = "▁▂▃▄▅▆▇█"
_STYLES = {
    "promoted": "green", "rejected": "red", "failed": "red", "not_proven": "yellow", "nothing_to_learn": "yellow",
    True: "green", False: "red", None: "yellow",
    "better": "green", "worse": "red", "unclear": "dim", "changed": "yellow", "": "dim",
}  # fmt: skip


def text(record: Record) -> RenderableType:
    """The whole report, but for samples after the first few and the settings, which the file has."""
    parts: list[RenderableType] = [
        Text.assemble(
            (words.verdict(record), f"bold {_STYLES.get(record.verdict, 'bold')}"),
            ": ",
            (_clean(words.headline(record)), "bold"),
        )
    ]
    if record.said:
        parts.append(Text(_clean(record.said)))
    if record.decision is not None and record.decision.overridden:
        said = f"An operator promoted it all the same: {_clean(record.decision.overridden)}"
        parts.append(Text(said, style="yellow"))
    parts += [Text(f"• {_clean(note)}", style="yellow") for note in record.notes]
    if record.decision is not None and record.decision.checks:
        parts += ["", _checks(record.decision.checks)]
    if record.table:
        parts += ["", _intervals(record)]
    if record.unlearned is not None:
        parts += ["", Text(_clean(unlearning.said(record)))]
    parts += _learning(record)
    if record.data is not None:
        parts += ["", _data(record)]
    if cost := outline.cost(record):
        parts += ["", _listed("Time and energy", cost)]
    for sample in record.samples[:_SAMPLES]:
        parts += ["", *_sample(sample, record.before)]
    return Group(*parts)


def _checks(checks: Iterable[Check]) -> Table:
    table = _table("The gate")
    for name in ("rule", "result", "what was measured"):
        table.add_column(name, overflow="fold")
    for check in checks:
        result = Text(words.result(check), style=_STYLES[check.passed])
        table.add_row(Text(_clean(words.plain(check.name, words.CHECKS))), result, Text(_clean(check.said)))
    return table


def _intervals(record: Record) -> Table:
    table = _table(f"Before ({record.before}) and after")
    table.add_column("measured", overflow="fold", ratio=1)
    for name in ("before", "after", "difference", "interval"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("", overflow="fold")
    for row in record.table:
        table.add_row(*_interval(row))
    return table


def _interval(row: Interval) -> Sequence[Text]:
    of, moved = words.unit(row.name), words.moved(row)
    return (
        Text(_clean(row.name)),
        Text(words.number(row.before, of)),
        Text(words.number(row.after, of)),
        Text(words.number(row.difference, of, signed=True)),
        Text(words.between(row.low, row.high, of)),
        Text(words.MOVED[moved], style=_STYLES[moved]),
    )


def _learning(record: Record) -> list[RenderableType]:
    training = record.training
    if training is None:
        return []
    rows = outline.trained(training)
    for name in ("train", "validation"):
        losses = [getattr(each, name) for each in training.curve]
        there = [each for each in losses if each is not None and abs(each) < 1e6]
        if there:
            ends = f"{words.number(there[0])} → {words.number(there[-1])}"
            rows.append((f"loss, {'training' if name == 'train' else name}", f"{_curve(there)}  {ends}"))
    return ["", _listed("Learning", rows)]


def _curve(losses: Sequence[float]) -> str:
    step = max(1, -(-len(losses) // _COLUMNS))
    shown = losses[::step]
    low, high = min(shown), max(shown)
    reach = (high - low) or 1.0
    return "".join(_HEIGHTS[round((each - low) / reach * (len(_HEIGHTS) - 1))] for each in shown)


def _data(record: Record) -> RenderableType:
    data = record.data
    assert data is not None, "asked for only where there is some"
    rows = [
        (name, f"{examples} examples of {conversations} conversations")
        for name, examples, conversations in outline.sides(data)
    ]
    for title, listed in (
        ("why", outline.examples(data)),
        ("consent", outline.consent(data)),
        ("replaced", outline.redactions(data)),
        ("left out", outline.left_out(data)),
    ):
        if listed:
            rows.append((title, ", ".join(f"{many} {name}" for name, many in listed)))
    return Group(_listed("The data", rows), Text(_clean(outline.source(data)), style="dim"))


def _sample(sample: Sample, before: str) -> list[RenderableType]:
    said = [Text.assemble(("Asked: ", "bold"), _short(sample.question))]
    for name, reply in ((f"before ({before})", sample.before), ("after", sample.after), ("right", sample.reference)):
        if reply.strip() or name != "right":
            said.append(Text.assemble((f"{_clean(name)}: ", "dim"), _short(reply) or "(nothing)"))
    return [said[0], *(Padding(each, (0, 0, 0, 2)) for each in said[1:])]


def _listed(title: str, rows: Iterable[tuple[str, str]]) -> Table:
    table = Table(title=title, title_style="bold", title_justify="left", box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", overflow="fold")
    table.add_column(overflow="fold")
    for name, said in rows:
        table.add_row(Text(_clean(name)), Text(_clean(said)))
    return table


def _table(title: str) -> Table:
    """`title` may hold an adapter's name, so it is no markup."""
    return Table(
        title=Text(_clean(title), style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1),
    )


def _short(said: str) -> str:
    said = _clean(" ".join(said.split()))
    return said if len(said) <= _LONGEST else f"{said[:_LONGEST].rstrip()}…"


def _clean(said: str) -> str:
    return _NOT_TEXT.sub("\ufffd", said)
