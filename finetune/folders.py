"""The runs' folders: `<data.folder>/finetune/runs/<number>/`, one a run, and what stays of them.

record.json is what a run has gathered so far; a stage is over when its seconds stand in it. When the run ends, texts
and checkpoints go. When it is old, all goes but manifest.json: numbers of messages and hashes, by which later runs know
what was seen.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from finetune import files
from finetune.errors import DataRefused
from finetune.record import Record
from settings import Settings
from store import runs
from store.session import Store

RECORD, MANIFEST, REPORT, DECISION = "record.json", "manifest.json", "report.html", "decision.json"
LOG_FILE = Path("log") / "finetune.log"  # in the data folder: what scheduled runs say
PASSING = ("checkpoints", "progress.jsonl")  # of no use when the run is over

log = logging.getLogger("familiar.finetune")


def root(settings: Settings) -> Path:
    return settings.data.folder / "finetune"


def folder_of(settings: Settings, number: int) -> Path:
    return root(settings) / "runs" / str(number)


def new(settings: Settings, number: int) -> Path:
    """An empty folder for a new run. What lies there is of a database that is no more, and goes."""
    folder = folder_of(settings, number)
    if folder.exists():
        log.warning("run %s: its folder was there already, of another database, and is emptied", number)
        shutil.rmtree(folder)
    folder.mkdir(parents=True, mode=0o700)
    return folder


def save(folder: Path, record: Record) -> None:
    """Raises OSError; then the record that was there before still is."""
    from pydantic_core import to_json

    text = to_json(record, inf_nan_mode="strings", indent=1)
    files.write(folder / RECORD, lambda file: file.write(text + b"\n"))


def load(folder: Path) -> Record | None:
    """The record; None where there is none. Raises DataRefused when it cannot be read."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(Record).validate_json((folder / RECORD).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise DataRefused(
            f"{folder / RECORD} is not a record as this version of Familiar writes it: {error}"
        ) from error


def everyone(settings: Settings) -> Iterator[tuple[int, Path]]:
    """Number and folder of each run that has one, the oldest first."""
    with suppress(FileNotFoundError):
        there = [each for each in (root(settings) / "runs").iterdir() if each.is_dir() and each.name.isdecimal()]
        yield from sorted((int(each.name), each) for each in there)


def clear_texts(folder: Path) -> None:
    """When a run is over: what it learned from does not lie about. The manifest and what it made stay."""
    shutil.rmtree(folder / "data", ignore_errors=True)
    shutil.rmtree(folder / "rounds", ignore_errors=True)
    for name in ("preferences.jsonl", "judged.jsonl"):
        (folder / name).unlink(missing_ok=True)


def clear_passing(folder: Path) -> None:
    """What a run goes on from after it was cut short."""
    for name in PASSING:
        shutil.rmtree(folder / name, ignore_errors=True)
        with suppress(OSError):
            (folder / name).unlink()


def prune(settings: Settings, store: Store) -> None:
    """Keep the folders of the newest runs that are over, and of each older one no more than its manifest."""
    over = [run.id for run in runs.ended(store)]
    old = {number for number in over if number is not None and folder_of(settings, number).exists()}
    kept = sorted((number for number in old if (folder_of(settings, number) / RECORD).exists()), reverse=True)
    for number in old - set(kept[: settings.finetune.keep_runs]):
        for each in folder_of(settings, number).iterdir():
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each, ignore_errors=True)
            elif each.name != MANIFEST:
                each.unlink(missing_ok=True)
