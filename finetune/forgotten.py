"""What is forgotten leaves the runs' folders, too: examples, sample replies, what was measured on them, and the report.

A conversation is gone when it is no longer in the log, or when words of somebody forgotten were taken out of it after
the run had begun. Numbers stay: a loss or a message's id says nothing about anybody.

What is sealed of a forgotten conversation (store.sealed) may be measured by a run, so it stays in data/unlearned.jsonl
for as long as it is sealed, and nowhere else; here is also where that ends.

A run that was cut short before it had learned begins anew where it lost something; one that goes on at this moment is
left alone until it is over. What a failed run would need to be resumed goes after a week, and one that was cut short
and not gone on with for so long is over.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from finetune import files, folders
from finetune.dataset import UNLEARNED
from finetune.errors import DataRefused
from finetune.record import Record
from settings import Settings
from store import runs, sealed
from store.session import Store
from store.tables import Run, now

FROM_THE_LOG = re.compile(r"log:(\d+)")
MEASURED = ("before.json", "after.json")
OTHER_TEXTS = ("preferences.jsonl", "judged.jsonl")
RESUMABLE_FOR = timedelta(days=7)
SAMPLE = re.compile(rb"^Asked: ", re.MULTILINE)  # in what scheduled runs printed once

Render = Callable[[Record, Path], None]

log = logging.getLogger("familiar.finetune")


def erase(settings: Settings, store: Store, render: Render, *, cut_short: bool = False) -> int:
    """Take what is forgotten out of every run's folder. Returns in how many there was something.

    `render` writes a report anew. `cut_short`: no run goes on, so that those that are not over were cut short. Blocks.
    Raises OSError, StoreError.
    """
    touched = 0
    sealed.release(store, settings.learning.sealed_days)
    _clear_log(settings.data.folder / folders.LOG_FILE)
    by_number = {run.id: run for run in runs.ended(store)}
    for number, folder in folders.everyone(settings):
        run = by_number.get(number)
        if run is None:
            continue
        with suppress(DataRefused):  # what cannot be read is shown to nobody, and goes with its folder
            touched += _erase_from(store, run, folder, render)
        if run.finished_at is not None and now() - run.finished_at > RESUMABLE_FOR:
            folders.clear_texts(folder)
            folders.clear_passing(folder)
    return touched + (erase_cut_short(settings, store, render) if cut_short else 0)


def erase_cut_short(settings: Settings, store: Store, render: Render) -> int:
    """Of the runs that are not over only: no run may go on meanwhile. As `erase`."""
    touched = 0
    for run in runs.unfinished(store):
        assert run.id is not None, "a stored row has an id"
        folder = folders.folder_of(settings, run.id)
        if now() - run.updated_at > RESUMABLE_FOR:
            said = f"It was cut short, and nobody went on with it for {RESUMABLE_FOR.days} days."
            runs.end(store, run.id, "failed", said)
            shutil.rmtree(folder, ignore_errors=True)
        elif folder.is_dir():
            with suppress(DataRefused):
                touched += _erase_from(store, run, folder, render)
    return touched


def _clear_log(file: Path) -> None:
    """Earlier versions wrote sample replies there. Emptied, not deleted: a run may be writing to it."""
    if file.is_file() and SAMPLE.search(file.read_bytes()):
        os.truncate(file, 0)
        log.info("%s held sample replies, and was emptied", file)


def _erase_from(store: Store, run: Run, folder: Path, render: Render) -> bool:
    gone = _gone(store, run, _held(folder))
    touched = _erase_measured(store, run, folder)
    if not gone:
        return touched
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


def _gone(store: Store, run: Run, names: Iterable[str]) -> set[str]:
    """Of these conversations, those of the log that are forgotten."""
    held = {int(found[1]) for each in names if (found := FROM_THE_LOG.fullmatch(each)) is not None}
    return {f"log:{each}" for each in runs.gone(store, held, run.started_at)} if held else set()


def _erase_measured(store: Store, run: Run, folder: Path) -> bool:
    """Of what the run is to measure only, so that nothing else of it has to be done again."""
    file = folder / UNLEARNED
    if not file.exists():
        return False
    rows = list(files.read_lines(file))
    gone = _gone(store, run, (_conversation(row) for row in rows))
    gone -= {f"log:{each}" for each in sealed.conversations(store, {int(each.removeprefix("log:")) for each in gone})}
    if gone:
        files.write_lines(file, [row for row in rows if _conversation(row) not in gone])
    return bool(gone)


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


def _held(folder: Path) -> Iterator[str]:
    """The conversations of which the folder holds words, but for what is only measured."""
    record = folders.load(folder)
    yield from (each.conversation for each in record.samples) if record is not None else ()
    for file in _texts(folder):
        yield from (_conversation(row) for row in files.read_lines(file))
    for name in MEASURED:
        if (folder / name).exists():
            yield from _conversations_in(files.read_json(folder / name))


def _texts(folder: Path) -> list[Path]:
    inside = [*(folder / "data").glob("*.jsonl"), *(folder / "rounds").glob("*.jsonl")]
    inside = [each for each in inside if each != folder / UNLEARNED]
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
