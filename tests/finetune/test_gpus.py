"""Where a stage works, and that the engine makes room on its GPU. The GPUs are made up; the processes are real."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from engine.hardware import Gpu, Hardware
from engine.process import LocalEngine, _as_environment
from engine.state import State
from finetune import gpus, process
from finetune.errors import FinetuneError
from finetune.gpus import Room, choose, engine_takes, visible
from finetune.job import Progress
from finetune.process import run_stage
from settings import REPOSITORY, Data, Engine, Finetune, Settings
from tests.fakes.vllm import eventually

SUPERVISED = REPOSITORY / "tests" / "engine" / "supervised.py"
SMALL = Gpu("L4", 24, 23, "GPU-small")
LARGE = Gpu("H100", 80, 79, "GPU-large")
BUSY = Gpu("H100", 80, 12, "GPU-busy")


def settings_of(gpu: str = "sleep", **engine: object) -> Settings:
    return Settings(engine=Engine(**engine), finetune=Finetune(gpu=gpu))  # type: ignore[arg-type]


# Which


def test_on_one_gpu_the_engine_sleeps_while_what_it_leaves_is_too_little() -> None:
    assert choose(settings_of(), [SMALL], needed_gib=4) == Room((SMALL,), engine="sleep")


def test_what_fits_beside_the_engine_does_not_make_it_sleep_and_takes_no_more() -> None:
    chosen = choose(settings_of(), [LARGE], needed_gib=4)
    assert chosen.engine == "beside"
    assert chosen.share * 80 == pytest.approx(80 * 0.15 - 2)


def test_shared_training_keeps_to_what_the_engine_has_left_for_it() -> None:
    chosen = choose(settings_of("share"), [SMALL], needed_gib=400)
    assert chosen.engine == "beside"
    assert chosen.share * 24 == pytest.approx(24 * 0.4 - 2)


@pytest.mark.parametrize("gpu", ["sleep", "share"])
def test_gpus_that_nobody_uses_are_taken_and_the_engine_is_left_alone(gpu: str) -> None:
    chosen = choose(settings_of(gpu), [BUSY, LARGE, BUSY, SMALL], needed_gib=400)
    assert chosen == Room((LARGE, SMALL))
    assert choose(settings_of(gpu), [LARGE, BUSY], 400).gpus == (LARGE,), "the engine's, which may just be starting"


def test_an_engine_over_several_gpus_keeps_them_all() -> None:
    over_two = settings_of(flags=("--tensor-parallel-size", "2"))
    assert choose(over_two, [BUSY, BUSY, LARGE], 400) == Room((LARGE,))
    assert choose(over_two, [BUSY, BUSY], 400) == Room((BUSY, BUSY), engine="sleep")


@pytest.mark.parametrize(
    ("flags", "many"),
    [
        ((), 1),
        (("-tp", "4"), 4),
        (("--tensor_parallel_size=2", "--pipeline-parallel-size", "2"), 4),
        (("--data-parallel-size", "two"), 1),
        (("--tensor-parallel-size",), 1),
    ],
)
def test_how_many_gpus_the_engine_takes(flags: tuple[str, ...], many: int) -> None:
    assert engine_takes(Engine(flags=flags)) == many


def test_somebody_elses_engine_is_never_put_to_sleep() -> None:
    elsewhere = settings_of(url="http://example.org:8000")
    assert choose(elsewhere, [LARGE, BUSY], 400) == Room((LARGE,))
    assert choose(elsewhere, [BUSY], 400) == Room((BUSY,))


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (None, ("GPU-small", "GPU-large", "GPU-busy")),
        ("2,0", ("GPU-busy", "GPU-small")),
        ("GPU-lar", ("GPU-large",)),
        ("1,9,0", ("GPU-large",)),
        ("", ()),
        ("-1", ()),
        ("MIG-1234", ()),
    ],
)
def test_an_operator_may_keep_gpus_from_it(wanted: str | None, found: tuple[str, ...]) -> None:
    environment = {} if wanted is None else {"CUDA_VISIBLE_DEVICES": wanted}
    assert tuple(gpu.uuid for gpu in visible([SMALL, LARGE, BUSY], environment)) == found


# The command line


def test_on_a_processor_and_on_one_gpu_it_is_one_process() -> None:
    one = [sys.executable, "-m", "finetune.work", "train", "/run"]
    assert process._command("train", Path("/run"), 0) == one
    assert process._command("train", Path("/run"), 1) == one


def test_on_several_gpus_accelerate_starts_a_process_for_each() -> None:
    from accelerate.commands.launch import launch_command_parser

    python, m, module, *given = process._command("train", Path("/run"), 3)
    assert [python, m, module] == [sys.executable, "-m", "accelerate.commands.launch"]
    understood = launch_command_parser().parse_args(given)
    assert (understood.multi_gpu, understood.num_processes, understood.main_process_port) == (True, 3, 0)
    assert (understood.module, understood.training_script) == (True, "finetune.work")
    assert understood.training_script_args == ["train", "/run"]


@pytest.mark.parametrize("stage", ["evaluate", "anchors"])
def test_what_is_not_training_is_one_process_anywhere(stage: str) -> None:
    assert process._command(stage, Path("/run"), 4)[2:] == ["finetune.work", stage, "/run"]


def test_the_process_sees_its_gpus_and_its_share_alone() -> None:
    assert Room((LARGE, SMALL)).environment() == {"CUDA_VISIBLE_DEVICES": "GPU-large,GPU-small"}
    assert Room((LARGE,), 0.25).environment()["FAMILIAR_GPU_SHARE"] == "0.250"
    assert Room((Gpu("old driver", 24),)).environment() == {}
    assert Room().environment() == {}


# The engine makes room


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=Data(folder=tmp_path), engine=Engine(model="bundled"))


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"hidden_size": 4096, "num_hidden_layers": 32, "vocab_size": 150000}')
    return folder


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpus, "detect", lambda: Hardware((SMALL,), 2, 16))


async def until(condition: Callable[[], bool]) -> None:
    await eventually(condition, 60)  # a process is started meanwhile, and others work on the machine, too


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[LocalEngine]:
    """Ready, over a stand-in for vLLM."""
    made = LocalEngine(settings)
    made.files.make()
    with made.files.supervisor_log.open("ab") as log:
        environment = os.environ | _as_environment(settings)
        command = [sys.executable, str(SUPERVISED)]
        started = await asyncio.create_subprocess_exec(
            *command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    await until(lambda: made.state().phase == "ready")
    yield made
    await made.stop()
    await started.wait()


def doing(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr(process, "_command", lambda stage, folder, many: [sys.executable, "-c", script, str(folder)])


SAYS_WHAT_IT_SEES = """
import json, os, sys
from pathlib import Path
from engine.folder import EngineFolder
engine = EngineFolder(Path(sys.argv[1]))
given = [os.path.basename(os.path.realpath(f"/proc/self/fd/{number}")) for number in range(3, 64)]
seen = [engine.lent(), engine.read().asleep, os.environ["CUDA_VISIBLE_DEVICES"], "lent" in given]
print(json.dumps({"stage": "training", "done": 1, "total": 1, "said": json.dumps(seen), "point": None}))
"""


async def test_the_engine_sleeps_exactly_while_the_stage_works(
    settings: Settings, model_folder: Path, one_gpu: None, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    doing(monkeypatch, SAYS_WHAT_IT_SEES)
    told: list[Progress] = []
    async with gpus.room(settings, model_folder, "training", told.append) as room:
        await run_stage("train", settings.data.folder, told=told.append, room=room)
    assert "to sleep" in told[0].said
    assert json.loads(told[1].said) == ["sleep", True, "GPU-small", True]
    await until(lambda: engine.state().phase == "ready")


async def test_a_stage_that_fails_gives_the_gpu_back(
    settings: Settings, model_folder: Path, one_gpu: None, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    doing(monkeypatch, "import sys; sys.exit(3)")
    with pytest.raises(FinetuneError):
        async with gpus.room(settings, model_folder, "training", lambda told: None) as room:
            await run_stage("train", settings.data.folder, room=room)
    await until(lambda: engine.state().phase == "ready")


RUN = """
import asyncio, sys
from pathlib import Path
from engine.hardware import Gpu, Hardware
from finetune import gpus, process
from settings import Data, Engine, Settings

gpus.detect = lambda: Hardware((Gpu("L4", 24, 23, "GPU-small"),), 2, 16)
work = "import os; print(os.getpid(), file=open(__import__('sys').argv[1] + '/working', 'w')); input()"
process._command = lambda stage, folder, many: [sys.executable, "-c", work, str(folder)]

async def main():
    folder = Path(sys.argv[1])
    settings = Settings(data=Data(folder=folder), engine=Engine(model="bundled"))
    async with gpus.room(settings, folder / "model", "training", lambda told: None) as room:
        await process.run_stage("train", folder, room=room)

asyncio.run(main())
"""


async def test_the_engine_wakes_when_the_run_is_killed_and_its_process_with_it(
    settings: Settings, model_folder: Path, engine: LocalEngine
) -> None:
    folder = settings.data.folder
    environment = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    run = subprocess.Popen([sys.executable, "-c", RUN, str(folder)], cwd=REPOSITORY, env=environment)  # noqa: ASYNC220
    await until(lambda: (folder / "working").exists())
    assert engine.state().asleep
    run.send_signal(signal.SIGKILL)
    await asyncio.to_thread(run.wait)
    await until(lambda: engine.state().phase == "ready")
    state: State = engine.state()
    assert (state.sleeps, state.restarts) == (1, 0)


async def test_without_a_gpu_the_engine_goes_on(
    settings: Settings, model_folder: Path, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "detect", lambda: Hardware((), 2, 16))
    async with gpus.room(settings, model_folder, "training", lambda told: pytest.fail("it waited")) as room:
        assert room == Room()
        assert engine.files.lent() == ""
        assert engine.state().phase == "ready"
