"""The terminal chat as a program on a terminal of its own; its engine is the fake one of the test."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.bot.terminal.terminal import Terminal
from tests.fakes.vllm import FakeVllm

Start = Callable[..., Any]


@pytest.fixture
def program(vllm: FakeVllm, tmp_path: Path) -> Callable[..., list[str]]:
    """The command line of the program, for these arguments and this set-up (see program.py)."""

    def command(*arguments: str, **setup: object) -> list[str]:
        given = {"folder": str(tmp_path), "address": vllm.address.model_dump(mode="json"), **setup}
        return [sys.executable, "-m", "tests.bot.terminal.program", json.dumps(given), *arguments]

    return command


@pytest.fixture
async def chat_on_terminal(program: Callable[..., list[str]]) -> AsyncIterator[Start]:
    """Start the chat on a new terminal and wait for its line of input."""
    async with AsyncExitStack() as terminals:

        async def start(
            *arguments: str,
            columns: int = 80,
            rows: int = 24,
            environment: dict[str, str] | None = None,
            until: str = "",
            **setup: object,
        ) -> Terminal:
            command = program("chat", *arguments, **setup)
            terminal = Terminal(command, columns=columns, rows=rows, environment=environment)
            await terminals.enter_async_context(terminal)
            if until:
                await terminal.shows(until)
            else:
                await terminal.asks()
            return terminal

        yield start
