"""The commands that need no engine, as a person gives them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from pathlib import Path

import pytest

from settings import REPOSITORY
from store import access, people
from store.session import Store
from tests.fakes.vllm import FakeVllm
from tests.telegram_server import TelegramServer

FAMILIAR = str(Path(sys.executable).with_name("familiar"))


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FAMILIAR_")}
    return {**clean, "FAMILIAR_DATA__FOLDER": str(tmp_path / "data"), "COLUMNS": "160"}


def familiar(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([FAMILIAR, *words], env=environment, capture_output=True, text=True, timeout=60)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """The database of these commands."""
    (tmp_path / "data").mkdir()
    with Store(f"sqlite:///{tmp_path / 'data' / 'familiar.db'}") as opened:
        yield opened


def test_help_lists_every_command(environment: dict[str, str]) -> None:
    shown = familiar(environment, "--help")
    assert shown.returncode == 0
    for command in ("chat", "ask", "telegram", "serve", "stop", "status", "config", "models", "adapters", "users"):
        assert command in shown.stdout


def test_a_command_loads_nothing_heavy_before_it_needs_it() -> None:
    code = (
        "import sys, cli\n"
        "try: cli.app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = ('torch', 'transformers', 'vllm', 'sqlalchemy', 'aiohttp', 'telegram')\n"
        "print([name for name in heavy if name in sys.modules])"
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


# Telegram


def test_without_a_token_one_sentence_says_how_to_get_one_and_nothing_is_touched(
    environment: dict[str, str], tmp_path: Path
) -> None:
    ran = familiar(environment, "telegram")
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    for word in ("@BotFather", "/newbot", "FAMILIAR_TELEGRAM_TOKEN", "telegram.token_file", "config.toml"):
        assert word in ran.stderr
    assert not list((tmp_path / "data").rglob("*.db"))
    assert not (tmp_path / "data" / "models").exists()


@pytest.mark.parametrize("token", ["hello", "987654", ":AAF", "12 34:AAF", "987654:AA F", "１２:AAF", "987654:密钥"])
def test_what_is_no_token_is_told_without_showing_it(environment: dict[str, str], tmp_path: Path, token: str) -> None:
    (tmp_path / "token").write_text(token, encoding="utf-8")
    ran = familiar({**environment, "FAMILIAR_TELEGRAM__TOKEN_FILE": str(tmp_path / "token")}, "telegram")
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert "BotFather" in ran.stderr
    assert token not in ran.stderr
    assert not (tmp_path / "data" / "models").exists()


def test_an_empty_token_file_is_no_token(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "token").write_text(" \n")
    ran = familiar({**environment, "FAMILIAR_TELEGRAM__TOKEN_FILE": str(tmp_path / "token")}, "telegram")
    assert ran.returncode == 2
    assert "/newbot" in ran.stderr


def served(environment: dict[str, str], vllm: FakeVllm, server: TelegramServer) -> dict[str, str]:
    """Set to this engine and this Telegram."""
    return {
        **environment,
        "FAMILIAR_ENGINE__URL": vllm.url,
        "FAMILIAR_ENGINE__API_KEY": vllm.api_key,
        "FAMILIAR_TELEGRAM_TOKEN": server.token,
        "FAMILIAR_TELEGRAM__API_URL": server.url,
        "FAMILIAR_TELEMETRY__METRICS_PORT": "0",
        "FAMILIAR_ACCESS__MODE": "open",
        "FAMILIAR_LEARNING__CONSENT": "none",
    }


async def test_people_on_telegram_are_answered_until_it_is_told_to_end(
    environment: dict[str, str], vllm: FakeVllm, tmp_path: Path
) -> None:
    async with TelegramServer() as server:
        ran = await asyncio.create_subprocess_exec(
            FAMILIAR, "telegram", env=served(environment, vllm, server), stdout=PIPE, stderr=PIPE
        )
        try:
            chat = server.private(server.user(101, "Ada", language_code="en"))
            chat.send("a secret question")
            await chat.wait_for(lambda: chat.last.text.startswith("Hello there!"), 60)
            ran.send_signal(signal.SIGTERM)
            _, shown = await asyncio.wait_for(ran.communicate(), 60)
        finally:
            if ran.returncode is None:
                ran.kill()
    assert ran.returncode == 0
    kept = (tmp_path / "data" / "log" / "familiar.log").read_text(encoding="utf-8")
    for log in (shown.decode(), kept):
        assert "Telegram is served" in log
        assert "secret" not in log
        assert server.token not in log


async def test_a_token_that_telegram_does_not_know_ends_it_before_the_engine_is_asked(
    environment: dict[str, str], vllm: FakeVllm
) -> None:
    async with TelegramServer(token="123456:RIGHT") as server:
        wrong = served(environment, vllm, server) | {"FAMILIAR_TELEGRAM_TOKEN": "123456:WRONG"}
        ran = await asyncio.to_thread(familiar, wrong, "telegram")
    assert ran.returncode == 1
    assert "Telegram does not know this token" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "WRONG" not in ran.stderr
    assert vllm.requests == []


# Users


def test_nobody_is_told_as_such(environment: dict[str, str]) -> None:
    shown = familiar(environment, "users", "list")
    assert shown.returncode == 0, shown.stderr
    assert "whom you approve" in shown.stdout
    assert "Nobody has written yet." in shown.stdout


def test_who_waits_is_listed_and_let_in_by_the_code(environment: dict[str, str], store: Store) -> None:
    access.request(store, "telegram", "101", "Ada [bold]\u5f20", "K7QX-M3PW")
    line = next(line for line in familiar(environment, "users", "list").stdout.splitlines() if "telegram:101" in line)
    for word in ("Ada [bold]张", "pending", "K7QX-M3PW"):
        assert word in line
    ran = familiar(environment, "users", "approve", "k7qxm3pw")
    assert ran.stdout == "Ada [bold]张 (telegram:101) is let in.\n"
    row = access.standing(store, "telegram", "101")
    assert row is not None
    assert (row.state, row.role) == ("allowed", "user")


def test_an_admin_is_made_and_unmade(environment: dict[str, str], store: Store) -> None:
    assert "as an admin" in familiar(environment, "users", "approve", "telegram:7", "--admin").stdout
    assert " admin " in familiar(environment, "users", "list").stdout
    familiar(environment, "users", "approve", "telegram:7")
    row = access.standing(store, "telegram", "7")
    assert row is not None
    assert row.role == "user"


def test_who_is_blocked_can_be_let_in_again(environment: dict[str, str], store: Store) -> None:
    assert familiar(environment, "users", "block", "telegram:7").stdout == "telegram:7 is blocked.\n"
    assert " blocked " in familiar(environment, "users", "list").stdout
    assert familiar(environment, "users", "unblock", "telegram:7").stdout == "telegram:7 is let in again.\n"
    row = access.standing(store, "telegram", "7")
    assert row is not None
    assert row.state == "allowed"


def test_those_who_wrote_are_listed_with_how_much(environment: dict[str, str], store: Store) -> None:
    people.person_for(store, "telegram", "101", "Ada")
    shown = familiar({**environment, "FAMILIAR_ACCESS__ADMINS": '["telegram:101"]'}, "users", "list").stdout
    line = next(line for line in shown.splitlines() if "telegram:101" in line)
    assert "Ada" in line
    assert "admin, by config.toml" in line


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["approve", "@ada"], "Nobody is waiting"),
        (["approve", "张三"], "Nobody is waiting"),
        (["approve", "telegram:x"], "does not say whom you mean"),
        (["block", ""], "Nobody is waiting"),
        (["unblock", "7"], "does not say whom you mean"),
        (["unblock", "telegram:7"], "is not blocked"),
        (["block", "telegram:1"], "is an admin by config.toml"),
    ],
)
def test_what_cannot_be_done_about_somebody_is_one_line(
    environment: dict[str, str], words: list[str], reason: str
) -> None:
    ran = familiar({**environment, "FAMILIAR_ACCESS__ADMINS": '["telegram:1"]', "LANG": "C.UTF-8"}, "users", *words)
    assert ran.returncode == 1
    assert ran.stderr.count("\n") == 1
    assert reason in ran.stderr
    assert ran.stdout == ""


def test_the_operators_language_is_spoken(environment: dict[str, str]) -> None:
    ran = familiar({**environment, "FAMILIAR_ASSISTANT__LANGUAGE": "zh"}, "users", "unblock", "telegram:7")
    assert "没有被屏蔽" in ran.stderr
