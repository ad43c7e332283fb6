"""A stage of a run in a process of its own: `python -m finetune.work train|evaluate|anchors FOLDER`.

Of its own, because torch keeps the memory it once had, because a run may be killed or run out of memory at any time
without anybody who talks with the assistant noticing, and because it can be given the lowest priority: people wait for
the engine, nobody waits for this.

What it says is JSON, a line each, on its standard output: progress, and at the end why it failed, if it did. What
libraries print goes to standard error. It ends when its standard input does, that is with whoever started it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO

import finetune.errors
from engine.errors import EngineError
from finetune import gpus
from finetune.errors import FinetuneError, RunUnderWay
from finetune.job import Progress, Told, progress_as_json

STAGES = ("train", "evaluate", "anchors")
WAIT_S = 10.0  # for one that was killed, until the kernel has put it away


def do(stage: str, folder: Path, told: Told) -> None:
    """Raises FinetuneError."""
    match stage:
        case "train":
            _train(folder, told)
        case "evaluate":
            from finetune import evaluate

            evaluate.main(folder, told)
        case "anchors":
            from finetune import continual
            from finetune.files import read_json

            wanted = read_json(folder / "anchors.json")
            cache = Path(wanted["cache"])
            continual.anchors(Path(wanted["model_folder"]), wanted["count"], wanted["seed"], cache, told)


def _train(folder: Path, told: Told) -> None:
    from finetune import job, training
    from finetune.files import write_json

    wanted = job.load(folder)
    trained = training.train(wanted, told)
    if wanted.settings.preferences == "off" or not (wanted.preferences or wanted.judged):
        return
    from finetune import prefer

    if not (folder / "adapter").is_dir() or (folder / prefer.DONE).is_file():
        return
    preferred = prefer.prefer(wanted, folder / "adapter", told)
    if not _is_first():
        return
    write_json(folder / prefer.DONE, asdict(preferred))
    write_json(
        folder / training.TRAINING,
        json.loads((folder / training.TRAINING).read_text())
        | {"seconds": trained.seconds + preferred.seconds, "steps": trained.steps + preferred.steps},
    )


def main() -> None:
    stage, folder = sys.argv[1], Path(sys.argv[2])
    spoken = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _give_way()
    gpus.keep_to_share()
    first = _is_first()
    with _answering(spoken), _alone(folder) if first else contextlib.nullcontext():
        do(stage, folder, _teller(folder, spoken) if first else lambda progress: None)


def _is_first() -> bool:
    """Of several that train together; the others only compute."""
    return os.environ.get("RANK", "0") == "0"


def _teller(folder: Path, spoken: IO[str]) -> Told:
    def told(progress: Progress) -> None:
        line = json.dumps(progress_as_json(progress), ensure_ascii=False)
        print(line, file=spoken, flush=True)
        with contextlib.suppress(OSError), (folder / "progress.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")  # for onlookers: a run does not end because nobody can follow it

    return told


@contextlib.contextmanager
def _answering(spoken: IO[str]) -> Iterator[None]:
    """Say in a line why it failed, where that is known; what is not known leaves a traceback."""
    try:
        yield
    except (FinetuneError, EngineError) as error:
        kind = type(error).__name__
        known = hasattr(finetune.errors, kind)
        print(json.dumps({"failed": str(error), "kind": kind if known else ""}), file=spoken, flush=True)
        sys.exit(1)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else works in this folder meanwhile: a lock that the kernel takes back however we end."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".working").open("w") as lock:
        until = time.monotonic() + WAIT_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > until:
                    raise RunUnderWay(f"Another process works on the run in {folder}.") from None
                time.sleep(0.1)
        yield


def _give_way() -> None:
    """Last to get the processor, first to go when memory is short.

    Where the kernel groups processes by session, niceness counts within the session alone and the group has one of its
    own (sched(7), "The autogroup feature"). A run's process has its session for itself.
    """
    os.nice(19)
    for file, value in (("autogroup", "19"), ("oom_score_adj", "1000")):
        with contextlib.suppress(OSError):
            Path("/proc/self", file).write_text(value)


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
