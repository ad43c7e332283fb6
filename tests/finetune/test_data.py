"""From a log or a file to a run's data set: nothing private in it, nothing learnt that is tested, nothing lost."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from engine.errors import ModelUnavailable
from finetune import dataset, evaluate, redact
from finetune.data import prepare
from finetune.dataset import Loaded, Manifest
from finetune.errors import DataRefused, NotEnoughData
from finetune.job import Job, Progress
from finetune.record import DataCounts
from settings import Data, Finetune, Settings
from store import conversations, people
from store.tables import Conversation, Correction, Message
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


LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


class StandIn:
    """Finds e-mail addresses and the names that it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], list[str]]] = []

    def conversation(self, texts: Sequence[str], names: Sequence[str] = ()) -> tuple[list[str], Counter[str]]:
        self.calls.append((list(texts), list(names)))
        places: dict[str, str] = {}
        counts: Counter[str] = Counter()

        def placed(match: re.Match[str]) -> str:
            kind = "EMAIL" if "@" in match[0] else "NAME"
            counts[kind] += 1
            return places.setdefault(match[0], f"<{kind}_{len(places) + 1}>")

        pattern = "|".join([r"[\w.]+@[\w.]+\w", *[rf"\b{re.escape(each)}\b" for each in names]])
        return [re.sub(pattern, placed, text) for text in texts], counts


@pytest.fixture
def redactor(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    made = StandIn()
    monkeypatch.setattr(redact, "Redactor", lambda: made)
    return made


@pytest.fixture(autouse=True)
def _no_real_redactor(redactor: StandIn) -> None:
    """It takes seconds to load; one test below uses it."""


FEW = {"finetune": {"min_new_examples": 10}}
KEPT = {**FEW, "learning": {"kept_share": 1}}


@pytest.fixture
def prepared(log: MadeLog, tmp_path: Path) -> Any:
    """prepared(number, ...): run `number`'s data set is prepared; its counts, what it holds, and its manifest."""

    def run(
        number: int = 1, sections: dict[str, Any] | None = None, **more: Any
    ) -> tuple[DataCounts, Loaded, Manifest]:
        folder = tmp_path / str(number)
        folder.mkdir(exist_ok=True)
        given = FEW | (sections or {})
        settings = Settings(data=Data(folder=tmp_path), **given)  # type: ignore[arg-type]
        counts = prepare(log.store, settings, bundled_model(), folder, **more)
        return counts, dataset.load(folder), dataset.manifest_of(folder)

    return run


def talks(log: MadeLog, many: int, first: int = 0, person: str = "Ada", place: str = "") -> None:
    """Conversations of two turns, each about something else, the second reply rated up."""
    ada = log.person(person)
    for number in range(first, first + many):
        thing, where = f"{THINGS[number % 12]} {number * 7919}", PLACES[number % 6]
        talk = log.talk(ada, place)
        log.turn(talk, f"Do you know the {thing}?", f"The {thing}, yes: number {number * 104729} of our list.")
        log.rate(log.turn(talk, f"Where is {thing}?", f"You find {thing} {where}, at {number * 1299709}."), 1)


def test_a_log_becomes_a_data_set_in_which_every_reply_is_accounted_for(log: MadeLog, prepared: Any) -> None:
    talks(log, 20)
    log.rate(log.turn(log.talk(log.person("Bob", "no")), "Hello", "Hi"), 1)
    log.turn(log.talk(log.person()), "Hello", "Hi")
    counts, loaded, manifest = prepared()
    assert counts.conversations == {"train": 13, "validation": 2, "test": 5}
    assert counts.sides == {"train": len(loaded.train), "validation": len(loaded.validation), "test": len(loaded.test)}
    assert counts.left_out == {"no_consent": 1, "not_gone_on_with": 1}
    assert sum(counts.sides.values()) + sum(counts.left_out.values()) == 42
    assert counts.examples == {"rated_up": 20, "unremarked": 20}
    assert (counts.people, counts.consent, counts.source) == (1, {"no": 1, "yes": 1}, "log")
    assert counts.fingerprint == manifest.fingerprint
    assert sum(len(manifest.message_ids[side]) for side in ("train", "validation", "test")) == 40


def test_the_same_log_gives_the_same_data_set(log: MadeLog, prepared: Any) -> None:
    talks(log, 15)
    assert prepared(1)[0] == prepared(1)[0] == prepared(2)[0]


def test_personal_data_is_in_no_file_and_the_same_person_has_one_placeholder(
    log: MadeLog, prepared: Any, tmp_path: Path, redactor: StandIn
) -> None:
    talks(log, 12)
    talk = log.talk(log.person("Ada"))
    log.correct(log.turn(talk, "I am Ada, ada@example.org", "Hello ada@example.org"), "Hello Ada at ada@example.org")
    bob = log.person("Bob")
    quote = log.ask(talk, "So?", sent="Bob said hello", quoted=[bob.id])
    prompt = [{"role": "user", "content": "Bob said hello to Ada"}]
    log.rate(log.reply(quote, "Bob is at bob@example.org now", prompt=prompt), -1)
    counts, loaded, _ = prepared()
    written = "".join(file.read_text("utf-8") for file in (tmp_path / "1").rglob("*") if file.is_file())
    for private in ("Ada", "Bob", "example.org"):
        assert private not in written
    (corrected,) = [
        each for side in (loaded.train, loaded.validation, loaded.test) for each in side if "Hello" in each.reply
    ]
    (name, mail) = re.search(r"I am (\S+), (\S+)", corrected.question).groups()  # type: ignore[union-attr]
    assert corrected.reply == f"Hello {name} at {mail}"
    assert set(counts.redactions) == {"EMAIL", "NAME"}
    assert len(redactor.calls) == 13
    assert redactor.calls[-1][1] == ["Ada", "Bob"]


def test_redaction_can_be_switched_off(log: MadeLog, prepared: Any, redactor: StandIn) -> None:
    talks(log, 12)
    log.rate(log.turn(log.talk(log.person()), "Mail?", "It is ada@example.org."), 1)
    counts, loaded, _ = prepared(sections={"finetune": {"min_new_examples": 10}, "learning": {"redact": False}})
    assert any("ada@example.org" in each.reply for side in (loaded.train, loaded.test) for each in side)
    assert (counts.redactions, redactor.calls) == ({}, [])


def test_the_real_redactor_keeps_the_contract(
    log: MadeLog, prepared: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()
    talks(log, 8)
    log.rate(
        log.turn(log.talk(log.person()), "我的邮箱是 ada@example.org，电话 13800138000", "好的，ada@example.org"), 1
    )
    counts, _, _ = prepared()
    assert sum(counts.redactions.values()) >= 3
    written = "".join(file.read_text("utf-8") for file in (tmp_path / "1").rglob("*.jsonl"))
    assert not any(private in written for private in ("ada@example.org", "13800138000"))


# Too little


def test_too_few_examples_say_how_many_there_are_how_many_it_takes_and_what_would_count(
    log: MadeLog, prepared: Any, tmp_path: Path
) -> None:
    talks(log, 3)
    log.rate(log.turn(log.talk(log.person("Bob", "")), "Hello", "Hi"), 1)
    with pytest.raises(NotEnoughData) as told:
        prepared()
    assert "There are 6 examples to learn from, and a run takes 10" in str(told.value)
    assert "corrected, rated up" in str(told.value)
    assert "1 said yes" in str(told.value)
    assert "1 have not answered" in str(told.value)
    assert "1 no consent" in str(told.value)
    assert list((tmp_path / "1").iterdir()) == []


def test_an_empty_log_is_too_little(prepared: Any) -> None:
    with pytest.raises(NotEnoughData, match="There are 0 examples"):
        prepared()


def test_one_endless_conversation_cannot_be_learnt_from_and_tested_on(log: MadeLog, prepared: Any) -> None:
    talk = log.talk(log.person())
    for number in range(12):
        log.rate(log.turn(talk, f"{THINGS[number]} {number * 7919}?", f"{number * 104729} {THINGS[-number]}"), 1)
    with pytest.raises(NotEnoughData, match="12 examples of 1 conversation cannot be divided"):
        prepared()


def test_a_model_without_a_tokenizer_is_named(log: MadeLog, tmp_path: Path) -> None:
    talks(log, 10)
    settings = Settings(finetune={"min_new_examples": 10})  # type: ignore[arg-type]
    with pytest.raises(ModelUnavailable, match=r"tokenizer\.json"):
        prepare(log.store, settings, tmp_path / "none", tmp_path / "1")


# What earlier runs saw


def test_what_is_forgotten_leaves_the_next_data_set_and_is_counted(log: MadeLog, prepared: Any) -> None:
    talks(log, 10)
    talks(log, 10, 10, person="Bob")
    _, _, manifest = prepared(1)
    learned = {each for each in manifest.conversations["train"] if int(each.partition(":")[2]) > 10}
    bob = people.person_for(log.store, "terminal", "Bob")
    people.forget(log.store, bob.id)
    counts, loaded, again = prepared(2, earlier=[manifest])
    assert counts.forgotten == len(learned) > 0
    assert bob.id in manifest.person_ids
    assert bob.id not in again.person_ids
    assert not any(number in each.reply for each in loaded.train for number in [str(15 * 1299709)])


def test_who_takes_the_consent_back_is_left_out_of_the_next_data_set(log: MadeLog, prepared: Any) -> None:
    talks(log, 10)
    talks(log, 10, 10, person="Bob")
    _, _, manifest = prepared(1)
    bob = people.person_for(log.store, "terminal", "Bob")
    people.give_consent(log.store, bob.id, "no")
    counts, _, again = prepared(2, earlier=[manifest])
    assert bob.id not in again.person_ids
    assert counts.left_out == {"no_consent": 20}


def test_a_run_from_the_base_tests_on_what_no_adapter_has_learnt_and_learns_all_the_rest(
    log: MadeLog, prepared: Any
) -> None:
    talks(log, 10)
    _, _, first = prepared(1)
    with log.store.reading() as session:  # a conversation that was learnt from goes on today
        old = session.get_one(Conversation, int(first.conversations["train"][0].partition(":")[2]))
    log.rate(log.turn(old, "Anything else about owls?", "They sleep all day, 55443322."), 1)
    talks(log, 10, 10)
    _, loaded, second = prepared(2, {**FEW, "learning": {"kept_share": 0}}, earlier=[first])
    assert not set(second.conversations["test"]) & set(first.conversations["train"])
    learnt = {*second.conversations["train"], *second.conversations["validation"]}
    assert set(first.conversations["train"]) <= learnt
    assert set(first.conversations["test"]) <= {*learnt, *second.conversations["test"]}
    assert loaded.earlier == ()
    assert loaded.rounds == {}


def test_a_share_of_an_earlier_test_is_never_learnt_and_always_the_same(log: MadeLog, prepared: Any) -> None:
    talks(log, 40)
    _, _, first = prepared(1)
    talks(log, 20, 40)
    _, loaded, second = prepared(2, earlier=[first])
    kept = {each.source.conversation for each in loaded.rounds[1]}
    assert kept < set(first.conversations["test"])
    talks(log, 20, 60)
    _, loaded, third = prepared(3, earlier=[first, second])
    assert {each.source.conversation for each in loaded.rounds[1]} == kept
    for manifest in (second, third):
        assert not kept & {each for side in manifest.conversations.values() for each in side}
        assert set(first.conversations["test"]) - kept <= {
            each for side in manifest.conversations.values() for each in side
        }


def test_what_is_learnt_in_nearly_the_same_words_shows_nothing_of_what_is_forgotten(
    log: MadeLog, prepared: Any
) -> None:
    talks(log, 10)
    _, before, first = prepared(1)
    held_out = next(each for each in before.test if each.why == "rated_up")
    twin = log.talk(log.person("Bob"))
    log.rate(log.turn(twin, held_out.question, held_out.reply), 1)
    talks(log, 12, 10)
    _, loaded, second = prepared(2, KEPT, earlier=[first])
    assert f"log:{twin.id}" in second.conversations["train"], "or this shows nothing"
    assert held_out.source.conversation not in {
        each.source.conversation for each in loaded.rounds[1] if each.reply == held_out.reply
    }


def test_a_run_from_the_last_adapter_learns_what_is_new_and_keeps_the_rest_for_replay(
    log: MadeLog, prepared: Any
) -> None:
    talks(log, 10)
    _, _, first = prepared(1)
    talks(log, 10, 10)
    last = {"finetune": {"min_new_examples": 10, "start": "last"}, "learning": {"kept_share": 0}}
    _, loaded, second = prepared(2, last, earlier=[first])
    replayed = {each for item in loaded.earlier for each in item.source.message_ids}
    assert replayed == set(first.message_ids["train"]) == set(second.message_ids["earlier"])
    new = {each for side in ("train", "validation", "test") for each in second.message_ids[side]}
    assert not new & replayed
    assert set(first.message_ids["test"]) <= new


def test_a_correction_made_since_is_new_also_of_a_reply_that_was_learnt(log: MadeLog, prepared: Any) -> None:
    talks(log, 10)
    _, loaded, first = prepared(1)
    learnt = loaded.train[0].source
    with log.store.reading() as session:
        reply = session.get_one(Message, learnt.message_ids[0])
    log.correct(reply, "Nobody knows, 99887766.")
    talks(log, 6, 20)
    _, loaded, _ = prepared(2, {"finetune": {"min_new_examples": 10, "start": "last"}}, earlier=[first])
    assert [each.reply for each in loaded.train if each.why == "corrected"] == ["Nobody knows, 99887766."]
    assert learnt.conversation not in {each.source.conversation for each in loaded.test}


def test_a_deleted_conversation_is_in_no_test_of_an_earlier_run(log: MadeLog, prepared: Any) -> None:
    talks(log, 10)
    _, _, first = prepared(1)
    gone = int(first.conversations["test"][0].partition(":")[2])
    conversations.delete(log.store, gone, people.person_for(log.store, "terminal", "Ada").id)
    talks(log, 10, 10)
    _, loaded, _ = prepared(2, KEPT, earlier=[first])
    assert f"log:{gone}" not in {each.source.conversation for each in loaded.rounds[1]}
    assert len(loaded.rounds[1]) == len(first.message_ids["test"]) - 2


def test_pairs_that_say_what_is_tested_are_not_learnt(log: MadeLog, prepared: Any) -> None:
    talks(log, 10)
    twin = log.talk(log.person())
    thing = f"{THINGS[9]} {9 * 7919}"
    asked = log.ask(twin, f"Where is {thing}?")
    worse = log.reply(asked, "No idea at all.")
    log.rate(worse, -1)
    log.correct(worse, f"You find {thing} {PLACES[9 % 6]}, at {9 * 1299709}.")
    with log.store.writing() as session:  # the twin is old: it would be learnt from
        session.get_one(Message, worse.id).created_at = LONG_AGO
        for correction in session.exec(select(Correction)):
            correction.at = LONG_AGO
    counts, loaded, _ = prepared()
    tested = {each.reply for each in loaded.test}
    assert not tested & {each.chosen for each in loaded.preferences}
    assert counts.left_out.get("duplicate", 0) + counts.left_out.get("near_duplicate_of_test", 0) == 1


def test_pairs_and_ratings_are_learnt_of_train_measured_of_test_and_of_validation_for_nothing(
    log: MadeLog, prepared: Any, tmp_path: Path
) -> None:
    talks(log, 20)
    ada = log.person()
    for number in range(20, 40):  # one after the other between those that are only rated
        thing = f"{THINGS[number % 12]} {number * 7919}"
        worse = log.turn(log.talk(ada), f"Where is {thing}?", f"The {thing}? I have never heard of it.")
        log.rate(worse, -1)
        log.correct(worse, f"You find {thing} {PLACES[number % 6]}, at {number * 1299709}.")
    counts, loaded, manifest = prepared()
    sides = {
        side: {each.source.conversation for each in getattr(loaded, side)} for side in ("train", "validation", "test")
    }
    pairs = {
        name: {each.source.conversation for each in getattr(loaded, name)}
        for name in ("preferences", "judged", "test_preferences", "test_judged")
    }
    assert counts.preferences == 20
    assert all(pairs.values()), "there are some of each"
    assert pairs["preferences"] | pairs["judged"] <= sides["train"]
    assert pairs["test_preferences"] | pairs["test_judged"] <= sides["test"]
    corrected = {
        side: {each.source.conversation for each in getattr(loaded, side) if each.why == "corrected"} for side in sides
    }
    assert (pairs["preferences"], pairs["test_preferences"]) == (corrected["train"], corrected["test"])
    assert corrected["validation"]
    assert not set(manifest.conversations["pairs"]) & (sides["validation"] | sides["test"])
    measured = evaluate._of(Job(bundled_model(), tmp_path / "1", Finetune(), loaded.train, loaded.validation))
    assert measured.preferences == loaded.test_preferences


# Groups


def test_groups_are_learnt_apart_where_they_have_adapters_of_their_own(log: MadeLog, prepared: Any) -> None:
    talks(log, 10)
    talks(log, 10, 10, place="-100/7")
    assert sum(prepared(1)[0].conversations.values()) == 20
    apart = {"finetune": {"min_new_examples": 10}, "learning": {"apart": "groups"}}
    for place, first in (("", 0), ("telegram:-100", 10)):
        counts, loaded, _ = prepared(2, apart, place=place)
        assert sum(counts.conversations.values()) == 10
        assert counts.left_out == {"other_place": 20}
        assert {each.source.place for each in (*loaded.train, *loaded.test)} == {place}
        assert any(str((first + 9) * 1299709) in each.reply for each in loaded.test)


# Files


def rows(many: int) -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "user", "content": f"Where is the {THINGS[n % 12]} {n * 7919}?"},
                {"role": "assistant", "content": f"Ask bob@example.org, {PLACES[n % 6]}, {n * 1299709}."},
            ]
        }
        for n in range(many)
    ]


def written(file: Path, lines: Sequence[Any]) -> Path:
    file.write_text("\n".join(each if isinstance(each, str) else json.dumps(each) for each in lines), "utf-8")
    return file


def test_a_file_is_learnt_from_in_the_logs_place_redacted_and_divided_too(
    log: MadeLog, prepared: Any, tmp_path: Path
) -> None:
    talks(log, 12)
    told: list[Progress] = []
    file = written(tmp_path / "mine.jsonl", [*rows(20), "broken"])
    counts, loaded, manifest = prepared(file=file, told=told.append)
    assert (counts.source, counts.examples, counts.left_out) == ("mine.jsonl", {"imported": 20}, {"malformed": 1})
    assert counts.conversations == {"train": 13, "validation": 2, "test": 5}
    assert all("<EMAIL_1>" in each.reply for each in loaded.train)
    assert manifest.message_ids["train"] == ()
    assert [each.said for each in told if each.said] == ["collecting", "redacting", "cleaning", "saving"]


def test_malformed_lines_are_named_with_their_reason_and_never_kept_in_the_manifest(
    prepared: Any, tmp_path: Path
) -> None:
    file = written(tmp_path / "mine.jsonl", [*rows(20), *["{broken"] * 10, '{"messages": "my secret"}', "[1]"])
    counts, _, manifest = prepared(file=file)
    assert counts.left_out["malformed"] == 12
    assert counts.malformed[0].startswith("mine.jsonl, line 21, was passed over: it is not JSON (")
    assert [re.findall(r"line (\d+)", each) for each in counts.malformed[:10]] == [[str(n)] for n in range(21, 31)]
    assert counts.malformed[10:] == ("So were 2 more lines of mine.jsonl.",)
    assert manifest.counts.malformed == ()
    assert "passed over" not in (tmp_path / "1" / "manifest.json").read_text()


def test_too_little_in_a_file_names_its_malformed_lines_too(prepared: Any, tmp_path: Path) -> None:
    with pytest.raises(NotEnoughData, match="2 malformed") as refused:
        prepared(file=written(tmp_path / "mine.jsonl", [*rows(3), "{broken", "{broken"]))
    assert [each.split(",")[1] for each in refused.value.notes] == [" line 4", " line 5"]


def test_a_file_of_pairs_alone_is_told_what_it_lacks(prepared: Any, tmp_path: Path) -> None:
    pairs = [{"prompt": f"Why {n}?", "chosen": "Because.", "rejected": "No."} for n in range(60)]
    labelled = {"prompt": "Why?", "completion": "Because.", "label": True}
    file = written(tmp_path / "pairs.jsonl", [*pairs, labelled])
    with pytest.raises(NotEnoughData) as refused:
        prepared(file=file, sections={"finetune": {"preferences": "dpo"}})
    said = str(refused.value)
    assert "There are 0 examples to learn from in pairs.jsonl, and a run takes 50" in said
    assert "60 pairs and 1 labelled reply are no examples: they are learnt from in a second stage" in said
    assert '{"messages": [...]}' in said
    assert "/privacy" not in said, "nobody has to agree to a file"


def test_a_malformed_line_refuses_the_file_where_that_is_wanted(prepared: Any, tmp_path: Path) -> None:
    file = written(tmp_path / "mine.jsonl", [*rows(20), "broken"])
    with pytest.raises(DataRefused, match="line 21"):
        prepared(file=file, strict=True)


def test_a_file_with_too_little_in_it_says_so(prepared: Any, tmp_path: Path) -> None:
    with pytest.raises(NotEnoughData, match=r"3 examples to learn from in mine\.jsonl"):
        prepared(file=written(tmp_path / "mine.jsonl", rows(3)))


def test_what_earlier_runs_were_tested_on_in_the_log_is_measured_after_learning_from_a_file_too(
    log: MadeLog, prepared: Any, tmp_path: Path
) -> None:
    talks(log, 10)
    _, _, first = prepared(1)
    counts, loaded, _ = prepared(2, KEPT, file=written(tmp_path / "mine.jsonl", rows(20)), earlier=[first])
    assert len(loaded.rounds[1]) == len(first.message_ids["test"])
    assert counts.forgotten == 0
