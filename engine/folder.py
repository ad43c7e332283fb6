"""The folder through which the processes of one machine share one engine.

    var/engine/lock          held (flock) by the supervisor for as long as it lives, with its pid inside
    var/engine/state.json    the State, replaced whole at every change; readable by its owner only: the API key is in it
    var/engine/group         vLLM's process group, so that a later supervisor can end one that was left behind
    var/engine/used          touched whenever somebody wants the engine
    var/engine/lent          held (flock) by whoever trains on the engine's GPU; says whether the engine is to sleep
    var/engine/onto          the whole model (name@version) to start vLLM onto next, until it is served or left out
    var/engine/stopped       touched whenever somebody wants it ended
    var/log/vllm.log         what vLLM says; the one before is vllm.log.1

A file lock rather than a pid: the kernel lets go of it however its holder ends, and no other process can be taken
for it.
"""

from __future__ import annotations

import fcntl
import functools
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from pydantic import ValidationError

from engine.state import State


@dataclass(frozen=True)
class EngineFolder:
    data: Path

    @property
    def folder(self) -> Path:
        return self.data / "engine"

    @property
    def log(self) -> Path:
        return self.data / "log" / "vllm.log"

    @property
    def supervisor_log(self) -> Path:
        return self.data / "log" / "supervisor.log"

    def make(self) -> None:
        for folder in (self.folder, self.log.parent):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def lock(self) -> int | None:
        """Take the supervisor's lock; a descriptor to keep open, or None if another process holds it."""
        held = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(held)
            return None
        os.ftruncate(held, 0)
        os.write(held, str(os.getpid()).encode())
        return held

    def supervisor(self) -> int | None:
        """The pid of the living supervisor, or None."""
        try:
            held = os.open(self.folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return int(os.read(held, 32) or 0) or None
        finally:
            os.close(held)
        return None

    def read(self) -> State | None:
        """The last state that was written, or None. It is the truth only while a supervisor lives."""
        try:
            return _parsed((self.folder / "state.json").read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def write(self, state: State) -> None:
        fresh = self.folder / f".state-{os.getpid()}"
        fresh.touch(mode=0o600)
        fresh.write_text(state.model_dump_json(), encoding="utf-8")
        fresh.replace(self.folder / "state.json")

    def touch(self) -> None:
        self.make()
        (self.folder / "used").touch()

    def last_used(self) -> float:
        """Unix time at which somebody last wanted the engine; 0.0 if never."""
        with suppress(FileNotFoundError):
            return (self.folder / "used").stat().st_mtime
        return 0.0

    def note_stop(self) -> None:
        """Somebody wants the engine ended, now."""
        if self.folder.exists():
            (self.folder / "stopped").touch()

    def stopped_since(self, moment: float) -> bool:
        """Was it told to end after this unix time?"""
        with suppress(FileNotFoundError):
            return (self.folder / "stopped").stat().st_mtime > moment
        return False

    def ask_for(self, whole: str) -> None:
        """Have vLLM started onto this whole model, name@version, next; "" takes back what was asked for."""
        if not whole:
            (self.folder / "onto").unlink(missing_ok=True)
            return
        self.make()
        fresh = self.folder / f".onto-{os.getpid()}"
        fresh.write_text(whole, encoding="utf-8")
        fresh.replace(self.folder / "onto")

    def asked_for(self) -> str:
        with suppress(FileNotFoundError):
            return (self.folder / "onto").read_text(encoding="utf-8").strip()
        return ""

    def lend(self, *, sleep: bool) -> int | None:
        """Take the engine's GPU: all of it (`sleep`) or what the engine leaves. None if another process has it.

        A descriptor to keep open, and to hand to every process that uses the GPU: it is free when all are gone.
        """
        self.make()
        held = os.open(self.folder / "lent", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(held)
            return None
        os.ftruncate(held, 0)
        os.write(held, b"sleep" if sleep else b"beside")
        return held

    def lent(self) -> str:
        """What somebody has of the GPU now: "sleep" for all of it, "beside" for what the engine leaves, "" nothing."""
        try:
            held = os.open(self.folder / "lent", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return ""
        try:
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return os.read(held, 16).decode() or "beside"
        finally:
            os.close(held)
        return ""

    def record_group(self, group: int) -> None:
        (self.folder / "group").write_text(f"{group} {psutil.Process(group).create_time()}")

    def end_recorded_group(self) -> None:
        """Kill the vLLM that an earlier supervisor left behind, if it is still that one.

        A process group's number can be given to another once all its members are gone; so a member must have
        started after the group's leader did, and look like ours.
        """
        file = self.folder / "group"
        try:
            group, started = file.read_text().split()
        except (FileNotFoundError, ValueError):
            return
        if any(_is_left_behind(process, int(group), float(started)) for process in psutil.process_iter()):
            with suppress(ProcessLookupError):
                os.killpg(int(group), signal.SIGKILL)
        file.unlink(missing_ok=True)

    def log_tail(self, lines: int = 25) -> str:
        """The last lines of vLLM's log, for a person; "" if there is none."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - 16_384))
                text = file.read().decode("utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


@functools.lru_cache(maxsize=4)
def _parsed(written: bytes) -> State:
    """Asked several times a turn, and every tenth of a second while waiting, of a file that rarely changes."""
    return State.model_validate_json(written)


def _is_left_behind(process: psutil.Process, group: int, started: float) -> bool:
    try:
        if os.getpgid(process.pid) != group or process.create_time() < started - 1:
            return False
        words = " ".join([process.name(), *process.cmdline()])
    except (psutil.Error, ProcessLookupError):
        return False
    return "vllm" in words.lower() or "guard.py" in words
