"""What a run's own process is to do, as it lies in the run's folder.

job.json holds everything but the texts; those are in data/job.*.jsonl and go with the other texts when the run ends.
They are the run's training data as mixed (new, replayed and general examples), where data/train.jsonl has the new ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from finetune.errors import DataRefused
from finetune.examples import (
    Example,
    Judged,
    Preference,
    as_json,
    example_from_json,
    judged_from_json,
    preference_from_json,
)
from finetune.files import read_json, read_lines, write_json, write_lines
from finetune.record import Point
from settings import Finetune

JOB = "job.json"


@dataclass(frozen=True)
class Job:
    model_folder: Path  # of the base model
    folder: Path  # of the run
    settings: Finetune
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    anchors: tuple[Example, ...] = ()  # the base model's own replies to everyday prompts, to stay close to
    preferences: tuple[Preference, ...] = ()
    judged: tuple[Judged, ...] = ()
    continue_from: Path | None = None  # an adapter's folder, or a whole model's; None: from the base model
    continued_from: str = ""  # its name@version
    before: Path | None = None  # what it is compared with afterwards; None: the base model
    before_name: str = "base"
    replies: int = 0  # to generate before and after


@dataclass(frozen=True)
class Progress:
    """How far a stage is; a line of progress.jsonl."""

    stage: str  # training, preferring, evaluating, anchors
    done: int  # of `total`: steps, or items
    total: int
    said: str = ""  # what a person may like to know
    point: Point | None = None  # of the loss curves


Told = Callable[[Progress], None]


def save(job: Job) -> None:
    """Raises OSError."""
    for name in ("train", "validation", "anchors", "preferences", "judged"):
        write_lines(_texts(job.folder, name), (as_json(each) for each in getattr(job, name)))
    write_json(
        job.folder / JOB,
        {
            "model_folder": str(job.model_folder),
            "settings": job.settings.model_dump(mode="json"),
            "continue_from": str(job.continue_from) if job.continue_from else "",
            "continued_from": job.continued_from,
            "before": str(job.before) if job.before else "",
            "before_name": job.before_name,
            "replies": job.replies,
        },
    )


def load(folder: Path) -> Job:
    """Raises DataRefused when the folder has no whole job in it."""
    written = read_json(folder / JOB)
    try:
        return Job(
            Path(written["model_folder"]),
            folder,
            Finetune.model_validate(written["settings"]),
            tuple(example_from_json(row) for row in read_lines(_texts(folder, "train"))),
            tuple(example_from_json(row) for row in read_lines(_texts(folder, "validation"))),
            tuple(example_from_json(row) for row in read_lines(_texts(folder, "anchors"))),
            tuple(preference_from_json(row) for row in read_lines(_texts(folder, "preferences"))),
            tuple(judged_from_json(row) for row in read_lines(_texts(folder, "judged"))),
            _path(written["continue_from"]),
            written["continued_from"],
            _path(written["before"]),
            written["before_name"],
            written["replies"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataRefused(f"{folder / JOB} is not a job as this version of Familiar writes it: {error}.") from error


def progress_as_json(progress: Progress) -> dict[str, Any]:
    return asdict(progress)


def progress_from_json(row: Mapping[str, Any]) -> Progress:
    point = Point(**row["point"]) if row.get("point") else None
    return Progress(row["stage"], row["done"], row["total"], row.get("said", ""), point)


def _texts(folder: Path, name: str) -> Path:
    return folder / "data" / f"job.{name}.jsonl"


def _path(written: str) -> Path | None:
    return Path(written) if written else None
