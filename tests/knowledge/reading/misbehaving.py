"""Parsers that do what a hostile file can make one do. The sandbox is told to run them in place of the real one."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path

from knowledge.errors import DocumentEncrypted
from knowledge.parsed import Block, ParsedDocument
from knowledge.reading.limits import Limits


def parse(path: str, name: str, mime: str, limits: Limits, alive: Callable[[], None]) -> ParsedDocument:
    """Does what the file says."""
    order, _, argument = Path(path).read_text().partition(" ")
    if order == "sleep":
        time.sleep(float(argument))
    elif order == "spin":
        while True:
            pass
    elif order == "eat":
        held = []
        while True:
            held.append(bytearray(2**24))
    elif order == "segfault":
        ctypes.string_at(0)
    elif order == "exit":
        os._exit(0)
    elif order == "raise":
        raise ValueError("the second line\nis not shown")
    elif order == "lock":
        raise DocumentEncrypted(name, "it needs a password")
    elif order == "pages":
        for _ in range(int(argument)):
            time.sleep(0.5)
            alive()
    elif order == "child":
        if not os.fork():
            time.sleep(600)
        time.sleep(600)
    elif order == "print":
        print("this must not be taken for an answer", flush=True)
    elif order == "write":
        Path(argument).write_text("gotcha")
    said = {
        "pid": lambda: str(os.getpid()),
        "environment": lambda: " ".join(sorted(os.environ)),
        "large": lambda: "x" * int(argument),
    }.get(order, lambda: "done")()
    return ParsedDocument(name, "text", (Block("paragraph", said),))
