"""The commands that need no engine, as a person gives them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from settings import REPOSITORY

FAMILIAR = str(Path(sys.executable).with_name("familiar"))


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FAMILIAR_")}
    return {**clean, "FAMILIAR_DATA__FOLDER": str(tmp_path / "data"), "COLUMNS": "160"}


def familiar(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([FAMILIAR, *words], env=environment, capture_output=True, text=True, timeout=60)


def test_help_lists_every_command(environment: dict[str, str]) -> None:
    shown = familiar(environment, "--help")
    assert shown.returncode == 0
    for command in ("chat", "ask", "serve", "stop", "status", "config", "models", "adapters"):
        assert command in shown.stdout


def test_a_command_loads_nothing_heavy_before_it_needs_it() -> None:
    code = (
        "import sys, cli\n"
        "try: cli.app(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'transformers', 'vllm', 'sqlalchemy', 'aiohttp') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_config_shows_values_and_origins_without_secrets(environment: dict[str, str]) -> None:
    environment |= {"FAMILIAR_ENGINE__API_KEY": "sesame", "FAMILIAR_ENGINE__MAX_LORAS": "3"}
    shown = familiar(environment, "config")
    assert shown.returncode == 0, shown.stderr
    line = next(line for line in shown.stdout.splitlines() if "engine.max_loras" in line)
    assert " 3 " in line
    assert "FAMILIAR_ENGINE__MAX_LORAS" in line
    assert "sesame" not in shown.stdout


@pytest.mark.parametrize("command", [["config"], ["chat"], ["ask", "hello"], ["status"], ["models", "list"]])
def test_a_mistake_in_the_settings_is_one_line_and_exit_code_2(environment: dict[str, str], command: list[str]) -> None:
    ran = familiar({**environment, "FAMILIAR_ENGINE__DTYPE": "int4"}, *command)
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert "engine.dtype" in ran.stderr
    assert "FAMILIAR_ENGINE__DTYPE" in ran.stderr


def test_models_list_says_what_is_taken_here_and_why(environment: dict[str, str]) -> None:
    shown = familiar({**environment, "FAMILIAR_ENGINE__MODEL": "bundled"}, "models", "list")
    assert "SmolLM2-135M-Instruct" in shown.stdout
    assert "cores" in shown.stdout
    assert "Qwen/" in shown.stdout


def test_an_engine_that_does_not_run_is_told_as_stopped(environment: dict[str, str]) -> None:
    assert familiar(environment, "status").stdout.startswith("stopped")
    stopped = familiar(environment, "stop")
    assert stopped.returncode == 0
    assert "not running" in stopped.stdout


def test_no_adapters_is_told_as_such(environment: dict[str, str]) -> None:
    assert "No adapter" in familiar(environment, "adapters", "list").stdout


def test_an_adapter_without_a_version_is_wrong_usage(environment: dict[str, str]) -> None:
    ran = familiar(environment, "adapters", "use", "familiar")
    assert ran.returncode == 2
    assert "name@version" in ran.stderr


def test_an_adapter_that_is_none_is_refused(environment: dict[str, str], tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (base / name).write_text("{}")
    empty = tmp_path / "empty"
    empty.mkdir()
    ran = familiar({**environment, "FAMILIAR_ENGINE__MODEL": str(base)}, "adapters", "add", str(empty))
    assert ran.returncode == 1
    assert "adapter" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_server_out_of_reach_is_told_in_one_line(environment: dict[str, str]) -> None:
    ran = familiar({**environment, "FAMILIAR_ENGINE__URL": "http://127.0.0.1:1"}, "serve")
    assert ran.returncode == 1
    assert "engine.url" in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_an_unreadable_database_is_told_and_nothing_is_overwritten(environment: dict[str, str], tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "familiar.db").write_bytes(b"this is no database" * 1000)
    ran = familiar(environment, "adapters", "list")
    assert ran.returncode == 1
    assert "familiar.db" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert (data / "familiar.db").read_bytes() == b"this is no database" * 1000
