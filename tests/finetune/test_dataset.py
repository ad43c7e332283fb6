"""A data set comes back from the disk as it was, and its manifest says what it was when the texts are gone."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from finetune import folders
from finetune.dataset import fingerprint, load, manifest_of, save
from finetune.errors import DataRefused
from finetune.examples import Judged, Preference, Source
from finetune.record import DataCounts
from finetune.split import Sides
from tests.finetune.made_log import example

AT = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)
SIDES = Sides(
    (example("你好", "您好 👋", "log:1", at=AT, message_ids=(2,), person_ids=(1, 9), language="zh"),),
    (example("b", "bb", "log:2", message_ids=(4,), person_ids=(1,)),),
    (example("c\u2028d", "cc", "log:3", message_ids=(6,), person_ids=(2,), place="telegram:-100"),),
)
PROMPT = ({"role": "user", "content": "x"},)
PREFERENCES = (
    Preference(PROMPT, "good", "bad", "rated", Source("log:1", message_ids=(2, 3))),
    Preference(PROMPT, "better", "worse", "corrected", Source("log:3", message_ids=(6,))),
)
JUDGED = (
    Judged(PROMPT, "bad", False, Source("log:4", message_ids=(8,), person_ids=(3,))),
    Judged(PROMPT, "fine", True, Source("log:3", message_ids=(6,))),
    Judged(PROMPT, "so so", True, Source("log:2", message_ids=(4,))),
)
COUNTS = DataCounts(examples={"rated_up": 3}, left_out={"loops": 1}, people=2)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "7"


def test_everything_comes_back_and_what_is_of_the_test_is_kept_from_what_is_learnt(run: Path) -> None:
    earlier, rounds = (example("e", "ee", "log:5"),), {2: SIDES.train, 10: SIDES.test}
    save(run, SIDES, PREFERENCES, JUDGED, COUNTS, earlier=earlier, rounds=rounds)
    loaded = load(run)
    assert (loaded.train, loaded.validation, loaded.test) == (SIDES.train, SIDES.validation, SIDES.test)
    assert (loaded.preferences, loaded.test_preferences) == (PREFERENCES[:1], PREFERENCES[1:])
    assert (loaded.judged, loaded.test_judged) == (JUDGED[:1], JUDGED[1:2])
    assert (loaded.earlier, loaded.rounds) == (earlier, rounds)


def test_the_manifest_says_which_messages_conversations_and_people_it_was(run: Path) -> None:
    made = save(run, SIDES, PREFERENCES, JUDGED, COUNTS)
    manifest = manifest_of(run)
    assert manifest == made
    assert manifest.number == 7
    assert manifest.message_ids == {
        "train": (2,),
        "validation": (4,),
        "test": (6,),
        "earlier": (),
        "pairs": (2, 3, 8),
    }
    assert manifest.conversations["pairs"] == ("log:1", "log:4")
    assert manifest.person_ids == (1, 2, 3, 9)
    assert manifest.learned() == {"log:1", "log:4"}
    assert manifest.of_the_log() == {1, 2, 4}
    assert manifest.of_the_log(pairs=False) == {1, 2}
    assert manifest.counts == replace(COUNTS, fingerprint=manifest.fingerprint)


def test_the_manifest_stays_without_a_word_when_the_texts_are_erased(run: Path) -> None:
    save(run, SIDES, PREFERENCES, JUDGED, COUNTS, rounds={2: SIDES.test})
    folders.clear_texts(run)
    assert [each.relative_to(run).as_posix() for each in run.rglob("*") if each.is_file()] == ["manifest.json"]
    assert manifest_of(run).message_ids["pairs"] == (2, 3, 8)
    assert "您好" not in (run / "manifest.json").read_text("utf-8")
    with pytest.raises(DataRefused, match=r"train\.jsonl"):
        load(run)


def test_saving_again_leaves_nothing_of_what_was_there(run: Path) -> None:
    save(run, SIDES, PREFERENCES, JUDGED, COUNTS, earlier=SIDES.train, rounds={2: SIDES.test})
    save(run, Sides(SIDES.test, (), SIDES.train), (), (), COUNTS)
    loaded = load(run)
    assert (loaded.train, loaded.test) == (SIDES.test, SIDES.train)
    assert (loaded.validation, loaded.preferences, loaded.earlier, loaded.rounds) == ((), (), (), {})


def test_nobody_else_on_the_machine_can_read_it(run: Path) -> None:
    save(run, SIDES, PREFERENCES, JUDGED, COUNTS)
    assert {each.stat().st_mode & 0o077 for each in run.rglob("*") if each.is_file()} == {0}


def test_a_data_set_that_was_not_written_to_its_end_has_no_manifest(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(run, SIDES, PREFERENCES, JUDGED, COUNTS)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("finetune.dataset.write_lines", full)
    with pytest.raises(OSError, match="No space left"):
        save(run, SIDES, PREFERENCES, JUDGED, COUNTS)
    with pytest.raises(DataRefused):
        manifest_of(run)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"number": 1}', "null"])
def test_a_manifest_that_is_none_is_refused(run: Path, content: str) -> None:
    run.mkdir()
    (run / "manifest.json").write_text(content)
    with pytest.raises(DataRefused, match=r"manifest\.json"):
        manifest_of(run)


def test_a_row_that_is_cut_or_of_another_kind_is_named(run: Path) -> None:
    save(run, SIDES, PREFERENCES, JUDGED, COUNTS)
    file = run / "data" / "train.jsonl"
    whole = file.read_text("utf-8")
    for content, line in ((whole[: len(whole) // 2], 1), (whole + json.dumps({"messages": []}) + "\n", 2)):
        file.write_text(content, "utf-8")
        with pytest.raises(DataRefused, match=rf"train\.jsonl, line {line}"):
            load(run)


def test_the_fingerprint_is_of_the_data_and_not_of_its_order() -> None:
    assert fingerprint(SIDES.train, SIDES.test) == fingerprint((*SIDES.test, *SIDES.train))
    prints = {
        fingerprint(()),
        fingerprint(SIDES.train),
        fingerprint(SIDES.train, SIDES.train),
        fingerprint(SIDES.train, PREFERENCES),
        fingerprint([replace(SIDES.train[0], weights=(0.0, 0.5))]),
        fingerprint([example("你好", "您好", "log:1")]),
    }
    assert len(prints) == 6
    assert all(len(each) == 64 for each in prints)
