"""A process that dies at a chosen step of a sync.

    python -m tests.knowledge.killed_syncs ROOT     a sync of tests.knowledge.taking_in.Place, to be killed for real

In one process, `Dying` stands before the catalogue and lets the n-th change of it, or the moment after it, be the last.
SimulatedKill is no Exception: nothing that tidies up after errors may take it for one, though `finally` still runs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from store.catalogue.catalogue import Catalogue
from tests.knowledge.taking_in import Place

CHANGES = {"put", "rename", "touch", "remove", "put_vectors", "note_refusal", "clear_refusal"}


class SimulatedKill(BaseException):
    pass


class Dying:
    """The catalogue, until its `steps`-th step. Each change has two: before it, and after it was committed."""

    def __init__(self, catalogue: Catalogue, steps: int) -> None:
        self._catalogue = catalogue
        self._left = steps

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._catalogue, name)
        if name not in CHANGES:
            return method

        def step(*arguments: Any, **named: Any) -> Any:
            self._die()
            result = method(*arguments, **named)
            self._die()
            return result

        return step

    def _die(self) -> None:
        self._left -= 1
        if self._left <= 0:
            raise SimulatedKill


def sync_and_die(root: Path, steps: int) -> bool:
    """Whether it died; else the sync was done before."""
    with Place(root) as place:
        dying: Any = Dying(place.catalogue, steps)
        place.sync.catalogue = place.ingest.catalogue = place.ingest.preparation.catalogue = dying
        try:
            place.sync.sync(allow_empty=True)
        except SimulatedKill:
            return True
    return False


def main(root: Path) -> None:
    def slowly(texts: Sequence[str]) -> None:
        time.sleep(0.05)  # five times and more: longer than the killer waits

    with Place(root) as place:
        place.embedder.before = slowly
        print("ready", flush=True)
        place.sync.sync(allow_empty=True)
    print("done", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
