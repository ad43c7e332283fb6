"""Parsing in processes that may be killed: whatever a file does to its parser, the caller gets a typed refusal.

A worker is started when it is first needed, reads many files one after another, and is replaced when it dies, is
killed, has grown fat or has read its share. Its limits: memory and processor time by the kernel, the clock by the
caller's thread, which kills its whole process group. Recognising the text of scans takes seconds a page, so a parser
may say `alive` after each page and gets its time anew, at most as often as pages may be recognised.

A worker that had read files before and then crashes or runs out of memory may have been brought to it by them, so the
file is tried once more in a fresh one.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from knowledge import errors
from knowledge.errors import DocumentDamaged, DocumentRefused, DocumentTooSlow, KnowledgeError
from knowledge.parsed import Block, ParsedDocument
from knowledge.reading.limits import Limits
from knowledge.reading.worker import LENGTH_BYTES

PARSE = "knowledge.reading.parse:parse"
START_S = 60.0
READ_BYTES = 2**20


class ReadingStopped(KnowledgeError):
    """The document was not refused: reading was closed, or no process could be started for it."""


class Sandbox:
    """`workers` files at a time; more callers wait. `function` is what parses, "module:function"."""

    def __init__(self, workers: int, memory_mb: int, *, function: str = PARSE, files_per_worker: int = 200) -> None:
        self._memory_mb, self._function, self._files_per_worker = memory_mb, function, files_per_worker
        self._free = threading.BoundedSemaphore(workers)
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._closed = False

    def run(self, path: Path, name: str, mime: str, limits: Limits) -> ParsedDocument:
        """The file as text. Blocking, any thread. Raises DocumentRefused's family, and ReadingStopped."""
        request = {"path": str(path.resolve()), "name": name, "mime": mime, "limits": limits.to_json()}
        with self._free:
            worker = self._take()
            try:
                answer = worker.ask(request, limits)
            except _Died as died:
                if not worker.files or died.killed:
                    raise self._reason(died, name, limits) from None
                self._give_back(worker)
                worker = self._take(fresh=True)
                try:
                    answer = worker.ask(request, limits)
                except _Died as again:
                    raise self._reason(again, name, limits) from None
            finally:
                self._give_back(worker)
        return _document(answer, name, limits)

    def close(self) -> None:
        """End every worker. Who waits for one gets ReadingStopped."""
        with self._lock:
            self._closed = True
            idle, busy = self._idle, list(self._busy)
            self._idle = []
        for worker in idle:
            worker.end()
        for worker in busy:
            worker.kill()

    def _take(self, *, fresh: bool = False) -> _Worker:
        with self._lock:
            if self._closed:
                raise ReadingStopped("Reading of documents was stopped.")
            kept = self._idle and not fresh
            worker = self._idle.pop() if kept else _Worker(self._function, self._memory_mb)
            self._busy.add(worker)
            return worker

    def _give_back(self, worker: _Worker) -> None:
        with self._lock:
            self._busy.discard(worker)
            keep = worker.fit and worker.files < self._files_per_worker and not self._closed
            if keep:
                self._idle.append(worker)
        if not keep:
            worker.end()

    def _reason(self, died: _Died, name: str, limits: Limits) -> KnowledgeError:
        if self._closed:
            return ReadingStopped("Reading of documents was stopped.")
        if died.before_start:
            return ReadingStopped(f"No process could be started to read documents ({died}).")
        too_long = f"reading it takes longer than {limits.timeout_s:g} s (knowledge.parse_timeout_s)"
        too_much = f"reading it takes more than {limits.memory_mb} MB of memory (knowledge.parse_memory_mb)"
        if died.killed or died.signal in (signal.SIGXCPU, signal.SIGALRM):
            return DocumentTooSlow(name, too_long)
        if died.memory or died.signal == signal.SIGKILL:  # not by us: the kernel's own, for memory
            return DocumentTooSlow(name, too_much)
        return DocumentDamaged(name, f"reading it made the parser crash ({died})")


def _document(answer: dict[str, Any], name: str, limits: Limits) -> ParsedDocument:
    if refusal := answer.get("refused"):
        kind = getattr(errors, str(refusal), DocumentDamaged)
        raise (kind if issubclass(kind, DocumentRefused) else DocumentDamaged)(name, str(answer["reason"]))
    fields = answer["document"]
    blocks = tuple(Block(**block) for block in fields["blocks"])
    notes = tuple(fields["notes"])
    return ParsedDocument(fields["title"], fields["kind"], blocks, fields["pages"], notes)


class _Died(Exception):
    """The worker is gone. `killed`: by us, for its time was up. `memory`: it said that it had none left."""

    def __init__(self, said: str, **facts: Any) -> None:
        super().__init__(said)
        self.killed: bool = facts.get("killed", False)
        self.memory: bool = facts.get("memory", False)
        self.before_start: bool = facts.get("before_start", False)
        self.signal: int = facts.get("signal", 0)


class _Worker:
    """One process. Asked by one thread at a time; killed by any."""

    def __init__(self, function: str, memory_mb: int) -> None:
        self.files = 0
        self.fit = True
        self._buffer = bytearray()
        self._started = False
        command = [sys.executable, "-m", "knowledge.reading.worker", function, str(memory_mb)]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                start_new_session=True,  # a group of its own: killed whole, and not by a Ctrl+C that is meant for us
                cwd="/",
                env=_environment(),
            )
        except OSError as error:
            raise ReadingStopped(f"No process could be started to read documents ({error}).") from error

    def ask(self, request: dict[str, Any], limits: Limits) -> dict[str, Any]:
        """Raises _Died; then, and when it has grown fat, it is not fit for another file."""
        try:
            if not self._started:
                self._frame(time.monotonic() + START_S)
                self._started = True
            body = json.dumps(request).encode()
            self._send(len(body).to_bytes(LENGTH_BYTES, "big") + body)
            answer = self._await_answer(limits)
        except BaseException:
            self.fit = False
            raise
        self.files += 1
        self.fit = not answer["fat"]
        return answer

    def _await_answer(self, limits: Limits) -> dict[str, Any]:
        extensions = limits.ocr_pages
        deadline = time.monotonic() + limits.timeout_s
        while True:
            answer = self._frame(deadline)
            if answer.get("memory"):
                raise _Died("out of memory", memory=True)
            if not answer.get("alive"):
                return answer
            if extensions > 0:
                extensions -= 1
                deadline = time.monotonic() + limits.timeout_s

    def _send(self, frame: bytes) -> None:
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # it is gone: reading its answer will say so
            self._process.stdin.write(frame)

    def _frame(self, deadline: float) -> dict[str, Any]:
        self._fill(LENGTH_BYTES, deadline)
        length = LENGTH_BYTES + int.from_bytes(self._buffer[:LENGTH_BYTES], "big")
        self._fill(length, deadline)
        frame: dict[str, Any] = json.loads(bytes(self._buffer[LENGTH_BYTES:length]))
        del self._buffer[:length]
        return frame

    def _fill(self, length: int, deadline: float) -> None:
        assert self._process.stdout
        pipe = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        while len(self._buffer) < length:
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                self.kill()
                raise _Died("out of time", killed=True, before_start=not self._started)
            data = os.read(pipe, READ_BYTES)
            if not data:
                raise self._dead()
            self._buffer += data

    def _dead(self) -> _Died:
        self.fit = False
        try:
            status = self._process.wait(5)
        except subprocess.TimeoutExpired:  # it closed its end, and lives
            self.kill()
            return _Died("no answer", before_start=not self._started)
        if status >= 0:
            return _Died(f"exit status {status}", before_start=not self._started)
        return _Died(signal.Signals(-status).name, signal=-status, before_start=not self._started)

    def end(self) -> None:
        """By the thread that asked last: nobody waits at its pipe any more."""
        self.kill()
        if self._process.stdout:
            self._process.stdout.close()

    def kill(self) -> None:
        self.fit = False
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdin:
            with contextlib.suppress(OSError):
                self._process.stdin.close()


def _environment() -> dict[str, str]:
    """Nothing that it need not know: the bot's secrets may be in ours. One thread: the workers are the parallelism."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH") if name in os.environ}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    modules = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path)
    return kept | threads | {"PYTHONPATH": modules, "PYTHONDONTWRITEBYTECODE": "1", "MALLOC_ARENA_MAX": "2"}
