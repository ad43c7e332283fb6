"""The predicted quality of the replies before and after: shown where ratings can be foretold, and only there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from finetune import dataset, folders, foretold, wiring
from finetune.examples import Judged
from finetune.foretold import NEWEST
from finetune.measurements import Measurements
from finetune.record import DataCounts
from finetune.report.words import number, unit
from finetune.run import run
from finetune.split import Sides
from finetune.stages import Ground, Trained
from knowledge.embedding import bundled
from knowledge.errors import EmbeddingsFailed
from settings import Gate, Settings
from tests.finetune.standins import StandIns, settings_for, store_for
from tests.finetune.test_gate import measured, replies
from tests.finetune.test_quality import embed, rated
from tests.finetune.tiny import example

CURT = measured("base", replies=replies(["No idea , look it up yourself , bye ."] * 12))
KIND = replace(CURT, model="familiar@1", replies=replies(["Here is how it is done , step by step ."] * 12))
SETTINGS = Settings(gate=Gate(resamples=200))


@pytest.fixture(autouse=True)
def _embedder(monkeypatch: pytest.MonkeyPatch) -> None:
    made = SimpleNamespace(embed_passages=embed, close=lambda: None)
    monkeypatch.setattr(bundled, "open_bundled", lambda settings: made)


def run_folder(folder: Path, judged: Sequence[Judged]) -> Path:
    test = tuple(example("And then?", "Nothing.", conversation=f"test:{number}") for number in range(12))
    dataset.save(folder, Sides((example("Why?", "So."),), (), test), (), judged, DataCounts())
    return folder


def test_replies_as_people_rate_them_up_are_predicted_to_be_better(tmp_path: Path) -> None:
    found = foretold.foretold(run_folder(tmp_path, rated(160)), CURT, KIND, SETTINGS)
    (row,) = found.rows
    assert (row.name, row.better, row.n) == ("predicted quality of replies", "higher", 12)
    assert row.before < 0.4 < 0.6 < row.after
    assert row.low is not None
    assert row.low > 0.2
    assert number(0.25, unit(row.name)) == "25%"
    (note,) = found.notes
    assert "on 160 rated replies" in note

    (back,) = foretold.foretold(tmp_path, KIND, CURT, SETTINGS).rows
    assert back.difference == pytest.approx(-row.difference)


def test_where_ratings_follow_nothing_in_the_text_there_is_no_row_and_the_note_says_so(tmp_path: Path) -> None:
    found = foretold.foretold(run_folder(tmp_path, rated(200, telling=False)), CURT, KIND, SETTINGS)
    assert found.rows == ()
    assert found.notes[0].startswith("From their text, ratings cannot be foretold better than by a guess. Macro F1")


@pytest.mark.parametrize("judged", [[], rated(30), [replace(each, good=True) for each in rated(160)]])
def test_with_too_few_ratings_nothing_is_said_of_them(judged: list[Judged], tmp_path: Path) -> None:
    assert foretold.foretold(run_folder(tmp_path, judged), CURT, KIND, SETTINGS) == foretold.Foretold()


def test_without_replies_there_is_nothing_to_foretell(tmp_path: Path) -> None:
    none = replace(KIND, replies=())
    assert foretold.foretold(run_folder(tmp_path, rated(160)), CURT, none, SETTINGS) == foretold.Foretold()


def test_ratings_of_the_replies_own_conversations_are_not_learnt_from(tmp_path: Path) -> None:
    of_the_test = [
        replace(each, source=replace(each.source, conversation=f"test:{at % 12}")) for at, each in enumerate(rated(160))
    ]
    assert foretold.foretold(run_folder(tmp_path, of_the_test), CURT, KIND, SETTINGS) == foretold.Foretold()


def test_of_very_many_ratings_the_newest_count(tmp_path: Path) -> None:
    begun = datetime(2026, 1, 1, tzinfo=UTC)

    def at(judged: list[Judged], hours: int) -> list[Judged]:
        return [replace(each, source=replace(each.source, at=begun + timedelta(hours=hours))) for each in judged]

    people_changed_their_minds = [replace(each, good=not each.good) for each in rated(NEWEST, seed=1)]
    judged = [*at(rated(NEWEST), 0), *at(people_changed_their_minds, 1), *rated(40)]
    (row,) = foretold.foretold(run_folder(tmp_path, judged), CURT, KIND, SETTINGS).rows
    assert row.difference < 0


def test_a_run_whose_ratings_cannot_be_embedded_goes_on_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(settings: Settings) -> None:
        raise EmbeddingsFailed("The disk is full.")

    monkeypatch.setattr(bundled, "open_bundled", fails)
    found = foretold.foretold(run_folder(tmp_path, rated(160)), CURT, KIND, SETTINGS)
    assert found == foretold.Foretold(
        notes=("What people would say of the replies was not foretold: The disk is full.",)
    )


@pytest.mark.parametrize("after", [KIND, replace(CURT, model="familiar@1")])
async def test_a_run_shows_it_and_its_verdict_does_not_depend_on_it(
    after: Measurements, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(tmp_path)
    monkeypatch.setattr("finetune.evaluate.read", lambda folder: (CURT, after))
    monkeypatch.setattr("finetune.evaluate.read_base", lambda folder: None)
    standins = StandIns(tmp_path / "done")

    async def train(ground: Ground) -> Trained:
        run_folder(ground.folder, rated(160))
        return await standins.stages.train(ground)

    with store_for(tmp_path) as store:
        record = await run(settings, store, stages=replace(standins.stages, train=train, decide=wiring.decide))
    assert record.table, record.said
    assert record.table[-1].name == "predicted quality of replies"
    assert any("The predicted quality of replies is as sure as this" in note for note in record.notes)
    assert record.verdict == "rejected", "likelihoods are what they were"
    assert record.decision is not None
    assert not any("quality" in each.name for each in record.decision.checks)
    assert folders.load(folders.folder_of(settings, 1)) == record
