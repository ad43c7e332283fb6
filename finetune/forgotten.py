"""What is forgotten leaves the runs' folders, too: examples, sample replies, what was measured on them, and the report.

A conversation is gone when it is no longer in the log, or when words of somebody forgotten were taken out of it after
the run had begun. Numbers stay: a loss or a message's id says nothing about anybody.

A run that was cut short before it had learned begins anew where it lost something; one that goes on at this moment is
left alone until it is over. What a failed run would need to be resumed goes after a week.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from finetune import files, folders
from finetune.errors import DataRefused
from finetune.record import Record
from settings import Settings
from store import runs
from store.session import Store
from store.tables import Run, now

FROM_THE_LOG = re.compile(r"log:(\d+)")
MEASURED = ("before.json", "after.json")
OTHER_TEXTS = ("preferences.jsonl", "judged.jsonl")
RESUMABLE_FOR = timedelta(days=7)

Render = Callable[[Record, Path], None]

log = logging.getLogger("familiar.finetune")


def erase(settings: Settings, store: Store, render: Render, *, cut_short: bool = False) -> int:
    """Take what is forgotten out of every run's folder. Returns in how many there was something.

    `render` writes a report anew. `cut_short`: no run goes on, so that those that are not over were cut short. Blocks.
    Raises OSError, StoreError.
    """
    touched = 0
    by_number = {run.id: run for run in (*runs.ended(store), *runs.unfinished(store))}
    for number, folder in folders.everyone(settings):
        run = by_number.get(number)
        if run is None or (run.state != "ended" and not cut_short):
            continue
        with suppress(DataRefused):  # what cannot be read is shown to nobody, and goes with its folder
            touched += _erase_from(store, run, folder, render)
        if run.finished_at is not None and now() - run.finished_at > RESUMABLE_FOR:
            folders.clear_texts(folder)
            folders.clear_passing(folder)
    return touched


def _erase_from(store: Store, run: Run, folder: Path, render: Render) -> bool:
    held = set(_held(folder))
    gone = {f"log:{each}" for each in runs.gone(store, held, run.started_at)} if held else set()
    if not gone:
        return False
    log.info("run %s: what is forgotten is taken out (%s conversations)", run.id, len(gone))
    record = folders.load(folder)
    if run.state != "ended" and (record is None or "training" not in record.seconds):
        shutil.rmtree(folder)
        folder.mkdir(mode=0o700)
        return True
    for file in _texts(folder):
        files.write_lines(file, [row for row in files.read_lines(file) if _conversation(row) not in gone])
    for name in MEASURED:
        if (folder / name).exists():
            files.write_json(folder / name, _without(files.read_json(folder / name), gone))
    if record is not None:
        kept = tuple(each for each in record.samples if each.conversation not in gone)
        folders.save(folder, replace(record, samples=kept))
        _render_again(folder, render)
    return True


def _render_again(folder: Path, render: Render) -> None:
    """The report is made of the record alone."""
    if not (folder / folders.REPORT).exists():
        return
    record = folders.load(folder)
    (folder / folders.REPORT).unlink()  # first: rather none than one that says too much
    if record is None:
        return
    try:
        render(record, folder)
    except Exception:
        log.exception("%s could not be written anew, and is gone", folder / folders.REPORT)


def _held(folder: Path) -> Iterator[int]:
    """The log's conversations of which the folder holds words."""
    record = folders.load(folder)
    names: list[str] = [each.conversation for each in record.samples] if record is not None else []
    for file in _texts(folder):
        names += [_conversation(row) for row in files.read_lines(file)]
    for name in MEASURED:
        if (folder / name).exists():
            names += _conversations_in(files.read_json(folder / name))
    for each in names:
        if (found := FROM_THE_LOG.fullmatch(each)) is not None:
            yield int(found[1])


def _texts(folder: Path) -> list[Path]:
    inside = [*(folder / "data").glob("*.jsonl"), *(folder / "rounds").glob("*.jsonl")]
    return [*inside, *(folder / name for name in OTHER_TEXTS if (folder / name).exists())]


def _conversation(row: Any) -> str:
    try:
        return str(row["source"]["conversation"])
    except (KeyError, TypeError):
        return ""


def _conversations_in(measured: Any) -> Iterable[str]:
    """Of everything with a conversation and words, at any depth; a loss is a number and has no words."""
    if isinstance(measured, dict):
        if "conversation" in measured and "question" in measured:
            yield str(measured["conversation"])
        for each in measured.values():
            yield from _conversations_in(each)
    elif isinstance(measured, list):
        for each in measured:
            yield from _conversations_in(each)


def _without(measured: Any, gone: set[str]) -> Any:
    if isinstance(measured, dict):
        return {key: _without(each, gone) for key, each in measured.items()}
    if isinstance(measured, list):
        return [_without(each, gone) for each in measured if not _is_of(each, gone)]
    return measured


def _is_of(item: Any, gone: set[str]) -> bool:
    return isinstance(item, dict) and "question" in item and item.get("conversation") in gone
