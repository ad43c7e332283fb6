"""What `familiar finetune` shows: how far a run is, what came of it, and what is in force."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from cli.running import err, out, short

if TYPE_CHECKING:
    from rich.console import RenderableType

    from finetune.job import Progress
    from finetune.record import Record
    from settings import Settings
    from store.session import Store
    from store.tables import Run


@contextlib.contextmanager
def followed() -> Iterator[Callable[[Progress], None]]:
    """A bar in a terminal, plain lines elsewhere: one a stage, and one every tenth of it."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    screen = err()
    if not screen.is_terminal:
        yield _lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=screen, transient=True) as bars:
        bar = bars.add_task("", total=None)

        def told(progress: Progress) -> None:
            text = f"{progress.stage}{': ' if progress.said else ''}{progress.said}"
            bars.update(bar, description=text, completed=progress.done, total=progress.total or None)

        yield told


def _lines() -> Callable[[Progress], None]:
    shown: dict[str, int] = {}

    def told(progress: Progress) -> None:
        tenth = 10 * progress.done // progress.total if progress.total else 0
        if shown.get(progress.stage, -1) >= tenth:
            return
        shown[progress.stage] = tenth
        count = f" {progress.done}/{progress.total}" if progress.total else ""
        err().print(f"· {progress.stage}{count}{' ' if progress.said else ''}{progress.said}", markup=False)

    return told


def tell(settings: Settings, record: Record, *, quoting: bool) -> None:
    """`quoting`: with what people said, which belongs on an operator's screen and in no log."""
    from finetune import folders

    failed = record.verdict == "failed"
    screen = err() if failed else out()
    if record.data is not None:
        show(record if quoting else replace(record, samples=()))
    else:
        verdict = record.verdict.replace("_", " ")
        screen.print(f"Run {record.number}: {verdict}. {record.said}", markup=False, soft_wrap=True)
        for note in record.notes:
            screen.print(f"• {note}", markup=False, soft_wrap=True)
    if failed and record.can_go_on:
        screen.print(f"`familiar finetune run --resume {record.number}` goes on with it.", markup=False)
    report = folders.folder_of(settings, record.number) / folders.REPORT
    if report.exists():
        screen.print(f"Report: {short(report)}", markup=False, soft_wrap=True)


def show(record: Record) -> None:
    """The report in the terminal."""
    from finetune.report import text

    out().print(text(record))


def listed(rows: list[Run], going: bool) -> RenderableType:
    """A line each, and below it what was said: a column of sentences would be narrow and tall."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    cells = [("run", "adapter", "by", "began", "state")]
    cells += [_cells(row, going and position == 0) for position, row in enumerate(rows)]
    widths = [max(len(each[column]) for each in cells) for column in range(len(cells[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(each, widths, strict=True)).rstrip() for each in cells]
    shown: list[RenderableType] = [Text(lines[0], "dim")]
    for line, row in zip(lines[1:], rows, strict=True):
        shown.append(Text(line))
        if row.said:
            shown.append(Padding(Text(_first_sentence(row.said), "dim"), (0, 0, 0, widths[0] + 2), expand=False))
    return Group(*shown)


def _cells(row: Run, is_going: bool) -> tuple[str, str, str, str, str]:
    state = verdict_of(row) if row.state == "ended" else row.state + ("" if is_going else " (cut short)")
    adapter = row.name if row.version is None else f"{row.name}@{row.version}"
    return str(row.id), adapter, row.trigger, f"{row.started_at.astimezone():%Y-%m-%d %H:%M}", state


def _first_sentence(said: str) -> str:
    """`familiar finetune report` has the others."""
    return re.split(r"(?<=[.!?])\s+(?=[^a-z\d])", said.strip(), maxsplit=1)[0]


def verdict_of(row: Run) -> str:
    return row.verdict.replace("_", " ") if row.verdict else row.state


def in_force(store: Store) -> str:
    from engine.adapters import served_name
    from store import adapters, lineage

    active = [row for row in adapters.all_adapters(store) if row.active]
    names = ", ".join(served_name(row) for row in active) or "the base model"
    concerned = {each.adapter: each.conversations for each in lineage.to_leave_out(store)}
    lines = [f"In force: {names}."]
    for row in active:
        if many := concerned.get(served_name(row)):
            lines.append(f"{served_name(row)} learned from conversations that are forgotten since: {many}.")
    return "\n".join(lines)


def left_in_force(store: Store, name: str, now: str) -> str:
    """After a rollback of `name`, which left `now`; "": no version of it."""
    from engine.adapters import served_name, stands_in

    if now:
        return f"{now} is in force."
    instead = stands_in(store, name)
    if instead is None:
        return "The base model is in force."
    return f"No version of {name} is in force; {served_name(instead)} answers there, as elsewhere."


def last_progress(settings: Settings, number: int | None) -> str:
    import json

    from finetune import folders

    with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
        lines = (folders.folder_of(settings, number or 0) / "progress.jsonl").read_text(encoding="utf-8").splitlines()
        row = json.loads(lines[-1])
        return f"Run {number} is {row['stage']}: {row['done']} of {row['total']}. {row['said']}".strip()
    return ""
