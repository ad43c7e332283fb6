"""Starts finetune.work for a stage of a run, follows it, and ends it with everything it started."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import deque
from pathlib import Path

import finetune.errors
from finetune.errors import EvaluationFailed, FinetuneError, TrainingFailed
from finetune.gpus import Room
from finetune.job import Told, progress_from_json
from settings import REPOSITORY

TAIL = 25  # lines of what it said, for who has to find out why it failed
LONGEST_LINE = 1 << 20

# It downloads nothing, and tells nobody.
QUIET = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}
# Threads that wait for each other sleep instead of spinning. Beside a busy engine a step takes several times as long
# when they spin, and the engine's replies with it: of 471 tokens/s alone on 2 cores, 51 were left beside one busy
# process (bench.finetune). So it is 347 and 304.
PATIENT = {"OMP_WAIT_POLICY": "passive"}
PROCESSOR = Room()


async def run_stage(
    stage: str,
    folder: Path,
    *,
    told: Told = lambda progress: None,
    timeout_s: float | None = None,
    room: Room = PROCESSOR,
) -> None:
    """Do a stage ("train", "evaluate", "anchors") of the run in `folder`; its results lie there afterwards.

    `room`: the GPUs that it works on; a training takes all of them, one process each.

    Cancelled, or when this process is killed, it ends at once, and can be begun again: it goes on from where it was.
    Raises what the stage raises (see finetune.errors), TrainingFailed or EvaluationFailed when it dies.
    """
    process = await asyncio.create_subprocess_exec(
        *_command(stage, folder, len(room.gpus)),
        cwd=REPOSITORY,
        env=PATIENT | os.environ | QUIET | room.environment(),
        stdin=asyncio.subprocess.PIPE,  # never written to: its end tells the process that we are gone
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        pass_fds=() if room.held is None else (room.held,),  # the engine has them back when this process is gone, too
        limit=LONGEST_LINE,
    )
    said: deque[str] = deque(maxlen=TAIL)
    try:
        async with asyncio.timeout(timeout_s):
            reading = asyncio.create_task(_read_errors(process, said))
            failure = await _follow(process, told)
            await reading
            code = await process.wait()
    except TimeoutError:
        raise _died(stage, "was ended, for the run took longer than it may (finetune.timeout_hours).") from None
    finally:
        await _end(process)
    if failure is not None:
        raise failure
    if code:
        raise _died(stage, _explained(code, said))


def _command(stage: str, folder: Path, gpus: int) -> list[str]:
    work = ["-m", "finetune.work", stage, str(folder)]
    if gpus < 2 or stage != "train":
        return [sys.executable, *work]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1"]
    launch += ["--main_process_port", "0"]  # a free one
    return [*launch, "--num_processes", str(gpus), "--mixed_precision", "no", "--dynamo_backend", "no", *work]


async def _follow(process: asyncio.subprocess.Process, told: Told) -> FinetuneError | None:
    """Pass its progress on; the failure it told of, if it did."""
    assert process.stdout is not None
    failure = None
    async for line in process.stdout:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if not isinstance(row, dict):
            continue
        if "failed" in row:
            failure = getattr(finetune.errors, row["kind"] or "TrainingFailed")(row["failed"])
        elif "stage" in row:
            told(progress_from_json(row))
    return failure


async def _read_errors(process: asyncio.subprocess.Process, said: deque[str]) -> None:
    assert process.stderr is not None
    rest = ""
    while chunk := await process.stderr.read(65536):
        *lines, rest = (rest + chunk.decode("utf-8", errors="replace")).replace("\r", "\n").split("\n")
        rest = rest[-4096:]
        said.extend(line for line in lines if line.strip())
    if rest.strip():
        said.append(rest)


async def _end(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _explained(code: int, said: deque[str]) -> str:
    if code == -signal.SIGKILL:
        return (
            "was killed, most likely because memory was short. Set finetune.checkpointing to 'on', or lower "
            "finetune.micro_batch_tokens. Run it again: it goes on from its last checkpoint."
        )
    how = f"signal {-code}" if code < 0 else f"exit {code}"
    return f"ended unexpectedly ({how}). The end of what it said:\n" + "\n".join(said)


def _died(stage: str, how: str) -> FinetuneError:
    return EvaluationFailed(f"Evaluation {how}") if stage == "evaluate" else TrainingFailed(f"Training {how}")
