"""What is seen of a running service from outside: its log and its metrics.

The log is structured: a line has a time, a level, a logger, an event and named values, as text or as one JSON object.
Lines of the standard library's loggers become such lines too, so that all of the process reads alike. What
`structlog.contextvars.bind_contextvars(turn=…, chat=…)` binds stands in every line until it is unbound. What people
write is never logged at info or above; that is up to whoever logs.

The address of every call to Telegram holds the bot's token, and so may the text of any error about one. So whatever
looks like a token is masked in the finished line, where nothing can get past, and httpx's line about each request is
off.

The metrics are Prometheus's, of one registry for one process, and are served on this machine alone.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import sys
from contextlib import suppress
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from pathlib import Path
from threading import Thread
from typing import Any, Literal
from wsgiref.simple_server import WSGIServer

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from structlog.typing import Processor

from settings import Telemetry

log = logging.getLogger("familiar")

BOT_TOKEN = re.compile(r"\d{6,}(?::|%3A)[A-Za-z0-9_-]{30,}", re.IGNORECASE)
TOO_TALKATIVE = ("httpx", "httpcore", "apscheduler")  # at info they log every request, and every tick

TTFT_BUCKETS_S = (0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120)
REPLY_BUCKETS_S = (0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600)

Ending = Literal["stop", "length", "stopped", "failed"]


def configure_logs(settings: Telemetry, file: Path | None = None) -> None:
    """Log to stderr, and to `file` too unless it cannot be written. Replaces every handler there was before."""
    stderr = logging.StreamHandler(sys.stderr)
    stderr.setFormatter(_formatter(settings.log_format, colors=sys.stderr.isatty()))
    handlers: list[logging.Handler] = [stderr]
    if file is not None:
        with suppress(OSError):  # a full or read-only disk must not keep anybody from talking
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            written = RotatingFileHandler(file, maxBytes=2_000_000, backupCount=3, encoding="utf-8")
            written.setFormatter(_formatter(settings.log_format, colors=False))
            handlers.append(written)
    logging.basicConfig(level=settings.log_level.upper(), handlers=handlers, force=True)
    own = logging.getLogger("familiar")
    own.handlers.clear()
    own.setLevel(logging.NOTSET)
    own.propagate = True
    for name in TOO_TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    # What logging itself prints about a line that it could not write is not masked.
    logging.raiseExceptions = False
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_common(),
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def mask(text: str) -> str:
    """The text without whatever looks like a bot token."""
    return BOT_TOKEN.sub("<bot token>", text)


def turn_id() -> str:
    """A short name for one turn, to find its lines by."""
    return secrets.token_hex(4)


def _formatter(form: Literal["text", "json"], *, colors: bool) -> logging.Formatter:
    finish: list[Processor]
    if form == "json":
        finish = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=json.dumps, ensure_ascii=False),
        ]
    else:
        # Not the pretty tracebacks: they show local variables, and break a token over two lines.
        plain = structlog.dev.plain_traceback
        finish = [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*_common(), structlog.stdlib.ExtraAdder()],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *finish, _finished],
    )


def _common() -> list[Processor]:
    """What every line gets, wherever it comes from."""
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _finished(_logger: object, _method: str, line: Any) -> str:
    """The line as it may be written: masked, and without halves of characters, which no file takes."""
    return mask(str(line).encode("utf-8", "backslashreplace").decode())


class Metrics:
    """What is counted. Labels take few values: never a person, a chat or a text."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._turns = Counter("familiar_turns", "Turns that ended, by how.", ["channel", "ending"], registry=registry)
        self._ttft = Histogram(
            "familiar_ttft_seconds",
            "Time to the first token.",
            ["channel"],
            buckets=TTFT_BUCKETS_S,
            registry=registry,
        )
        self._reply = Histogram(
            "familiar_reply_seconds",
            "Time to the end of a reply.",
            ["channel"],
            buckets=REPLY_BUCKETS_S,
            registry=registry,
        )
        self._running = Gauge("familiar_replies_running", "Replies being made now.", ["channel"], registry=registry)
        self._waiting = Gauge(
            "familiar_inbox_waiting", "Messages received and not answered yet.", ["channel"], registry=registry
        )
        self._floods = Counter("familiar_telegram_floods", "Calls that Telegram answered with 429.", registry=registry)
        self._errors = Counter("familiar_errors", "Errors, by kind.", ["kind"], registry=registry)
        self._updates = Counter(
            "familiar_updates", "Updates received, by kind.", ["channel", "kind"], registry=registry
        )
        self._feedback = Counter(
            "familiar_feedback", "Ratings and corrections.", ["channel", "kind"], registry=registry
        )

    def turn_began(self, channel: str) -> None:
        self._running.labels(channel).inc()

    def turn_ended(self, channel: str, ending: Ending, ttft_s: float | None, seconds: float) -> None:
        """For each turn that began. `ttft_s` is None if no token came."""
        self._running.labels(channel).dec()
        self._turns.labels(channel, ending).inc()
        self._reply.labels(channel).observe(seconds)
        if ttft_s is not None:
            self._ttft.labels(channel).observe(ttft_s)

    def queue(self, channel: str, length: int) -> None:
        self._waiting.labels(channel).set(length)

    def flood(self) -> None:
        self._floods.inc()

    def error(self, kind: str) -> None:
        self._errors.labels(kind).inc()

    def update(self, channel: str, kind: str) -> None:
        self._updates.labels(channel, kind).inc()

    def feedback(self, channel: str, kind: str) -> None:
        self._feedback.labels(channel, kind).inc()

    def serve(self, port: int) -> Server | None:
        """Serve the metrics on this machine. None, and a warning, if the port is taken; 0 is any free one."""
        try:
            server, thread = start_http_server(port, addr="127.0.0.1", registry=self.registry)
        except OSError as error:
            log.warning("no metrics are served: port %s cannot be had (%s)", port, error)
            return None
        return Server(server, thread)


@dataclass(frozen=True)
class Server:
    """Where the metrics are served, in a thread of its own."""

    _server: WSGIServer
    _thread: Thread

    @property
    def port(self) -> int:
        return self._server.server_port

    def close(self) -> None:
        """Stop serving. Takes up to half a second; may be called twice."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
