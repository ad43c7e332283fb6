"""The order of a run, what it leaves when it fails or is killed, and that nothing happens twice."""

from __future__ import annotations

import asyncio
import errno
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from filelock import FileLock

from bot.texts import texts_for
from engine.errors import EngineFailed
from finetune import folders
from finetune.errors import DataRefused, MethodRefused, NotEnoughData, RunNotFound, RunUnderWay, TrainingFailed
from finetune.job import Progress
from finetune.record import DataCounts
from finetune.run import STARTS, run, under_way
from finetune.stages import Ground
from settings import Settings
from store import adapters, lineage, notices, people, runs
from store.session import Store
from store.tables import now
from tests.finetune.standins import NAMES, StandIns, failing, say_something, settings_for, store_for

REPOSITORY = Path(__file__).parents[2]
POINTS = [f"{when} {stage}" for stage in NAMES for when in ("before", "within", "after")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    with store_for(folder) as store:
        yield store


@pytest.fixture
def settings(folder: Path) -> Settings:
    return settings_for(folder)


@pytest.fixture
def standins(folder: Path) -> StandIns:
    return StandIns(folder / "done")


def in_force(store: Store) -> int | None:
    row = adapters.active(store, "familiar")
    return row.version if row else None


def of_run(settings: Settings, number: int, name: str) -> Path:
    return folders.folder_of(settings, number) / name


# The order


async def test_a_run_goes_from_the_log_to_an_adapter_in_force(
    settings: Settings, store: Store, standins: StandIns
) -> None:
    seen: list[str] = []

    def told(progress: Progress) -> None:
        seen.append(progress.stage)
        assert runs.get(store, 1).state == progress.stage

    record = await run(settings, store, told=told, stages=standins.stages)
    assert standins.done == list(NAMES)
    assert seen == ["preparing", "training", "evaluating", "deciding", "promoting"]
    assert (record.verdict, record.said, record.version) == ("promoted", "It was promoted. familiar@1 is in force.", 1)
    assert (record.before, record.notes, set(record.seconds)) == ("base", ("nothing was left out",), set(seen))
    assert in_force(store) == 1
    row = runs.get(store, record.number)
    assert (row.state, row.verdict, row.said, row.version) == ("ended", "promoted", record.said, 1)
    assert (row.fingerprint, row.settings["finetune"]["rank"], row.numbers["steps"]) == ("f00", 16, 3)
    assert folders.load(folders.folder_of(settings, 1)) == record
    assert of_run(settings, 1, "report.html").read_text().startswith("promoted")


async def test_what_it_learned_from_does_not_lie_about_afterwards(
    settings: Settings, store: Store, standins: StandIns
) -> None:
    standins.learned = (1,)
    await run(settings, store, stages=standins.stages)
    left = {path.name for path in folders.folder_of(settings, 1).iterdir()}
    assert left == {"manifest.json", "adapter", "record.json", "report.html"}


@pytest.mark.parametrize("verdict", ["rejected", "not_proven"])
async def test_what_is_not_shown_to_be_better_changes_nothing(
    settings: Settings, store: Store, standins: StandIns, verdict: str
) -> None:
    standins.verdict = verdict
    record = await run(settings, store, stages=standins.stages)
    assert (record.verdict, record.said, record.version) == (verdict, f"It was {verdict}.", None)
    assert "promote" not in standins.done
    assert adapters.all_adapters(store) == []
    assert notices.waiting(store) == []  # the operator sat before it


async def test_what_is_only_to_be_measured_is_never_promoted(
    settings: Settings, store: Store, standins: StandIns
) -> None:
    record = await run(settings, store, offline=True, override="I say so", stages=standins.stages)
    assert (record.verdict, in_force(store)) == ("not_proven", None)
    assert "only to be measured" in record.said


@pytest.mark.parametrize("verdict", ["promoted", "rejected", "not_proven"])
async def test_of_a_scheduled_run_the_admins_are_told_what_came_of_it(
    settings: Settings, store: Store, standins: StandIns, verdict: str
) -> None:
    standins.verdict = verdict
    record = await run(settings, store, trigger="schedule", stages=standins.stages)
    (notice,) = notices.waiting(store)
    assert (notice.key, notice.args) == (f"learning.{verdict}", {"run": 1, "said": record.said})


async def test_the_next_run_is_compared_with_what_this_one_put_in_force(
    settings: Settings, store: Store, standins: StandIns
) -> None:
    await run(settings, store, stages=standins.stages)
    standins.messages = (5, 6, 7)
    record = await run(settings, store, stages=standins.stages)
    assert (record.number, record.before, record.version, in_force(store)) == (2, "familiar@1", 2, 2)


# Nothing to learn


async def test_what_was_found_in_a_file_is_noted_also_where_there_is_too_little_in_it(
    settings: Settings, store: Store, standins: StandIns
) -> None:
    standins.on = failing("before prepare", NotEnoughData("There is 1 example.", ("x.jsonl, line 4: it is empty.",)))
    record = await run(settings, store, stages=standins.stages)
    assert (record.verdict, record.notes) == ("nothing_to_learn", ("x.jsonl, line 4: it is empty.",))
    standins.on = lambda point: None

    def prepare(ground: Ground) -> DataCounts:
        return replace(standins.stages.prepare(ground), malformed=("x.jsonl, line 4: it is empty.",))

    record = await run(settings, store, stages=replace(standins.stages, prepare=prepare))
    assert record.notes == ("x.jsonl, line 4: it is empty.", "nothing was left out")


async def test_too_little_data_is_said_and_is_quiet(settings: Settings, store: Store, standins: StandIns) -> None:
    standins.on = failing("within prepare", NotEnoughData("There are 2 examples, and it takes 50."))
    record = await run(settings, store, trigger="schedule", stages=standins.stages)
    assert (record.verdict, record.said) == ("nothing_to_learn", "There are 2 examples, and it takes 50.")
    assert runs.get(store, 1).verdict == "nothing_to_learn"
    assert notices.waiting(store) == []
    assert not folders.folder_of(settings, 1).exists()


async def test_only_what_no_earlier_run_has_seen_counts_as_new(
    settings: Settings, store: Store, standins: StandIns
) -> None:
    standins.verdict = "rejected"
    await run(settings, store, trigger="schedule", stages=standins.stages)
    standins.messages = (1, 2, 3, 4, 5, 6)
    record = await run(settings, store, trigger="schedule", stages=standins.stages)
    assert record.verdict == "nothing_to_learn"
    assert record.said.startswith("2 of 6 examples are new since the last run, and a run takes 3 new ones")
    standins.messages = (1, 2, 3, 4, 5, 6, 7)
    record = await run(settings, store, trigger="schedule", stages=standins.stages)
    assert record.verdict == "rejected", "5, 6 and 7 were not seen by a run that came to a verdict"
    assert standins.done.count("train") == 2


async def test_what_was_corrected_since_is_new(settings: Settings, store: Store, standins: StandIns) -> None:
    await run(settings, store, trigger="schedule", stages=standins.stages)
    standins.at = (now() + timedelta(seconds=1)).isoformat()
    assert (await run(settings, store, trigger="schedule", stages=standins.stages)).verdict == "promoted"


async def test_a_failed_run_has_seen_nothing(settings: Settings, store: Store, standins: StandIns) -> None:
    standins.on = failing("within train")
    await run(settings, store, trigger="schedule", stages=standins.stages)
    standins.on = lambda point: None
    assert (await run(settings, store, trigger="schedule", stages=standins.stages)).verdict == "promoted"


async def test_by_hand_and_with_other_settings_the_same_examples_are_learnt_again(
    settings: Settings, store: Store, standins: StandIns
) -> None:
    await run(settings, store, stages=standins.stages)
    assert (await run(settings, store, stages=standins.stages)).verdict == "nothing_to_learn"
    assert (await run(settings, store, method="ia3", stages=standins.stages)).verdict == "promoted"


async def test_a_file_of_examples_is_always_new(
    settings: Settings, store: Store, standins: StandIns, tmp_path: Path
) -> None:
    standins.messages = ()
    for _ in range(2):
        record = await run(settings, store, file=tmp_path / "mine.jsonl", stages=standins.stages)
        assert record.verdict == "promoted"


async def test_somebody_who_was_forgotten_is_a_reason_to_learn_anew(
    settings: Settings, store: Store, standins: StandIns
) -> None:
    (talk,) = say_something(store)
    await run(settings, store, stages=standins.stages)
    lineage.trained_on(store, adapters.get(store, "familiar", 1).id, [talk.id])
    assert (await run(settings, store, stages=standins.stages)).verdict == "nothing_to_learn"
    people.forget(store, talk.person_id)
    assert (await run(settings, store, stages=standins.stages)).verdict == "promoted"


# Failures


@pytest.mark.parametrize("point", POINTS)
async def test_a_failure_leaves_everything_as_it_was_and_tells_the_admins(
    settings: Settings, store: Store, standins: StandIns, point: str
) -> None:
    await run(settings, store, stages=standins.stages)
    standins.on, standins.messages = failing(point), (5, 6, 7)
    record = await run(settings, store, stages=standins.stages)
    assert (record.verdict, record.said) == ("failed", f"It broke {point}.")
    assert (runs.get(store, 2).verdict, runs.get(store, 2).state) == ("failed", "ended")
    (notice,) = notices.waiting(store)
    assert (notice.key, notice.args) == ("learning.failed", {"run": 2, "said": f"It broke {point}."})
    if point != "after promote":  # where it is in force already, and only the word of it failed
        assert in_force(store) == 1
    assert not under_way(settings)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (EngineFailed("The engine did not become ready."), "did not become ready"),
        (ZeroDivisionError("in the middle"), "Something unforeseen went wrong (ZeroDivisionError)"),
    ],
)
async def test_every_kind_of_failure_is_told_in_words(
    settings: Settings, store: Store, standins: StandIns, error: Exception, said: str
) -> None:
    standins.on = failing("within evaluate", error)
    record = await run(settings, store, stages=standins.stages)
    assert said in record.said
    assert said in runs.get(store, 1).said


@pytest.mark.parametrize(
    ("error", "key"),
    [
        (MethodRefused("Its rank is too large."), "refused"),
        (DataRefused("my.jsonl cannot be read."), "refused"),
        (TrainingFailed("It was killed."), "failed"),
        (OSError("No space left on device"), "failed"),
    ],
)
async def test_only_what_could_end_otherwise_is_advised_to_be_gone_on_with(
    settings: Settings, store: Store, standins: StandIns, error: Exception, key: str
) -> None:
    standins.on = failing("within train", error)
    record = await run(settings, store, stages=standins.stages)
    assert (record.verdict, record.can_go_on) == ("failed", key == "failed")
    (notice,) = notices.waiting(store)
    assert notice.key == f"learning.{key}"
    for language in ("en", "zh"):
        assert ("--resume 1" in texts_for(language).t(notice.key, **notice.args)) == record.can_go_on
    standins.on = failing("within train")
    assert (await run(settings, store, resume=1, stages=standins.stages)).can_go_on, "something was done about it"


async def test_a_failed_run_goes_on_where_it_failed(settings: Settings, store: Store, standins: StandIns) -> None:
    standins.on = failing("within evaluate")
    await run(settings, store, stages=standins.stages)
    assert of_run(settings, 1, "data").exists()
    standins.on = lambda point: None
    record = await run(settings, store, resume=1, stages=standins.stages)
    assert (record.number, record.verdict) == (1, "promoted")
    assert standins.done == list(NAMES)
    assert not of_run(settings, 1, "data").exists()


async def test_a_resumed_run_keeps_the_settings_that_it_began_with(
    settings: Settings, store: Store, standins: StandIns
) -> None:
    standins.on = failing("before train")
    await run(settings, store, method="dora", stages=standins.stages)
    standins.on = lambda point: None
    record = await run(settings, store, resume=1, stages=standins.stages)
    assert record.training is not None
    assert record.training.method == "dora"


async def test_a_report_that_cannot_be_written_changes_nothing_of_the_outcome(
    settings: Settings, store: Store, standins: StandIns
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    standins._render = full  # type: ignore[method-assign]
    assert (await run(settings, store, stages=standins.stages)).verdict == "promoted"
    assert runs.get(store, 1).verdict == "promoted"


# Killed


@pytest.mark.parametrize("point", POINTS)
async def test_a_run_that_is_killed_goes_on_and_nothing_is_done_twice(
    settings: Settings, store: Store, standins: StandIns, folder: Path, point: str
) -> None:
    killed = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.finetune.standins", str(folder), point), cwd=REPOSITORY, stderr=subprocess.PIPE
    )
    _, said = await killed.communicate()
    assert killed.returncode == -9, said.decode()
    stage = point.split()[1]
    (cut_short,) = runs.unfinished(store)
    assert cut_short.state == {"prepare": "preparing", "promote": "promoting"}.get(stage, cut_short.state)
    assert not under_way(settings), "the lock went with the process"
    assert [row.version for row in adapters.all_adapters(store) if row.active] in ([], [1])

    record = await run(settings, store, stages=standins.stages)
    assert (record.number, record.verdict, record.version) == (1, "promoted", 1)
    assert [(row.version, row.active) for row in adapters.all_adapters(store)] == [(1, True)]
    twice = [stage] if point.startswith("after") else []  # done, and killed before that was written down
    assert sorted(standins.done) == sorted([*NAMES, *twice])
    assert [row.state for row in runs.listing(store)] == ["ended"]


async def test_what_is_cut_short_again_and_again_is_given_up_and_told(
    settings: Settings, store: Store, standins: StandIns
) -> None:
    standins.on = failing("within train", asyncio.CancelledError())  # type: ignore[arg-type]
    for _ in range(STARTS):
        with pytest.raises(asyncio.CancelledError):
            await run(settings, store, stages=standins.stages)
    record = await run(settings, store, stages=standins.stages)
    assert (record.number, record.verdict) == (1, "failed")
    assert f"cut short {STARTS} times" in record.said
    assert [each.key for each in notices.waiting(store)] == ["learning.failed"]
    standins.on = lambda point: None
    assert (await run(settings, store, resume=1, stages=standins.stages)).verdict == "promoted"


async def test_other_settings_begin_a_new_run_in_the_place_of_one_that_was_cut_short(
    settings: Settings, store: Store, standins: StandIns
) -> None:
    standins.on = failing("within train", asyncio.CancelledError())  # type: ignore[arg-type]
    with pytest.raises(asyncio.CancelledError):
        await run(settings, store, stages=standins.stages)
    standins.on = lambda point: None
    record = await run(settings, store, method="ia3", stages=standins.stages)
    assert (record.number, record.verdict) == (2, "promoted")
    assert runs.get(store, 1).verdict == "failed"
    assert not of_run(settings, 1, "data").exists()


# Two at once


async def test_a_second_run_is_refused_while_one_goes_on(settings: Settings, store: Store, standins: StandIns) -> None:
    standins.held = asyncio.Event()
    first = asyncio.create_task(run(settings, store, stages=standins.stages))
    await standins.reached.wait()
    assert under_way(settings)
    with pytest.raises(RunUnderWay, match=r"Run 1 \(training\) is going on"):
        await run(settings, store, stages=standins.stages)
    standins.held.set()
    assert (await first).verdict == "promoted"
    assert [row.id for row in runs.listing(store)] == [1]


async def test_another_process_s_run_keeps_this_one_out(settings: Settings, store: Store, standins: StandIns) -> None:
    folders.root(settings).mkdir(parents=True)
    with FileLock(folders.root(settings) / ".lock"), pytest.raises(RunUnderWay):
        await run(settings, store, stages=standins.stages)
    assert runs.listing(store) == []


# Resuming and overriding by hand


async def test_a_run_that_is_over_is_not_resumed(settings: Settings, store: Store, standins: StandIns) -> None:
    await run(settings, store, stages=standins.stages)
    with pytest.raises(RunNotFound, match=r"Run 1 is over \(promoted\)"):
        await run(settings, store, resume=1, override="again", stages=standins.stages)
    with pytest.raises(RunNotFound, match="no run 9"):
        await run(settings, store, resume=9, stages=standins.stages)
    assert standins.done == list(NAMES)


@pytest.mark.parametrize("verdict", ["rejected", "not_proven"])
async def test_an_operator_may_promote_what_the_gate_did_not_and_that_is_written_down(
    settings: Settings, store: Store, standins: StandIns, verdict: str, caplog: pytest.LogCaptureFixture
) -> None:
    standins.verdict = verdict
    await run(settings, store, stages=standins.stages)
    with pytest.raises(RunNotFound, match="--override"):
        await run(settings, store, resume=1, stages=standins.stages)
    record = await run(settings, store, resume=1, override="I read the samples", stages=standins.stages)
    assert (record.verdict, record.version, in_force(store)) == ("promoted", 1, 1)
    assert record.decision is not None
    assert (record.decision.verdict, record.decision.overridden) == (verdict, "I read the samples")
    assert "I read the samples" in record.said
    assert "I read the samples" in caplog.text
    assert standins.done == list(NAMES), "nothing was trained or measured again"


async def test_an_override_is_not_needed_where_the_gate_promotes(
    settings: Settings, store: Store, standins: StandIns
) -> None:
    record = await run(settings, store, override="in any case", stages=standins.stages)
    assert record.decision is not None
    assert record.decision.overridden == ""


# Old folders


async def test_of_old_runs_only_the_manifest_stays(folder: Path, store: Store, standins: StandIns) -> None:
    settings = settings_for(folder, keep_runs=2)
    for number in range(1, 5):
        standins.messages = tuple(range(number * 10, number * 10 + 3))
        await run(settings, store, stages=standins.stages)
    kept = {number: {path.name for path in there.iterdir()} for number, there in folders.everyone(settings)}
    assert kept[1] == kept[2] == {"manifest.json"}
    assert "record.json" in kept[3]
    assert "record.json" in kept[4]
    standins.messages = (10, 11, 12)
    assert (await run(settings, store, stages=standins.stages)).verdict == "nothing_to_learn"


async def test_a_folder_of_another_database_is_not_taken_for_this_one_s(
    settings: Settings, store: Store, standins: StandIns
) -> None:
    left = of_run(settings, 1, "data")
    left.mkdir(parents=True)
    (left / "secret.jsonl").write_text("{}")
    standins.on = lambda point: None if point != "before train" else _refuse(left / "secret.jsonl")
    assert (await run(settings, store, stages=standins.stages)).verdict == "promoted"


def _refuse(file: Path) -> None:
    assert not file.exists()
