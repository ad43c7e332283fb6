"""Stages that take no time, write down what they do, and are killed where a test wants it.

    python -m tests.finetune.standins DATA_FOLDER POINT     a run that ends by SIGKILL at POINT, e.g. "within train"

A stage has three points: "before" it does anything, "within" it, and "after" its work, when nobody has noted it yet.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from finetune.errors import FinetuneError
from finetune.record import DataCounts, Decision, Record, Sample, Training
from finetune.run import run
from finetune.stages import Decided, Ground, Promoted, Stages, Trained
from settings import Data, Finetune, Settings
from store import adapters, conversations, people
from store.session import Store
from store.tables import Conversation, Person, now

NAMES = ("prepare", "train", "evaluate", "decide", "promote")


def settings_for(folder: Path, **finetune: object) -> Settings:
    return Settings(data=Data(folder=folder), finetune=Finetune(**({"min_new_examples": 3} | finetune)))  # type: ignore[arg-type]


def store_for(folder: Path) -> Store:
    return Store(f"sqlite:///{folder / 'familiar.db'}").open()


def say_something(store: Store, count: int = 1) -> list[Conversation]:
    """Conversations of Ada's, which the stand-ins learn from."""
    ada: Person = people.person_for(store, "terminal", "ada", name="Ada")
    assert ada.id is not None
    return [conversations.start(store, ada.id, "terminal", "familiar") for _ in range(count)]


@dataclass
class StandIns:
    """`done` lists what was done, in `file`, so that it outlives the process."""

    file: Path
    on: Callable[[str], None] = lambda point: None  # called at each point; it may raise, or end the process
    verdict: str = "promoted"
    messages: tuple[int, ...] = (1, 2, 3, 4)
    at: str = "2026-01-02T03:04:05+00:00"  # when the replies were given, or corrected
    learned: tuple[int, ...] = ()  # conversations
    held: asyncio.Event | None = None  # training waits for it
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def done(self) -> list[str]:
        return self.file.read_text().split() if self.file.exists() else []

    @property
    def stages(self) -> Stages:
        return Stages(self._prepare, self._train, self._evaluate, self._decide, self._promote, self._render)

    def _do(self, what: str) -> None:
        with self.file.open("a") as file:
            file.write(what + "\n")

    def _prepare(self, ground: Ground) -> DataCounts:
        self.on("before prepare")
        data = ground.folder / "data"
        data.mkdir(exist_ok=True)
        (data / "train.jsonl").unlink(missing_ok=True)
        talks = [f"log:{each}" for each in self.learned] or ["file:mine"]
        for each in self.messages:
            source = {"conversation": talks[each % len(talks)], "message_ids": [each], "at": self.at}
            with (data / "train.jsonl").open("a") as file:
                file.write(json.dumps({"messages": ["my secret"], "source": source}) + "\n")
        self.on("within prepare")
        manifest = {"made_at": now().isoformat(), "message_ids": {"train": list(self.messages)}}
        (ground.folder / "manifest.json").write_text(json.dumps(manifest))
        self._do("prepare")
        self.on("after prepare")
        return DataCounts(examples={"corrected": len(self.messages)}, fingerprint="f00")

    async def _train(self, ground: Ground) -> Trained:
        self.on("before train")
        assert (ground.folder / "manifest.json").exists(), "the data is prepared first"
        (ground.folder / "checkpoints").mkdir(exist_ok=True)
        self.reached.set()
        if self.held is not None:
            await self.held.wait()
        self.on("within train")
        (ground.folder / "adapter").mkdir(exist_ok=True)
        self._do("train")
        self.on("after train")
        return Trained(Training(method=ground.settings.finetune.method, base="tiny", steps=3), replayed=2)

    async def _evaluate(self, ground: Ground) -> tuple[str, ...]:
        self.on("before evaluate")
        assert (ground.folder / "adapter").exists(), "there is something to measure"
        self.on("within evaluate")
        self._do("evaluate")
        self.on("after evaluate")
        return ("nothing was left out",)

    async def _decide(self, ground: Ground) -> Decided:
        self.on("before decide")
        self.on("within decide")
        self._do("decide")
        self.on("after decide")
        shown = tuple(Sample(f"log:{each}", "my secret", "", "before", "after") for each in self.learned)
        return Decided(Decision(self.verdict, f"It was {self.verdict}."), samples=shown)  # type: ignore[arg-type]

    async def _promote(self, ground: Ground) -> Promoted:
        """As the real one: the same files are the same version."""
        self.on("before promote")
        folder = f"familiar/of-run-{ground.number}"
        known = [each for each in adapters.all_adapters(ground.store) if each.folder == folder]
        version = known[0].version if known else adapters.next_version(ground.store, ground.name)
        if not known:
            adapters.register(ground.store, ground.name, version, folder, "tiny", "f00", 4)
        self.on("within promote")
        adapters.activate(ground.store, ground.name, version)
        self._do("promote")
        self.on("after promote")
        return Promoted(version, f"familiar@{version} is in force.")

    def _render(self, record: Record, folder: Path) -> None:
        (folder / "report.html").write_text(f"{record.verdict}: {[each.question for each in record.samples]}")


def killing(at: str) -> Callable[[str], None]:
    def on(point: str) -> None:
        if point == at:
            os.kill(os.getpid(), signal.SIGKILL)

    return on


def failing(at: str, error: Exception | None = None) -> Callable[[str], None]:
    def on(point: str) -> None:
        if point == at:
            raise error or FinetuneError(f"It broke {point}.")

    return on


def main(folder: Path, point: str) -> None:
    standins = StandIns(folder / "done", killing(point))
    with store_for(folder) as store:
        asyncio.run(run(settings_for(folder), store, stages=standins.stages))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
