"""What people took back is measured and nothing else: never learnt, never lying about longer than it may."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import update

from finetune import comparison, dataset, folders, forgotten, redact, taken_back
from finetune.data import prepare
from finetune.dataset import Loaded, Manifest
from finetune.job import Job
from finetune.job import save as save_job
from finetune.measurements import Loss, Measurements
from finetune.record import DataCounts
from finetune.seen import refuse_too_little_new
from finetune.taking_up import same
from settings import Data, Finetune, Gate, Learning, Settings
from store import adapters, conversations, lineage, people, runs, sealed
from store.tables import Adapter, Person, Sealed, now
from tests.finetune.made_log import MadeLog, log
from tests.finetune.tiny import bundled_model

__all__ = ["log"]

THINGS = [
    "ladder",
    "kettle",
    "lantern",
    "hammer",
    "blanket",
    "compass",
    "bucket",
    "whistle",
    "candle",
    "mirror",
    "pillow",
    "basket",
]
PLACES = ["in the attic", "behind the stove", "under the stairs", "on the top shelf", "beside the well", "in the barn"]


class StandIn:
    """Finds the names that it is told. The real one takes seconds to load."""

    def conversation(self, texts: Sequence[str], names: Sequence[str] = ()) -> tuple[list[str], Counter[str]]:
        pattern = "|".join(rf"\b{re.escape(each)}\b" for each in names) or "$^"
        return [re.sub(pattern, "<NAME_1>", text) for text in texts], Counter()


@pytest.fixture(autouse=True)
def _no_real_redactor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "Redactor", StandIn)


class House:
    """Familiar's runs, without training: what a run's data set holds, and what its adapter is noted to know."""

    def __init__(self, log: MadeLog, folder: Path, **learning: Any) -> None:
        self.log = log
        self.settings = Settings(
            data=Data(folder=folder),
            finetune=Finetune(min_new_examples=10),
            learning=Learning(**{"sealed_days": 7} | learning),
        )
        self.manifests: list[Manifest] = []
        self.in_force: Adapter | None = None

    def talks(self, person: Person, many: int) -> list[int]:
        """Conversations of one turn, each about something else, rated up."""
        begun = []
        for _ in range(many):
            talk = self.log.talk(person)
            number = (talk.id or 0) * 7919
            thing, where = f"{THINGS[number % 12]} {number}", PLACES[number % 6]
            reply = f"Dear {person.name}, you find {thing} {where}, at {number * 1299709}."
            self.log.rate(self.log.turn(talk, f"Where is {thing}?", reply), 1)
            begun.append(talk.id or 0)
        return begun

    def folder(self, number: int) -> Path:
        return folders.folder_of(self.settings, number)

    def run(self, *, comes_into_force: bool = True) -> tuple[DataCounts, Loaded]:
        store = self.log.store
        row = runs.begin(store, "familiar", "by hand", {})
        assert row.id is not None
        folder = folders.new(self.settings, row.id)
        counts = prepare(store, self.settings, bundled_model(), folder, earlier=self.manifests, in_force=self.in_force)
        loaded = dataset.load(folder)
        if comes_into_force:
            manifest = dataset.manifest_of(folder)
            self.manifests.append(manifest)
            version = adapters.next_version(store, "familiar")
            made = adapters.register(store, "familiar", version, f"familiar/{version}", "tiny", "f00", 4)
            assert made.id is not None
            lineage.trained_on(store, made.id, manifest.of_the_log())
            adapters.activate(store, "familiar", version)
            self.in_force = adapters.get(store, "familiar", version)
            runs.end(store, row.id, "promoted", "It is better.")
        return counts, loaded


@pytest.fixture
def house(log: MadeLog, tmp_path: Path) -> House:
    return House(log, tmp_path)


def learnt(loaded: Loaded) -> set[str]:
    """Every word that a run learns from, validates on or tests on."""
    sides = (loaded.train, loaded.validation, loaded.test, loaded.earlier, *loaded.rounds.values())
    texts = {each["content"] for side in sides for example in side for each in example.messages}
    texts |= {each.chosen for each in (*loaded.preferences, *loaded.test_preferences)}
    return texts | {each.reply for each in (*loaded.judged, *loaded.test_judged)}


def replies(loaded: Loaded) -> set[str]:
    return {each.reply for each in loaded.unlearned}


def of(loaded: Loaded) -> set[str]:
    return {each.source.conversation for each in loaded.unlearned}


def test_nothing_is_measured_while_nobody_takes_anything_back(house: House) -> None:
    house.talks(house.log.person("Ada"), 20)
    for _ in range(2):
        counts, loaded = house.run()
        assert (loaded.unlearned, counts.taken_back) == ((), {})
        assert not (house.folder(1) / "data" / "unlearned.jsonl").exists()


def test_what_somebody_withdraws_is_measured_and_in_no_part_that_is_learnt(house: House) -> None:
    bob = house.log.person("Bob")
    theirs = house.talks(bob, 6)
    house.talks(house.log.person("Ada"), 20)
    _, before = house.run()
    trained = {each.source.conversation for each in before.train} & {f"log:{each}" for each in theirs}
    assert trained
    people.give_consent(house.log.store, bob.id, "no")  # type: ignore[arg-type]

    counts, loaded = house.run()

    assert of(loaded) == trained, "what was only validated on was not learned"
    assert counts.taken_back == {
        "people": 1,
        "conversations": len(trained),
        "examples": len(trained),
        "taught_by_others": 0,
    }
    assert learnt(loaded).isdisjoint(replies(loaded))
    assert all("<NAME_1>" in each and "Bob" not in each for each in replies(loaded))
    save_job(Job(bundled_model(), house.folder(2), Finetune(), loaded.train, loaded.validation))
    texts = {file.name: file.read_text() for file in house.folder(2).rglob("*") if file.is_file()}
    holding = {name for name, text in texts.items() if any(reply in text for reply in replies(loaded))}
    assert holding == {"unlearned.jsonl"}
    assert not any(f'"{each}"' in texts["manifest.json"] for each in of(loaded))


def test_who_agrees_again_is_learnt_from_and_not_measured_so(house: House) -> None:
    bob = house.log.person("Bob")
    house.talks(bob, 20)
    house.run()
    people.give_consent(house.log.store, bob.id, "no")  # type: ignore[arg-type]
    people.give_consent(house.log.store, bob.id, "yes")  # type: ignore[arg-type]
    assert house.run()[1].unlearned == ()


def test_what_was_said_after_it_had_learned_or_corrected_since_is_not_measured(house: House) -> None:
    bob = house.log.person("Bob")
    first, second, *_ = house.talks(bob, 6)
    house.talks(house.log.person("Ada"), 20)
    house.run()
    talk = conversations.get(house.log.store, first, bob.id)  # type: ignore[arg-type]
    house.log.rate(house.log.turn(talk, "Where is the new broom?", "The new broom stands in the hall, at 77."), 1)
    reply = conversations.path(house.log.store, conversations.get(house.log.store, second, bob.id).head_id)[-1]  # type: ignore[arg-type]
    house.log.correct(reply, "It is nowhere at all any more, and nobody knows why.")
    people.give_consent(house.log.store, bob.id, "no")  # type: ignore[arg-type]
    loaded = house.run()[1]
    assert loaded.unlearned
    assert not any("broom" in each or "nowhere" in each for each in replies(loaded))


def test_no_more_than_fifty_conversations_are_measured_the_newest(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taken_back, "CONVERSATIONS", 3)
    bob = house.log.person("Bob")
    house.talks(bob, 8)
    house.talks(house.log.person("Ada"), 20)
    _, before = house.run()
    trained = {int(each.source.conversation[4:]) for each in before.train if each.source.person_ids == (bob.id,)}
    people.give_consent(house.log.store, bob.id, "no")  # type: ignore[arg-type]
    assert of(house.run()[1]) == {f"log:{each}" for each in sorted(trained)[-3:]}


def test_what_is_forgotten_cannot_be_measured_unless_it_is_sealed(house: House) -> None:
    bob = house.log.person("Bob")
    house.talks(bob, 6)
    house.talks(house.log.person("Ada"), 20)
    house.run()
    people.forget(house.log.store, bob.id)  # type: ignore[arg-type]
    _, loaded = house.run()
    assert loaded.unlearned == ()


def test_what_is_sealed_is_measured_without_names_and_goes_when_the_new_adapter_is_in_force(house: House) -> None:
    bob = house.log.person("Bob")
    house.talks(bob, 6)
    house.talks(house.log.person("Ada"), 20)
    _, before = house.run()
    trained = {each.reply for each in before.train if each.source.person_ids == (bob.id,)}
    people.forget(house.log.store, bob.id, seal=True)  # type: ignore[arg-type]

    counts, loaded = house.run()

    assert replies(loaded) == trained, "as training would have had it, with the same placeholders"
    assert (counts.taken_back["people"], counts.taken_back["conversations"]) == (1, len(trained))
    assert learnt(loaded).isdisjoint(replies(loaded))
    forgotten.erase(house.settings, house.log.store, lambda record, folder: None)
    assert sealed.conversations(house.log.store, range(100)) == set()
    assert dataset.load(house.folder(2)).unlearned == ()


def test_a_run_that_was_cut_short_keeps_what_is_sealed_until_it_is_not(house: House) -> None:
    bob = house.log.person("Bob")
    house.talks(bob, 6)
    house.talks(house.log.person("Ada"), 20)
    house.run()
    people.forget(house.log.store, bob.id, seal=True)  # type: ignore[arg-type]
    _, loaded = house.run(comes_into_force=False)
    folder = house.folder(2)

    def erase() -> int:
        return forgotten.erase(house.settings, house.log.store, lambda record, folder: None, cut_short=True)

    assert erase() == 1, "of the first run's folder, whose texts nobody has cleared here"
    assert dataset.load(folder) == loaded, "it goes on from there"
    with house.log.store.writing() as session:
        session.exec(update(Sealed).values(sealed_at=now().replace(year=2020)))
    assert erase() == 1
    assert dataset.load(folder) == replace(loaded, unlearned=()), "and nothing else of it is done again"


def test_what_was_withdrawn_and_then_forgotten_leaves_a_run_that_was_cut_short(house: House) -> None:
    bob = house.log.person("Bob")
    house.talks(bob, 6)
    house.talks(house.log.person("Ada"), 20)
    house.run()
    people.give_consent(house.log.store, bob.id, "no")  # type: ignore[arg-type]
    _, loaded = house.run(comes_into_force=False)
    people.forget(house.log.store, bob.id)  # type: ignore[arg-type]
    forgotten.erase(house.settings, house.log.store, lambda record, folder: None, cut_short=True)
    assert loaded.unlearned
    assert dataset.load(house.folder(2)) == replace(loaded, unlearned=())


def test_what_others_taught_too_is_counted(house: House) -> None:
    bob, ada = house.log.person("Bob"), house.log.person("Ada")
    house.talks(bob, 5)
    house.talks(ada, 20)
    _, before = house.run()
    one = next(each for each in before.train if each.source.person_ids == (bob.id,))
    people.give_consent(house.log.store, bob.id, "no")  # type: ignore[arg-type]
    question, reply = one.question, one.reply.replace("<NAME_1>", "Ada")
    house.log.rate(house.log.turn(house.log.talk(ada), question, reply), 1)
    house.talks(ada, 12)  # newer ones, which are the test
    assert house.run()[0].taken_back["taught_by_others"] == 1


def test_a_run_is_worth_it_for_what_was_withdrawn_alone(house: House) -> None:
    bob = house.log.person("Bob")
    house.talks(bob, 6)
    house.talks(house.log.person("Ada"), 20)
    house.run()
    people.give_consent(house.log.store, bob.id, "no")  # type: ignore[arg-type]
    house.run(comes_into_force=False)
    refuse_too_little_new(house.settings, house.log.store, runs.get(house.log.store, 2), house.folder(2))


def test_texts_that_are_only_measured_leave_the_disk_with_the_others(house: House) -> None:
    bob = house.log.person("Bob")
    house.talks(bob, 6)
    house.talks(house.log.person("Ada"), 20)
    house.run()
    people.give_consent(house.log.store, bob.id, "no")  # type: ignore[arg-type]
    house.run()
    folders.clear_texts(house.folder(2))
    assert [each.name for each in house.folder(2).rglob("*")] == ["manifest.json"]


def test_how_long_something_stays_sealed_does_not_make_it_another_run() -> None:
    rest = {"finetune": {}, "file": "", "strict": False, "offline": False}
    assert same(rest | {"learning": {"redact": True}}, rest | {"learning": {"redact": True, "sealed_days": 3}})
    assert not same(rest | {"learning": {"redact": True}}, rest | {"learning": {"redact": False}})


# Three models on the same texts


def measured(*losses: float, tokens: int = 10) -> Measurements:
    each = tuple(Loss(f"unlearned {n}", f"log:{n}", loss * tokens, tokens) for n, loss in enumerate(losses))
    return Measurements("x", {"unlearned": each})


def test_the_new_one_is_compared_with_the_base_model_on_the_same_texts() -> None:
    low, back, base = (measured(*(at + n / 100 for n in range(20))) for at in (0.4, 2.1, 2.13))
    found = comparison.unlearned(low, back, base, {"people": 2, "taught_by_others": 3}, Gate())
    assert found is not None
    assert (found.people, found.conversations, found.taught_by_others) == (2, 20, 3)
    assert [round(each, 3) for each in (found.before, found.after, found.base)] == [0.495, 2.195, 2.225]
    assert found.difference == pytest.approx(-0.03)
    assert found.low is not None
    assert found.low <= -0.03 + 1e-9


def test_one_conversation_has_no_interval() -> None:
    found = comparison.unlearned(measured(0.4), measured(2.0), measured(2.1), {}, Gate())
    assert found is not None
    assert (found.low, found.high) == (None, None)


def test_what_was_not_measured_with_all_three_is_not_compared() -> None:
    two, one = measured(1, 2), measured(1)
    assert comparison.unlearned(two, two, None, {}, Gate()) is None
    assert comparison.unlearned(two, two, one, {}, Gate()) is None
    assert comparison.unlearned(one, two, two, {}, Gate()) is None
    assert comparison.unlearned(Measurements("x"), Measurements("x"), Measurements("x"), {}, Gate()) is None
