"""Stands between the supervisor and vLLM so that no orphan is ever left.

vLLM is several processes. When its API process is killed, the others stay behind; when whoever started it is killed,
all of them do. The guard leads a process group of its own, with all of vLLM in it, and kills the whole group

- when its standard input ends, that is when the supervisor is gone, however it went;
- when vLLM's first process has ended, after telling the supervisor how (one line on the descriptor given).

It is started as a plain file with the standard library alone: `python -I -S guard.py REPORT_FD COMMAND...`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys

PR_SET_PDEATHSIG = 1


def _die_with_guard() -> None:
    """Between fork and exec: if even the guard is killed, vLLM's first process goes with it."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    report, command = int(sys.argv[1]), sys.argv[2:]
    # SIGTERM goes to the group when the engine is to stop; vLLM acts on it, the guard waits for it to end.
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_die_with_guard)
    while child.poll() is None:
        readable, _, _ = select.select([0, woken], [], [])
        if woken in readable:
            os.read(woken, 512)
        if 0 in readable and not os.read(0, 512):
            break
    if child.returncode is not None:
        ended = f"signal {-child.returncode}" if child.returncode < 0 else f"exit {child.returncode}"
        with contextlib.suppress(OSError):  # nobody listens any more
            os.write(report, f"{ended}\n".encode())
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
