"""A stage in its own process: what it says, how it fails, and that nothing of it is left when its caller goes."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from engine.adapter_check import check
from finetune import job as jobs
from finetune import process, work
from finetune.errors import DataRefused, EvaluationFailed, RunUnderWay, TrainingFailed
from finetune.examples import Preference, Source
from finetune.files import read_lines
from finetune.job import Job, Progress, progress_from_json
from finetune.process import run_stage
from finetune.training import load_training, train
from settings import REPOSITORY, Finetune
from tests.finetune.tiny import chat_model, examples


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Somebody else works in this folder: a stage that is started there waits."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".working").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def working_on(folder: Path) -> list[psutil.Process]:
    found = []
    for each in psutil.process_iter():
        try:
            if "finetune.work" in each.cmdline() and str(folder) in each.cmdline() and each.status() != "zombie":
                found.append(each)
        except psutil.Error:
            continue
    return found


async def until(condition: object) -> None:
    assert callable(condition)
    while not condition():
        await asyncio.sleep(0.05)


@pytest.fixture
async def waiting(tmp_path: Path) -> AsyncIterator[asyncio.Task[None]]:
    """A stage under way that does nothing yet."""
    with held(tmp_path):
        task = asyncio.create_task(run_stage("train", tmp_path))
        await until(lambda: working_on(tmp_path))
        yield task
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_training_in_its_own_process_is_followed_and_leaves_its_adapter(tmp_path: Path) -> None:
    model_folder = chat_model(tmp_path / "model")
    settings = Finetune(kl=0, batch_tokens=256, dtype="float32", threads=1, epochs=2)
    folder = tmp_path / "run"
    jobs.save(Job(model_folder, folder, settings, examples(8), examples(3, first=100)))
    told: list[Progress] = []

    await run_stage("train", folder, told=told.append)

    assert (folder / "adapter" / "adapter_model.safetensors").is_file()
    done = load_training(folder)
    assert [each.done for each in told] == list(range(1, done.steps + 1))
    assert [progress_from_json(row) for row in read_lines(folder / "progress.jsonl")] == told
    assert not (folder / "checkpoints").exists()


async def test_what_is_known_to_be_wrong_is_raised_here_as_it_was_there(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text("{")

    with pytest.raises(DataRefused, match=r"job\.json is not JSON"):
        await run_stage("train", tmp_path)


async def test_what_nobody_foresaw_is_raised_with_the_end_of_what_it_said(tmp_path: Path) -> None:
    (tmp_path / "job.json").mkdir()
    (tmp_path / "anchors.json").write_text("{}")

    with pytest.raises(TrainingFailed, match=r"(?s)ended unexpectedly \(exit 1\).*KeyError"):
        await run_stage("anchors", tmp_path)


async def test_a_stage_that_is_killed_by_the_system_says_that_memory_was_short(
    tmp_path: Path, waiting: asyncio.Task[None]
) -> None:
    for each in working_on(tmp_path):
        each.kill()

    with pytest.raises(TrainingFailed, match="memory was short"):
        await waiting


async def test_a_cancelled_stage_is_gone_at_once(tmp_path: Path, waiting: asyncio.Task[None]) -> None:
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert working_on(tmp_path) == []


async def test_a_stage_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(EvaluationFailed, match="timeout_hours"):
        await run_stage("evaluate", tmp_path, timeout_s=0.5)

    assert working_on(tmp_path) == []


async def test_a_stage_whose_parent_is_killed_ends_too(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys; from pathlib import Path; from finetune.process import run_stage\n"
        "asyncio.run(run_stage('train', Path(sys.argv[1])))"
    )
    with held(tmp_path):
        parent = await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(tmp_path), cwd=REPOSITORY)
        try:
            await until(lambda: working_on(tmp_path))
        finally:
            parent.kill()
            await parent.wait()

        await until(lambda: not working_on(tmp_path))


GROUPED = Path("/proc/self/autogroup").exists()


async def test_a_stage_gives_way_to_everything_else(tmp_path: Path, waiting: asyncio.Task[None]) -> None:
    def polite() -> bool:
        return all(
            each.nice() == 19
            and Path(f"/proc/{each.pid}/oom_score_adj").read_text().strip() == "1000"
            and (not GROUPED or Path(f"/proc/{each.pid}/autogroup").read_text().strip().endswith("nice 19"))
            for each in working_on(tmp_path)
        )

    await until(polite)
    assert all(os.getpgid(each.pid) == each.pid for each in working_on(tmp_path))


def test_two_do_not_work_on_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "WAIT_S", 0.2)

    with held(tmp_path), pytest.raises(RunUnderWay, match=str(tmp_path)), work._alone(tmp_path):
        pytest.fail("it worked beside another")
    with work._alone(tmp_path):
        pass  # once that one is gone


async def test_what_libraries_print_is_not_taken_for_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = '{"stage": "training", "done": 1, "total": 2, "said": "", "point": null}'
    script = f"print('Loading weights: 100%'); print('{{'); print('{row}'); print('{{\"other\": 1}}')"

    def chatty(stage: str, folder: Path, gpus: int) -> list[str]:
        return [sys.executable, "-c", script]

    monkeypatch.setattr(process, "_command", chatty)
    told: list[Progress] = []
    await run_stage("train", tmp_path, told=told.append)

    assert told == [Progress("training", 1, 2)]


async def test_very_much_on_standard_error_does_not_block_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import sys; sys.stderr.write('\\r50%' * 500_000 + '\\nthe last word'); sys.exit(3)"

    def noisy(stage: str, folder: Path, gpus: int) -> list[str]:
        return [sys.executable, "-c", script]

    monkeypatch.setattr(process, "_command", noisy)
    with pytest.raises(EvaluationFailed, match=r"(?s)exit 3.*the last word"):
        await run_stage("evaluate", tmp_path)


@pytest.mark.timeout(300)  # three processes that load torch
def test_two_processes_train_what_one_would_and_go_on_with_preferences(tmp_path: Path) -> None:
    """As launchers start them on several GPUs, here on the CPU."""
    model_folder = chat_model(tmp_path / "model")
    settings = Finetune(kl=0, batch_tokens=192, micro_batch_tokens=64, dtype="float32", threads=1, epochs=1)
    job = Job(model_folder, tmp_path / "one", settings, examples(10), examples(3, first=100))
    preferring = settings.model_copy(update={"preferences": "dpo"})
    jobs.save(replace(job, folder=tmp_path / "two", settings=preferring, preferences=pairs(4)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    ends_with_us, kept = os.pipe()
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "finetune.work", "train", str(tmp_path / "two")],
            cwd=REPOSITORY,
            env=os.environ | meeting | {"RANK": rank},
            stdin=ends_with_us,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    one = train(job)
    said, silence = (each.communicate()[0] for each in both)
    os.close(ends_with_us)
    os.close(kept)

    assert [each.returncode for each in both] == [0, 0]
    two = load_training(tmp_path / "two")
    heard = [json.loads(line) for line in said.splitlines()]
    assert [each["done"] for each in heard] == [*range(1, one.steps + 1), 1, 2]
    assert {each["stage"] for each in heard[-2:]} == {"preferring"}
    assert two.steps == one.steps + 2
    assert silence == ""
    check(tmp_path / "two" / "adapter", model_folder, max_rank=settings.rank)
    for mine, theirs in zip(one.curve, two.curve, strict=True):
        assert theirs.validation == pytest.approx(mine.validation, abs=2e-5)
        assert theirs.train == pytest.approx(mine.train, abs=2e-5)


def pairs(count: int) -> tuple[Preference, ...]:
    asked = ({"role": "user", "content": "How do I open the door?"},)
    said = [(f"Turn the handle {number} times.", "I do not know.") for number in range(count)]
    return tuple(Preference(asked, better, worse, "corrected", Source("log:1")) for better, worse in said)


def test_signal_numbers_are_explained() -> None:
    assert "memory" in process._explained(-signal.SIGKILL, process.deque())
    assert "signal 11" in process._explained(-signal.SIGSEGV, process.deque(["bang"]))
