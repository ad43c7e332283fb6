"""What earlier runs have seen, so that a run without anything new is quiet.

An example is new when no earlier run that came to a verdict learned from it or was measured on it; and when it has been
corrected since. A failed run has seen nothing. A run by hand counts only runs by the same settings as its own: who has
changed how it is learnt wants to know what comes of the same examples. And there is always something to do while the
adapter in force knows what its people want forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from finetune import folders
from finetune.dataset import UNLEARNED
from finetune.errors import DataRefused, NotEnoughData
from finetune.examples import Source, source_from_json
from finetune.files import read_json, read_lines
from settings import Settings
from store import adapters, lineage, runs
from store.session import Store
from store.tables import Run

CAME_TO_A_VERDICT = {"promoted", "rejected", "not_proven"}
SIDES = ("train", "validation", "test")
WHAT_COUNTS = (
    "What counts: replies that people corrected, rated up, chose among several or went on from since then, of people "
    "who agreed that their conversations are learnt from (/privacy yes)."
)


def refuse_too_little_new(settings: Settings, store: Store, run: Run, folder: Path) -> None:
    """Raises NotEnoughData."""
    known: dict[int, datetime] = {}  # by message: when a run last saw it
    for earlier in runs.ended(store, run.name):
        if earlier.verdict in CAME_TO_A_VERDICT and _counts(earlier, run) and earlier.id is not None:
            known |= dict(_seen_by(folders.folder_of(settings, earlier.id)))
    sources = list(_sources(folder))
    new, wanted = sum(_is_new(each, known) for each in sources), settings.finetune.min_new_examples
    if new >= wanted or _to_be_unlearnt(store, run.name, folder):
        return
    raise NotEnoughData(
        f"{new} of {len(sources)} examples {'is' if new == 1 else 'are'} new since the last run, and a run takes "
        f"{wanted} new ones (finetune.min_new_examples). {WHAT_COUNTS}"
    )


def _counts(earlier: Run, run: Run) -> bool:
    if run.trigger == "schedule":
        return True
    return all(earlier.settings.get(key) == run.settings.get(key) for key in ("finetune", "learning"))


def _seen_by(folder: Path) -> Iterator[tuple[int, datetime]]:
    """By the manifest, which stays; nothing where somebody has deleted it."""
    with suppress(DataRefused, KeyError, TypeError, ValueError, AttributeError):
        manifest = read_json(folder / folders.MANIFEST)
        at = datetime.fromisoformat(manifest["made_at"])
        for side in SIDES:
            for each in manifest["message_ids"].get(side, ()):
                yield int(each), at


def _sources(folder: Path) -> Iterator[Source]:
    for side in SIDES:
        file = folder / "data" / f"{side}.jsonl"
        if file.exists():
            yield from (source_from_json(row["source"]) for row in read_lines(file))


def _is_new(source: Source, known: dict[int, datetime]) -> bool:
    seen = [known.get(each) for each in source.message_ids]
    return any(at is None or (source.at is not None and source.at > at) for at in seen)


def _to_be_unlearnt(store: Store, name: str, folder: Path) -> bool:
    """Forgotten, or of somebody who says no by now; what the run is to measure of it lies in its folder."""
    if (folder / UNLEARNED).exists():
        return True
    active = adapters.active(store, name)
    concerned = {each.adapter for each in lineage.to_leave_out(store)}
    return active is not None and f"{active.name}@{active.version}" in concerned
