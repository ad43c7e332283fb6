"""The real stages, put one behind the other: what a run is compared with, and what it takes the place of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine import process as engine_process
from engine.adapter_check import base_fingerprint
from finetune import dataset, evaluate, folders, process, promote, wiring
from finetune import run as run_module
from finetune.examples import Preference, Source
from finetune.record import DataCounts, Training
from finetune.report.words import headline
from finetune.run import run
from finetune.split import Sides
from finetune.stages import Ground, Promoted, Trained
from settings import Settings
from store import adapters, conversations, lineage
from store.session import Store
from tests.fakes.vllm import FakeConnection
from tests.finetune.standins import StandIns, say_something, settings_for, store_for
from tests.finetune.test_gate import measured as measured_as
from tests.finetune.tiny import chat_model, example

SAME = measured_as("familiar@1")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_model(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def settings(folder: Path) -> Settings:
    return settings_for(folder, general=0, kl=0)


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    with store_for(folder) as store:
        yield store


class Real:
    """Training and promoting as they are, without the process that trains and without the engine."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, base: Path) -> None:
        self.instead_of: str | None = "never promoted"
        self.left_s: list[float] = []  # for each process
        monkeypatch.setattr(wiring, "base_model", lambda settings: base)
        monkeypatch.setattr(process, "run_stage", self._run_stage)
        monkeypatch.setattr(promote, "put", self._put)
        self.really_registered = wiring._registered
        monkeypatch.setattr(wiring, "_registered", self._registered)
        monkeypatch.setattr(engine_process, "connect", lambda settings: FakeConnection(None))  # type: ignore[arg-type]

    async def train(self, ground: Ground) -> Any:
        sides = Sides((example("Why?", "So."),), (), (example("And then?", "Nothing.", conversation="log:2"),))
        dataset.save(ground.folder, sides, (), (), DataCounts())
        return await wiring.train(ground)

    async def _run_stage(self, stage: str, folder: Path, *, timeout_s: float, **_: Any) -> None:
        self.left_s.append(timeout_s)
        if stage == "evaluate":
            return
        (folder / "training.json").write_text(json.dumps({"key": "", **asdict(Training("lora", "base"))}))
        (folder / "adapter").mkdir(exist_ok=True)

    def _registered(self, ground: Ground) -> Any:
        return adapters.register(ground.store, "familiar", 2, "familiar/2", "base", "f00", 4)

    async def _put(self, *given: Any, instead_of: str | None, **_: Any) -> Promoted:
        self.instead_of = instead_of
        return Promoted(2, "familiar@2 answers 20% of the conversations first.", share=0.2)


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch, base: Path) -> Real:
    return Real(monkeypatch, base)


@pytest.mark.parametrize("same_base", [True, False])
async def test_what_is_in_force_for_another_base_model_is_not_compared_with_but_is_what_it_takes_the_place_of(
    settings: Settings, store: Store, folder: Path, base: Path, real: Real, same_base: bool
) -> None:
    made_for = base_fingerprint(base) if same_base else "of another"
    adapters.register(store, "familiar", 1, "familiar/1", "some base", made_for, 4)
    adapters.activate(store, "familiar", 1)
    standins = StandIns(folder / "done")
    stages = replace(standins.stages, train=real.train, evaluate=wiring.evaluate, promote=wiring.promote)

    record = await run(settings, store, stages=stages)

    assert (record.verdict, record.share) == ("promoted", 0.2), record.said
    assert record.before == ("familiar@1" if same_base else "base")
    assert json.loads((folder / "finetune" / "runs" / "1" / "job.json").read_text())["before_name"] == record.before
    assert real.instead_of == "familiar@1"
    said = "familiar@1 was made for another base model, so this was compared with the base model."
    assert record.notes == (() if same_base else (said,))


async def test_a_run_that_failed_after_training_still_knows_what_was_in_force(
    settings: Settings, store: Store, folder: Path, real: Real
) -> None:
    adapters.register(store, "familiar", 1, "familiar/1", "some base", "of another", 4)
    adapters.activate(store, "familiar", 1)
    standins = StandIns(folder / "done", on=_failing_once())
    stages = replace(standins.stages, train=real.train, promote=wiring.promote)

    assert (await run(settings, store, stages=stages)).verdict == "failed"
    record = await run(settings, store, resume=1, stages=stages)

    assert (record.verdict, record.before, real.instead_of) == ("promoted", "base", "familiar@1")


# How long it may take


async def test_the_time_that_a_run_may_take_is_one_for_all_its_processes_and_a_resumed_run_has_it_anew(
    settings: Settings, store: Store, folder: Path, real: Real, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    for module in (wiring, run_module):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def an_hour(point: str) -> None:
        clock[0] += 3600 if point == "before evaluate" else 0

    standins = StandIns(folder / "done", an_hour)

    async def evaluate(ground: Ground) -> tuple[str, ...]:
        an_hour("before evaluate")
        await wiring.evaluate(ground)
        if len(real.left_s) == 2:
            raise OSError("No space left on device")
        return ()

    stages = replace(standins.stages, train=real.train, evaluate=evaluate)
    assert (await run(settings, store, stages=stages)).verdict == "failed"
    whole = settings.finetune.timeout_hours * 3600
    assert real.left_s == [whole, whole - 3600]
    assert (await run(settings, store, resume=1, stages=stages)).verdict == "promoted"
    assert real.left_s[2:] == [whole - 3600]


# What is to go


@pytest.mark.parametrize("taken_back", ["nothing", "forgotten", "withdrawn", "forgotten, and gone on from"])
async def test_a_version_that_knows_what_was_taken_back_gives_way_to_one_that_is_no_worse(
    settings: Settings, store: Store, folder: Path, base: Path, monkeypatch: pytest.MonkeyPatch, taken_back: str
) -> None:
    monkeypatch.setattr(wiring, "base_model", lambda settings: base)
    measured = (SAME, replace(SAME, model="after"))
    monkeypatch.setattr(evaluate, "read", lambda folder: measured)
    monkeypatch.setattr(evaluate, "read_base", lambda folder: None)
    row = adapters.register(store, "familiar", 1, "familiar/1", "some base", base_fingerprint(base), 4)
    adapters.activate(store, "familiar", 1)
    (talk,) = say_something(store)
    lineage.trained_on(store, row.id or 0, [talk.id or 0])
    if taken_back.startswith("forgotten"):
        conversations.delete(store, talk.id or 0, talk.person_id)
    standins = StandIns(folder / "done")

    def prepare(ground: Ground) -> DataCounts:
        counts = standins.stages.prepare(ground)
        return replace(counts, taken_back={"people": 1} if taken_back == "withdrawn" else {})

    async def train(ground: Ground) -> Trained:
        trained = await standins.stages.train(ground)
        gone_on_from = "familiar@1" if "gone on" in taken_back else ""
        return replace(trained, training=replace(trained.training, continued_from=gone_on_from))

    stages = replace(standins.stages, prepare=prepare, train=train, decide=wiring.decide)
    record = await run(settings, store, stages=stages)

    if taken_back in {"forgotten", "withdrawn"}:
        assert (record.verdict, record.version) == ("promoted", 2)
        assert "so not being worse is enough" in record.said
        assert headline(record) == "familiar@2 is not worse than familiar@1 and was promoted."
        assert folders.load(folders.folder_of(settings, 1)) == record
    else:
        assert (record.verdict, record.version) == ("rejected", None), "it gained nothing"


# What it learned from


@pytest.mark.parametrize(("preferences", "marked"), [("dpo", True), ("kto", True), ("off", False)])
async def test_a_conversation_that_was_learnt_in_the_preference_stage_alone_is_known_when_it_is_forgotten(
    folder: Path, store: Store, real: Real, monkeypatch: pytest.MonkeyPatch, preferences: str, marked: bool
) -> None:
    settings = settings_for(folder, preferences=preferences)
    learnt, compared = say_something(store, 2)

    def register(*given: Any) -> Any:
        row = adapters.register(store, "familiar", 1, "familiar/1", "base", "f00", 4)
        lineage.trained_on(store, row.id or 0, given[-1])
        return row

    monkeypatch.setattr(wiring, "_registered", real.really_registered)
    monkeypatch.setattr(promote, "register", register)

    async def train(ground: Ground) -> Trained:
        sides = Sides((example("Why?", "So.", conversation=f"log:{learnt.id}"),), (), ())
        pair = Preference(({"role": "user", "content": "Why?"},), "So.", "No.", "chosen", Source(f"log:{compared.id}"))
        dataset.save(ground.folder, sides, (pair,), (), DataCounts())
        (ground.folder / "adapter").mkdir()
        return Trained(Training("lora", "base"))

    stages = replace(StandIns(folder / "done").stages, train=train, promote=wiring.promote)
    record = await run(settings, store, stages=stages)
    assert record.verdict == "promoted", record.said
    conversations.delete(store, compared.id or 0, compared.person_id)
    assert [each.adapter for each in lineage.to_leave_out(store)] == (["familiar@1"] if marked else [])


def _failing_once() -> Any:
    failures = [OSError("No space left on device")]

    def on(point: str) -> None:
        if point == "within evaluate" and failures:
            raise failures.pop()

    return on
