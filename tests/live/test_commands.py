"""Familiar's commands as a person gives them, each a process of its own, all on the one engine."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.process import LocalEngine
from settings import REPOSITORY, Settings
from tests.bot.terminal.terminal import Terminal
from tests.live.conftest import PERSONA, ready

CTRL_C, CTRL_D, ENTER = "\x03", "\x04", "\r"

FAMILIAR = str(Path(sys.executable).with_name("familiar"))


@pytest.fixture
def environment(live_settings: Settings, engine: LocalEngine, tmp_path: Path) -> dict[str, str]:
    """The commands' environment: the live engine's data folder, a database of this test's own, greedy replies."""
    config = tmp_path / "config.toml"
    config.write_text(
        f'[[persona]]\nname = "familiar"\nsystem = "{PERSONA.system}"\n'
        "sampling = { temperature = 0.0, repetition_penalty = 1.0, max_tokens = 60 }\n"
        '[[persona]]\nname = "talker"\nsystem = "You tell very long stories."\n'
        "sampling = { temperature = 0.7, max_tokens = 1500 }\n"
    )
    return {
        **os.environ,
        "FAMILIAR_CONFIG": str(config),
        "FAMILIAR_DATA__FOLDER": str(live_settings.data.folder),
        "FAMILIAR_DATA__DATABASE": f"sqlite:///{tmp_path / 'commands.db'}",
        "FAMILIAR_ENGINE__MODEL": "bundled",
        "FAMILIAR_LEARNING__CONSENT": "none",
        "LANG": "C.UTF-8",
        "TERM": "xterm-256color",
    }


def ask(environment: dict[str, str], *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [FAMILIAR, "ask", *words],
        env=environment,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=REPOSITORY,
    )


async def test_two_commands_at_once_share_one_engine(engine: LocalEngine, environment: dict[str, str]) -> None:
    before, supervisor = await ready(engine), engine.files.supervisor()
    question = ("--json", "What is the capital of France?")
    answers = await asyncio.gather(*(asyncio.to_thread(ask, environment, *question) for _ in range(2)))
    for answer in answers:
        assert answer.returncode == 0, answer.stderr
        told = json.loads(answer.stdout)
        assert "Paris" in told["reply"]
        assert told["completion_tokens"] > 0
    assert await ready(engine) == before
    assert engine.files.supervisor() == supervisor


def test_a_file_is_piped_in_and_the_reply_has_no_colour_codes(environment: dict[str, str]) -> None:
    answer = ask(environment, "Which animal sat on the mat?", stdin="The cat sat on the mat because it was warm.\n")
    assert answer.returncode == 0, answer.stderr
    assert "cat" in answer.stdout.lower()
    assert "\x1b" not in answer.stdout


def test_status_tells_of_the_engine_and_not_of_its_key(engine: LocalEngine, environment: dict[str, str]) -> None:
    shown = subprocess.run([FAMILIAR, "status"], env=environment, capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("ready")
    assert "SmolLM2-135M-Instruct" in shown.stdout
    assert asyncio.run(ready(engine)).api_key not in shown.stdout


async def test_a_person_talks_in_the_terminal_stops_a_reply_and_leaves(environment: dict[str, str]) -> None:
    async with Terminal([FAMILIAR, "chat"], columns=100, rows=30, environment=environment, longest_s=180) as terminal:
        await terminal.asks()
        terminal.types("What is the capital of France?" + ENTER)
        await terminal.shows("The capital of France is Paris.", "tokens/s")

        await terminal.asks()
        terminal.types("/new talker" + ENTER)
        await terminal.asks()
        terminal.types("Tell me about somebody who lives on a rock in the sea." + ENTER)
        shown = terminal.screen.visible
        await terminal.until(lambda: len(shown().partition("in the sea.")[2].split()) > 12)
        terminal.types(CTRL_C)
        await terminal.shows("stopped")

        await terminal.asks()
        terminal.types("/list" + ENTER)
        await terminal.shows("What is the capital of France?", "Tell me about somebody")
        await terminal.asks()
        terminal.types(CTRL_D)
        assert await terminal.exit_code() == 0
