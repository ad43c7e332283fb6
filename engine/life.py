"""One life of vLLM: its processes below engine.guard, from their start to the end of the last of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from engine.folder import EngineFolder
from engine.state import Address
from engine.vllm import Launch

TERM_GRACE_S = 10.0


@dataclass
class Running:
    """One living vLLM."""

    guard: asyncio.subprocess.Process
    report: asyncio.Task[str]  # how vLLM's first process ended, e.g. "signal 9"
    address: Address
    probes: int = 0  # tokens that we asked for ourselves


async def begin(launch: Launch, files: EngineFolder, address: Address) -> Running:
    """Start it. Its log begins anew, and the one before is kept."""
    if files.log.exists():
        files.log.replace(files.log.with_suffix(".log.1"))
    read_end, write_end = os.pipe()
    guard_file = str(Path(__file__).with_name("guard.py"))
    with files.log.open("wb") as vllm_log:
        guard = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", guard_file, str(write_end), *launch.command),
            stdin=asyncio.subprocess.PIPE,
            stdout=vllm_log,
            stderr=vllm_log,
            pass_fds=(write_end,),
            env=launch.environment,
            start_new_session=True,
            cwd=files.data,
        )
    os.close(write_end)
    files.record_group(guard.pid)
    return Running(guard, asyncio.create_task(_read_report(read_end)), address)


async def end(running: Running, *, politely: bool) -> None:
    """End the whole group: after a while in which it may do so itself (`politely`), or at once."""
    guard = running.guard
    if politely:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(guard.pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(guard.wait(), TERM_GRACE_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(guard.pid, signal.SIGKILL)
    await guard.wait()
    running.report.cancel()


async def pause(seconds: float, report: asyncio.Task[str], *events: asyncio.Event) -> None:
    """Sleep, but wake when vLLM ends or one of the events is set."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait([report, *waits], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


async def _read_report(read_end: int) -> str:
    """What the guard wrote before it went; "" if it was killed."""
    try:
        return (await asyncio.to_thread(os.read, read_end, 64)).decode().strip()
    finally:
        os.close(read_end)
