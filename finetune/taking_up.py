"""Which run it is: a new one, or one that was cut short and goes on, and the settings that it is done by.

One that was cut short goes on where the settings still ask for the same result; otherwise it is over, and a new one
begins in its place. One that is named goes on with its own settings, whatever they are now.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from finetune import folders
from finetune.errors import RunNotFound
from settings import Finetune, Learning, Settings
from store import runs
from store.errors import NotFound
from store.runs import State, Trigger
from store.session import Store
from store.tables import Run

# What can differ between a run that was cut short and one begun now, and the first still is what is wanted.
_NOT_OF_THE_RESULT = {
    "schedule", "keep_runs", "timeout_hours", "min_new_examples", "threads", "checkpointing", "sealed_days",
}  # fmt: skip

log = logging.getLogger("familiar.finetune")


@dataclass(frozen=True)
class Wanted:
    """What was asked for, as far as it decides what comes out."""

    name: str
    place: str
    file: Path | None
    strict: bool
    offline: bool
    trigger: Trigger


def row_for(
    settings: Settings, store: Store, wanted: Wanted, resume: int | None, override: str
) -> tuple[Run, Settings]:
    """The run that goes on, or a new one, with the settings that it is done by. Raises RunNotFound."""
    if resume is not None:
        return _resumed(settings, store, resume, override)
    as_wanted = _as_row(settings, wanted)
    found: Run | None = None
    for each in runs.unfinished(store, wanted.name):
        if found is None and each.place == wanted.place and same(each.settings, as_wanted):
            found = each
            continue
        runs.end(store, number_of(each), "failed", "It was cut short, and another run was begun in its place.")
        folders.clear_texts(folders.folder_of(settings, number_of(each)))
        folders.clear_passing(folders.folder_of(settings, number_of(each)))
    if found is None:
        row = runs.begin(store, wanted.name, wanted.trigger, as_wanted, place=wanted.place)
        folders.new(settings, number_of(row))
        return row, settings
    log.info("run %s was cut short while %s, and goes on", found.id, found.state)
    return found, settings


def _resumed(settings: Settings, store: Store, number: int, override: str) -> tuple[Run, Settings]:
    try:
        row = runs.get(store, number)
    except NotFound:
        raise RunNotFound(f"There is no run {number}. `familiar finetune status` lists them.") from None
    open_again = row.verdict == "failed" or (override and row.verdict in {"rejected", "not_proven"})
    if row.state == "ended" and not open_again:
        raise RunNotFound(
            f"Run {number} is over ({row.verdict.replace('_', ' ')}). One that was cut short or failed can be resumed; "
            f"and one that was rejected or not proven, with --override and the reason."
        )
    folder = folders.folder_of(settings, number)
    record = folders.load(folder)
    if row.state == "ended" and record is None:
        raise RunNotFound(f"Of run {number} no more is kept than its numbers. Begin a new one.")
    if row.state == "ended" and record is not None:
        seconds = {stage: spent for stage, spent in record.seconds.items() if stage != "promoting"}
        folders.save(folder, replace(record, verdict="", said="", finished_at=None, seconds=seconds, can_go_on=True))
    state: State = "promoting" if row.verdict in {"rejected", "not_proven"} else "preparing"
    row = runs.note(store, number, state=state if row.state == "ended" else None, numbers={"starts": 0})
    kept = {"sealed_days": settings.learning.sealed_days}  # how long anything stays sealed is not a run's to say
    own = {
        "finetune": Finetune.model_validate(row.settings["finetune"]),
        "learning": Learning.model_validate(row.settings["learning"]).model_copy(update=kept),
    }
    return row, settings.model_copy(update=own)


def _as_row(settings: Settings, wanted: Wanted) -> dict[str, Any]:
    return {
        "finetune": settings.finetune.model_dump(mode="json"),
        "learning": settings.learning.model_dump(mode="json"),
        "gate": settings.gate.model_dump(mode="json"),  # what is secret is masked
        "file": str(wanted.file.resolve()) if wanted.file else "",
        "strict": wanted.strict,
        "offline": wanted.offline,
    }


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two runs by these settings learn the same."""

    def of_the_result(settings: Mapping[str, Any]) -> dict[str, Any]:
        finetune = {key: value for key, value in settings["finetune"].items() if key not in _NOT_OF_THE_RESULT}
        learning = {key: value for key, value in settings["learning"].items() if key not in _NOT_OF_THE_RESULT}
        return {"finetune": finetune, "learning": learning} | {
            key: settings[key] for key in ("file", "strict", "offline")
        }

    return of_the_result(one) == of_the_result(other)


def number_of(row: Run) -> int:
    assert row.id is not None, "a stored row has an id"
    return row.id
