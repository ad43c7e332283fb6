from __future__ import annotations

import asyncio
import io
import json
import logging
import socket
import sys
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
import structlog
from structlog.contextvars import bind_contextvars, clear_contextvars

from bot.telemetry import Metrics, Server, configure_logs, mask, turn_id
from settings import Telemetry

TOKEN = "7123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw_"


@pytest.fixture(autouse=True)
def _logging_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(logging, "raiseExceptions", True)
    names = ("httpx", "httpcore", "apscheduler", "familiar")
    levels = {name: logging.getLogger(name).level for name in names}
    level = root.level
    yield
    for handler in root.handlers:
        handler.close()
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    logging.captureWarnings(False)
    structlog.reset_defaults()
    clear_contextvars()


def json_lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


# The log


def test_a_line_of_json_is_one_object_with_what_was_said(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(Telemetry(log_format="json"))
    log = structlog.get_logger("familiar.telegram")
    log.info("turn %s ended", 7, ending="stop", tokens=12, note="你好 👋\nsecond line")
    (line,) = json_lines(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "turn 7 ended",
        "level": "info",
        "logger": "familiar.telegram",
        "ending": "stop",
        "tokens": 12,
        "note": "你好 👋\nsecond line",
    }


def test_a_line_of_text_has_no_colours_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(Telemetry())
    structlog.get_logger("familiar.telegram").info("turn ended", ending="stop")
    line = capsys.readouterr().err
    assert "\x1b" not in line
    for part in ("info", "turn ended", "familiar.telegram", "ending=stop"):
        assert part in line


def test_a_line_of_text_has_colours_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Screen())
    configure_logs(Telemetry())
    structlog.get_logger().info("turn ended")
    assert isinstance(sys.stderr, Screen)
    assert "\x1b" in sys.stderr.getvalue()


@pytest.mark.parametrize("name", ["familiar", "familiar.telegram", "telegram.ext.Application", "somebody.else"])
def test_lines_of_the_standard_library_are_structured_too(capsys: pytest.CaptureFixture[str], name: str) -> None:
    configure_logs(Telemetry(log_format="json"))
    logging.getLogger(name).warning("chat %s is %d%% full", 5, 90, extra={"chats": 3})
    (line,) = json_lines(capsys)
    assert line["event"] == "chat 5 is 90% full"
    assert (line["logger"], line["level"], line["chats"]) == (name, "warning", 3)


async def test_what_is_bound_stands_in_each_line_of_its_task_and_in_no_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logs(Telemetry(log_format="json"))

    async def turn(chat: int) -> None:
        bind_contextvars(turn=f"turn of {chat}", chat=chat)
        logging.getLogger("familiar").info("began")
        await asyncio.sleep(0)
        structlog.get_logger().info("ended")

    await asyncio.gather(asyncio.create_task(turn(1)), asyncio.create_task(turn(2)))
    logging.getLogger("familiar").info("idle")
    *lines, idle = json_lines(capsys)
    assert len(lines) == 4
    assert all(line["turn"] == f"turn of {line['chat']}" for line in lines)
    assert "turn" not in idle


def test_lines_below_the_level_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(Telemetry(log_level="warning", log_format="json"))
    for log in (structlog.get_logger("familiar"), logging.getLogger("familiar")):
        log.info("quiet")
        log.warning("loud")
    assert [line["event"] for line in json_lines(capsys)] == ["loud", "loud"]


def test_the_level_debug_shows_debug_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(Telemetry(log_level="debug", log_format="json"))
    logging.getLogger("familiar").debug("detail")
    structlog.get_logger().debug("detail")
    assert [line["event"] for line in json_lines(capsys)] == ["detail", "detail"]


def test_warnings_of_the_interpreter_are_lines_like_others(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(Telemetry(log_format="json"))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("this goes away", UserWarning, stacklevel=1)
    (line,) = json_lines(capsys)
    assert "this goes away" in line["event"]
    assert line["logger"] == "py.warnings"


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_cannot_be_encoded_or_turned_into_json_is_logged_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: Literal["text", "json"]
) -> None:
    file = tmp_path / "log"
    configure_logs(Telemetry(log_format=form), file)
    structlog.get_logger().info("odd", half="\udc80", raw=b"\xff\x00", thing=object(), nested={"a": {1, 2}})
    logging.getLogger("familiar").info("half a character: \udc80")
    assert len(file.read_text().splitlines()) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_configured_twice_each_line_still_comes_once(capsys: pytest.CaptureFixture[str]) -> None:
    logging.basicConfig(level=logging.ERROR)
    own = logging.getLogger("familiar")
    own.addHandler(logging.StreamHandler(sys.stderr))
    configure_logs(Telemetry(log_format="json"))
    configure_logs(Telemetry(log_format="json"))
    logging.getLogger("familiar").warning("once")
    structlog.get_logger().warning("once, too")
    assert [line["event"] for line in json_lines(capsys)] == ["once", "once, too"]


def test_the_log_goes_to_a_file_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "log" / "familiar.log"
    configure_logs(Telemetry(log_format="json"), file)
    logging.getLogger("familiar").warning("你好")
    for line in (file.read_text(encoding="utf-8"), capsys.readouterr().err):
        assert json.loads(line)["event"] == "你好"
        assert "你好" in line


def test_a_file_that_cannot_be_written_does_not_keep_the_log_from_the_screen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("a file, not a folder")
    configure_logs(Telemetry(log_format="json"), tmp_path / "taken" / "familiar.log")
    logging.getLogger("familiar").warning("still here")
    assert [line["event"] for line in json_lines(capsys)] == ["still here"]


def test_two_turns_have_two_names() -> None:
    names = {turn_id() for _ in range(1000)}
    assert len(names) == 1000
    assert all(len(name) == 8 for name in names)


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_error_is_told_with_its_traceback_and_without_the_values_in_it(
    capsys: pytest.CaptureFixture[str], form: Literal["text", "json"]
) -> None:
    configure_logs(Telemetry(log_format=form))

    def answer(text: str) -> None:
        raise RuntimeError("no engine")

    try:
        answer("-".join(["what", "somebody", "wrote"]))
    except RuntimeError:
        logging.getLogger("familiar").exception("turn failed")
        structlog.get_logger().exception("turn failed")
    logged = capsys.readouterr().err
    assert logged.count("RuntimeError: no engine") == 2
    assert logged.count("in answer") == 2
    assert "what-somebody-wrote" not in logged
    assert form == "text" or all("no engine" in json.loads(line)["exception"] for line in logged.splitlines())


# The token


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("level", ["debug", "info"])
def test_the_token_stands_in_no_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    form: Literal["text", "json"],
    level: Literal["debug", "info"],
) -> None:
    file = tmp_path / "log"
    configure_logs(Telemetry(log_format=form, log_level=level), file)
    url = f"https://api.telegram.org/bot{TOKEN}/sendMessage"
    log, standard = structlog.get_logger(), logging.getLogger("telegram")
    log.info(f"calling {url}")
    log.info("calling", url=url, nested={"a": [url, (url,)]}, pair=(TOKEN, 1))
    log.info("calling %s", url)
    standard.warning("calling %s", url, extra={"url": url})
    standard.warning(f"\n{TOKEN}\n")
    standard.warning("escaped %s", url.replace(":", "%3A"))
    standard.info("%d", TOKEN)  # a mistake in the call, which logging itself would print with its arguments
    try:
        try:
            raise ValueError(url)
        except ValueError as cause:
            secret = TOKEN
            raise RuntimeError(f"The token `{secret}` was rejected by the server.") from cause
    except RuntimeError:
        log.exception("failed")
        standard.exception("failed")
        standard.warning("failed", stack_info=True)
    logged = capsys.readouterr().err + file.read_text()
    assert TOKEN.partition(":")[2] not in logged
    assert "RuntimeError" in logged
    assert "<bot token>" in logged


async def test_a_request_to_telegram_leaves_no_line_with_its_address(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(Telemetry(log_level="debug", log_format="json"))
    answer = httpx.MockTransport(lambda request: httpx.Response(200, json={"ok": True}))
    async with httpx.AsyncClient(transport=answer) as client:
        await client.post(f"https://api.telegram.org/bot{TOKEN}/getMe")
    logging.getLogger("httpx").warning("but warnings are shown")
    assert [line["event"] for line in json_lines(capsys)] == ["but warnings are shown"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "12:34:56",
        "id 1234567890: done",
        "1234567890:short",
        "2026-01-01T00:00:00Z",
        "http://127.0.0.1:8081/bot",
        "你好：" * 40,
    ],
)
def test_what_is_no_token_stays_as_it_is(text: str) -> None:
    assert mask(text) == text


# The metrics


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_a_turn_is_counted_by_its_ending_and_timed() -> None:
    metrics = Metrics()
    metrics.turn_began("telegram")
    metrics.turn_began("telegram")
    assert value(metrics, "familiar_replies_running", channel="telegram") == 2
    metrics.turn_ended("telegram", "stop", 0.3, 3.0)
    metrics.turn_ended("telegram", "failed", None, 0.1)
    assert value(metrics, "familiar_replies_running", channel="telegram") == 0
    assert value(metrics, "familiar_turns_total", channel="telegram", ending="stop") == 1
    assert value(metrics, "familiar_turns_total", channel="telegram", ending="failed") == 1
    assert value(metrics, "familiar_ttft_seconds_count", channel="telegram") == 1
    assert value(metrics, "familiar_ttft_seconds_sum", channel="telegram") == pytest.approx(0.3)
    assert value(metrics, "familiar_reply_seconds_count", channel="telegram") == 2
    assert value(metrics, "familiar_reply_seconds_sum", channel="telegram") == pytest.approx(3.1)


def test_floods_errors_updates_feedback_and_the_queue_are_counted() -> None:
    metrics = Metrics()
    assert value(metrics, "familiar_telegram_floods_total") == 0
    metrics.flood()
    metrics.error("engine_lost")
    metrics.update("telegram", "message")
    metrics.feedback("telegram", "up")
    metrics.queue("telegram", 7)
    metrics.queue("telegram", 4)
    assert value(metrics, "familiar_telegram_floods_total") == 1
    assert value(metrics, "familiar_errors_total", kind="engine_lost") == 1
    assert value(metrics, "familiar_updates_total", channel="telegram", kind="message") == 1
    assert value(metrics, "familiar_feedback_total", channel="telegram", kind="up") == 1
    assert value(metrics, "familiar_inbox_waiting", channel="telegram") == 4


def test_two_services_in_one_process_count_apart() -> None:
    ours, theirs = Metrics(), Metrics()
    ours.flood()
    assert value(theirs, "familiar_telegram_floods_total") == 0


def test_the_metrics_can_be_read_on_this_machine_alone_until_they_are_closed() -> None:
    metrics = Metrics()
    metrics.flood()
    server = metrics.serve(0)
    assert isinstance(server, Server)
    address = f"http://127.0.0.1:{server.port}/metrics"
    with urllib.request.urlopen(address, timeout=30) as answer:
        assert "familiar_telegram_floods_total 1.0" in answer.read().decode()
    with socket.socket() as elsewhere, pytest.raises(OSError):
        elsewhere.settimeout(30)
        elsewhere.connect(("127.0.0.2", server.port))
    server.close()
    with pytest.raises(OSError):
        urllib.request.urlopen(address, timeout=30)
    again = metrics.serve(server.port)
    assert again is not None
    again.close()
    again.close()


def test_a_port_that_is_taken_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger().addHandler(caplog.handler)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert Metrics().serve(port) is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert str(port) in record.getMessage()
