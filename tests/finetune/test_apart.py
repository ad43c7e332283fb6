"""An adapter of each group's own, the whole way: what it learns from, where it answers, and what leaves the others be.

The log, the data sets, the registry and the runs are real; training makes random weights, the gate says yes to them,
and the engine is a fake one.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from engine import process as engine_process
from engine.adapters import elsewhere, resolve
from engine.errors import UnknownModel
from finetune import apart, dataset, folders, promote, wiring
from finetune.record import Decision, Record, Training
from finetune.run import run
from finetune.stages import Decided, Ground, Stages, Trained
from settings import Data, Finetune, Learning, Settings
from store import adapters, lineage, people, places, runs
from store.tables import Conversation, Person
from tests.engine.test_adapters import LoraServer
from tests.engine.tiny import save_adapter
from tests.fakes.vllm import FakeConnection
from tests.finetune.made_log import MadeLog, log
from tests.finetune.tiny import chat_model

__all__ = ["log"]

A, B, QUIET = "telegram:-100", "telegram:-200", "telegram:-300"
THINGS = ("the lamp", "the stove", "the gate", "the well", "the drum", "the sail", "the mill", "the forge")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_model(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture
async def server() -> AsyncIterator[LoraServer]:
    async with LoraServer() as server:
        yield server


@dataclass
class House:
    """Two groups that talk, one that hardly does, and private chats."""

    log: MadeLog
    folder: Path
    base: Path
    talks: dict[str, list[Conversation]]

    def settings(self, apart: str = "groups", **finetune: object) -> Settings:
        return Settings(
            data=Data(folder=self.folder),
            learning=Learning(apart=apart, redact=False),  # type: ignore[arg-type]
            finetune=Finetune(**({"min_new_examples": 6, "general": 0, "kl": 0} | finetune)),  # type: ignore[arg-type]
        )

    def talk(self, place: str, many: int, person: Person, first: int = 0) -> None:
        for number in range(first, first + many):
            talk = self.log.talk(person, place.partition(":")[2])
            number += 1000 * (1 + (A, B, QUIET).index(place) if place else 0)
            question = f"Where do we keep {THINGS[number % 8]} number {number * 7919}?"
            reply = self.log.turn(talk, question, f"In the shed {number * 104729}, on the left.")
            self.log.rate(reply, 1)
            self.talks.setdefault(place, []).append(talk)

    def ids(self, place: str) -> set[int]:
        return {talk.id for talk in self.talks[place] if talk.id is not None}

    async def learn(self, place: str, settings: Settings | None = None, **more: object) -> Record:
        target = apart.of(place)
        return await run(
            settings or self.settings(),
            self.log.store,
            name=target.name,
            place=target.place,
            stages=self.stages,
            **more,  # type: ignore[arg-type]
        )

    @property
    def stages(self) -> Stages:
        return Stages(wiring.prepare, self._train, self._evaluate, self._decide, wiring.promote, lambda *_: None)

    async def _train(self, ground: Ground) -> Trained:
        job = wiring._job(ground)
        (ground.folder / "job.json").write_text(json.dumps({"from": job.continued_from, "before": job.before_name}))
        save_adapter(ground.folder / "adapter", self.base, seed=ground.number)
        (ground.folder / "training.json").write_text(json.dumps({"key": "", **asdict(Training("lora", "base"))}))
        return Trained(Training("lora", "base"), before=job.before_name)

    async def _evaluate(self, ground: Ground) -> tuple[str, ...]:
        return ()

    async def _decide(self, ground: Ground) -> Decided:
        return Decided(Decision("promoted", "It is better."))

    def job(self, record: Record) -> dict[str, str]:
        text = (folders.folder_of(self.settings(), record.number) / "job.json").read_text()
        found: dict[str, str] = json.loads(text)
        return found

    def learned_by(self, record: Record) -> set[int]:
        """The conversations of its data set, of all its sides."""
        manifest = dataset.manifest_of(folders.folder_of(self.settings(), record.number))
        return {int(each.removeprefix("log:")) for side in manifest.conversations.values() for each in side}

    def answers(self, place: str) -> str:
        return resolve(self.log.store, "", sticky=1, place=place)


@pytest.fixture
def house(log: MadeLog, tmp_path: Path, base: Path, server: LoraServer, monkeypatch: pytest.MonkeyPatch) -> House:
    connection = FakeConnection(server.address.model_copy(update={"model_folder": base}))
    monkeypatch.setattr(wiring, "base_model", lambda settings: base)
    monkeypatch.setattr(engine_process, "connect", lambda settings: connection)
    made = House(log, tmp_path, base, {})
    for place, title in ((A, "House"), (B, "Garden"), (QUIET, "")):
        places.place(log.store, "telegram", place.partition(":")[2], title)
    made.talk("", 8, log.person("Ada"))
    made.talk(A, 8, log.person("Bo"))
    made.talk(B, 8, log.person("Cy"))
    made.talk(QUIET, 2, log.person("Di"))
    return made


def active(house: House) -> set[str]:
    return {f"{row.name}@{row.version}" for row in adapters.all_adapters(house.log.store) if row.active}


# What it learns from, and where it answers


async def test_a_groups_adapter_learns_what_was_said_there_and_answers_there_alone(house: House) -> None:
    record = await house.learn(A)
    assert (record.verdict, record.version) == ("promoted", 1), record.said
    assert house.learned_by(record) == house.ids(A)
    row = adapters.get(house.log.store, "telegram-100", 1)
    assert row.id is not None
    assert lineage.learned_from(house.log.store, row.id) <= house.ids(A)
    assert house.answers(A) == house.answers(f"{A}/7") == "telegram-100@1"
    assert house.answers(B) == house.answers("") == house.answers("telegram:/7") == ""


async def test_what_is_learnt_in_private_chats_is_nothing_of_the_groups(house: House) -> None:
    assert house.learned_by(await house.learn("")) == house.ids("")


async def test_each_group_has_its_own_and_until_then_what_answers_everybody(house: House) -> None:
    await house.learn("")
    assert {house.answers(place) for place in ("", A, B)} == {"familiar@1"}
    await house.learn(A)
    await house.learn(B)
    assert [house.answers(place) for place in ("", A, B, QUIET)] == [
        "familiar@1",
        "telegram-100@1",
        "telegram-200@1",
        "familiar@1",
    ]


@pytest.mark.parametrize("wanted", ["telegram-100", "telegram-100@1"])
async def test_nobody_gets_a_groups_adapter_elsewhere_by_naming_it(house: House, wanted: str) -> None:
    await house.learn(A)
    assert resolve(house.log.store, wanted, place=A) == "telegram-100@1"
    for place in ("", B):
        with pytest.raises(UnknownModel, match="in its own group alone"):
            resolve(house.log.store, wanted, place=place)
        assert "telegram-100" in elsewhere(house.log.store, place)
    assert "telegram-100" not in elsewhere(house.log.store, A)


async def test_a_groups_first_adapter_is_compared_with_what_answers_there_and_does_not_go_on_from_it(
    house: House,
) -> None:
    settings = house.settings(start="last")
    await house.learn("", settings)
    record = await house.learn(A, settings)
    assert (record.verdict, record.before) == ("promoted", "familiar@1"), record.said
    assert house.job(record) == {"from": "", "before": "familiar@1"}
    house.talk(A, 8, house.log.person("Bo"), first=100)
    record = await house.learn(A, settings)
    assert (record.verdict, record.before) == ("promoted", "telegram-100@1"), record.said
    assert house.job(record)["from"] == "telegram-100@1"


# Back, and forgotten


async def test_a_step_back_in_one_group_is_none_elsewhere(house: House) -> None:
    for place in ("", A, B):
        await house.learn(place)
    settings, store = house.settings(), house.log.store
    connection = engine_process.connect(settings)
    assert await promote.rollback(settings, store, connection, "telegram-100") == ""
    assert active(house) == {"familiar@1", "telegram-200@1"}
    assert [house.answers(place) for place in (A, B)] == ["familiar@1", "telegram-200@1"]


async def test_what_is_forgotten_in_one_group_is_unlearnt_there_and_the_others_stay(house: House) -> None:
    for place in ("", A, B):
        await house.learn(place)
    eve = house.log.person("Eve")
    house.talk(A, 8, eve, first=100)
    await house.learn(A)
    mine = {talk.id for talk in house.talks[A] if talk.person_id == eve.id}
    people.forget(house.log.store, eve.id)  # type: ignore[arg-type]
    assert {each.adapter for each in lineage.to_leave_out(house.log.store)} == {"telegram-100@2"}

    record = await house.learn(A)

    assert (record.verdict, house.learned_by(record) & mine) == ("promoted", set()), record.said
    assert active(house) == {"familiar@1", "telegram-100@3", "telegram-200@1"}
    assert (await house.learn(B)).verdict == "nothing_to_learn"


# Which are learnt


def named(found: Sequence[apart.Target]) -> list[tuple[str, str, int]]:
    return [(each.name, each.title, each.examples) for each in found]


def test_every_place_with_enough_is_learnt_and_the_others_are_named(house: House) -> None:
    enough, too_few = apart.targets(house.settings(), house.log.store)
    assert named(enough) == [
        ("familiar", "Private chats", 8),
        ("telegram-100", f"House ({A})", 8),
        ("telegram-200", f"Garden ({B})", 8),
    ]
    assert named(too_few) == [("telegram-300", QUIET, 2)]


def test_what_nobody_agreed_to_does_not_count(house: House) -> None:
    person = house.log.person("Cy")
    people.give_consent(house.log.store, person.id, "no")  # type: ignore[arg-type]
    _, too_few = apart.targets(house.settings(), house.log.store)
    assert ("telegram-200", f"Garden ({B})", 0) in named(too_few)


def test_without_groups_of_their_own_it_is_one_for_everybody(house: House) -> None:
    enough, too_few = apart.targets(house.settings(apart="off"), house.log.store)
    assert [(each.name, each.place) for each in (*enough, *too_few)] == [("familiar", "")]


def test_a_groups_run_that_was_cut_short_goes_on_though_it_has_too_few_by_now(house: House) -> None:
    """Or a schedule would find it cut short for ever."""
    runs.begin(house.log.store, "telegram-300", "schedule", {}, place=QUIET)
    enough, _ = apart.targets(house.settings(), house.log.store)
    assert QUIET in {each.place for each in enough}
    apart.targets(house.settings(apart="off"), house.log.store)
    assert runs.unfinished(house.log.store) == []
    assert "no adapters of their own any more" in runs.get(house.log.store, 1).said


@pytest.mark.parametrize(
    ("given", "name", "place"),
    [
        ("private", "familiar", ""),
        (A, "telegram-100", A),
        (f"{A}/7", "telegram-100", A),
    ],
)
def test_an_operator_names_a_group_as_its_channel_does(given: str, name: str, place: str) -> None:
    assert (apart.of(given).name, apart.of(given).place) == (name, place)


# What cannot be


async def test_a_group_learns_nothing_where_everything_is_learnt_together(house: House) -> None:
    record = await house.learn(A, house.settings(apart="off"))
    assert record.verdict == "failed"
    assert "learning.apart is 'off'" in record.said
    assert active(house) == set()


async def test_what_leaves_a_whole_model_is_refused_to_a_group_before_anything_is_trained(house: House) -> None:
    record = await house.learn(A, method="dora")
    assert record.verdict == "failed"
    assert "answers everybody, and this is to answer in a group alone" in record.said
    assert record.data is None


async def test_beside_a_whole_model_no_group_learns(house: House) -> None:
    adapters.register(house.log.store, "familiar", 1, "familiar/1", "base", "0" * 32, 0, kind="model")
    adapters.activate(house.log.store, "familiar", 1)
    record = await house.learn(A)
    assert record.verdict == "failed"
    assert "no adapter can be served beside it" in record.said
