"""The process that parses: it takes one file after another from its standard input, under limits it cannot lift.

Files come from strangers and parsers have holes, so this process gets no secrets in its environment, may write no file,
and answers in JSON: unpickling what a captured process sends would hand it the one that asked.

A frame is 8 bytes of length and that much JSON. The first argument is the function that parses, "module:function", the
second the megabytes of memory it may use.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, BinaryIO

from knowledge.errors import DocumentRefused
from knowledge.parsed import ParsedDocument
from knowledge.reading.limits import Limits

Parse = Callable[[str, str, str, Limits, Callable[[], None]], ParsedDocument]

LENGTH_BYTES = 8
GRACE_S = 10.0  # after its time this process ends itself, if the one that asked is gone and cannot end it
FAT_BYTES = 400_000_000  # what holds more than this after a file is replaced rather than kept waiting


def main() -> None:
    function, memory_mb = sys.argv[1], int(sys.argv[2])
    requests, results = _keep_the_pipes()
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    os.nice(10)
    module, name = function.split(":")
    parse: Parse = getattr(importlib.import_module(module), name)
    _limit(memory_mb)
    _send(results, {"ready": True})
    while request := _receive(requests):
        _send(results, _answer(parse, request, results))


def _keep_the_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Ours, where no library that prints or asks can get at them."""
    requests, results = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    return requests, results


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


def _limit(memory_mb: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb * 2**20, memory_mb * 2**20))


def _answer(parse: Parse, request: dict[str, Any], results: BinaryIO) -> dict[str, Any]:
    limits = Limits.from_json(request["limits"])
    name = request["name"]

    def alive() -> None:
        _allow(limits.timeout_s)
        _send(results, {"alive": True})

    _allow(limits.timeout_s)
    try:
        document = parse(request["path"], name, request["mime"], limits, alive)
        answer: dict[str, Any] = {"document": asdict(document)}
    except DocumentRefused as refused:
        answer = {"refused": type(refused).__name__, "reason": refused.reason}
    except MemoryError:
        answer = {"memory": True}
    except Exception as error:
        answer = {"refused": "DocumentDamaged", "reason": f"it cannot be read ({_first_line(error)})"}
    signal.alarm(0)
    return answer | {"fat": _resident_bytes() > FAT_BYTES}


def _allow(seconds: float) -> None:
    """That much more of processor time and of the clock; the kernel ends this process after it, whatever it is at."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    processor = math.ceil(used.ru_utime + used.ru_stime + 2 * seconds + GRACE_S)
    resource.setrlimit(resource.RLIMIT_CPU, (processor, resource.RLIM_INFINITY))
    signal.alarm(math.ceil(seconds + GRACE_S))


def _first_line(error: Exception) -> str:
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0][:200]}" if said else type(error).__name__


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm") as statm:  # noqa: PTH123  (pathlib is one import more in each process)
            return int(statm.read().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _send(results: BinaryIO, answer: dict[str, Any]) -> None:
    body = json.dumps(answer).encode()
    results.write(len(body).to_bytes(LENGTH_BYTES, "big") + body)
    results.flush()


def _receive(requests: BinaryIO) -> dict[str, Any] | None:
    length = requests.read(LENGTH_BYTES)
    if len(length) < LENGTH_BYTES:
        return None
    body = requests.read(int.from_bytes(length, "big"))
    request: dict[str, Any] = json.loads(body)
    return request


if __name__ == "__main__":
    main()
