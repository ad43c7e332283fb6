"""How a command runs: with settings and a log, with the store or the assistant if it needs them, and to an exit code.

What a person can cause or cure is one sentence on stderr. The exit code is 2 for a mistake in the settings, 1 for
everything else that went wrong, 130 for Ctrl-C.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from bot.assistant import Assistant
    from engine.state import Address, Connection, State
    from knowledge.knowledge import Knowledge
    from settings import Settings
    from store.session import Store

Command = Callable[["Settings"], Awaitable[int]]
LOG_FILE = Path("log") / "familiar.log"  # in the data folder


def file_log(settings: Settings) -> None:
    """What Familiar's code logs goes to a file: on the screen it would stand in the middle of a conversation."""
    from logging.handlers import RotatingFileHandler

    file = settings.data.folder / LOG_FILE
    with contextlib.suppress(OSError):  # a full or read-only disk must not keep anybody from talking
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handler = RotatingFileHandler(file, maxBytes=2_000_000, backupCount=3, delay=True, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        logger = logging.getLogger("familiar")
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False


def service_log(settings: Settings) -> None:
    """Of a command that serves others and talks to nobody itself: to the screen, too."""
    from bot.telemetry import configure_logs

    configure_logs(settings.telemetry, settings.data.folder / LOG_FILE)


def run(command: Command, *, log: Callable[[Settings], None] = file_log) -> None:
    """Run a command's coroutine function and leave with its exit code."""
    from bot.errors import ChatError
    from engine.errors import EngineError
    from knowledge.errors import KnowledgeError
    from settings import SettingsError, load
    from store.errors import StoreError

    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(message)s")

    async def to_its_end(settings: Settings) -> int:
        return await command(settings)

    try:
        settings = load()
        log(settings)
        code = asyncio.run(to_its_end(settings))
    except KeyboardInterrupt:
        code = 130
    except ChatError as error:
        from bot.terminal.identity import own_texts

        err().print(own_texts(settings).problem(error), style="red", markup=False, soft_wrap=True)
        code = 1
    except (SettingsError, EngineError, KnowledgeError, StoreError) as error:
        tail = getattr(error, "log_tail", "")
        err().print(f"{tail}\n" if tail else "", end="", markup=False, soft_wrap=True)
        err().print(str(error), style="red", markup=False, soft_wrap=True)
        code = 2 if isinstance(error, SettingsError) else 1
    sys.exit(code)


@contextlib.asynccontextmanager
async def store_of(settings: Settings) -> AsyncIterator[Store]:
    from store.session import Store

    store = Store(settings.database_url)
    await asyncio.to_thread(store.open)
    try:
        yield store
    finally:
        await asyncio.to_thread(store.close)


@contextlib.asynccontextmanager
async def knowledge_of(settings: Settings) -> AsyncIterator[Knowledge]:
    from knowledge.knowledge import Knowledge

    knowledge = Knowledge(settings)
    await asyncio.to_thread(knowledge.open)
    try:
        yield knowledge
    finally:
        await asyncio.to_thread(knowledge.close)


@contextlib.asynccontextmanager
async def assistant_of(settings: Settings, knowledge: Knowledge | None = None) -> AsyncIterator[Assistant]:
    """The assistant, with its model prepared. The engine is not started yet."""
    from bot.assistant import Assistant
    from engine.client import EngineClient
    from engine.process import connect
    from store import sealed
    from store.errors import StoreError

    if not settings.engine.url:
        await model_folder(settings)
    client = EngineClient(
        connect(settings),
        max_concurrent=settings.engine.max_concurrent,
        first_token_timeout_s=settings.engine.first_token_timeout_s,
        between_tokens_timeout_s=settings.engine.between_tokens_timeout_s,
    )
    async with store_of(settings) as store, client:
        with contextlib.suppress(StoreError):  # it is tried again at the next start
            await asyncio.to_thread(sealed.release, store, settings.learning.sealed_days)
        yield Assistant(store, client, settings, knowledge)


async def model_folder(settings: Settings) -> Path:
    """The model's folder; if it must be downloaded or converted first, that is shown."""
    from engine import hardware, models

    choice = models.choose(settings.engine.model, hardware.detect())
    screen = err()
    with screen.status("looking for the model") as spinner:

        def report(text: str) -> None:
            spinner.update(text)
            screen.print(f"· {text}", markup=False)

        return await asyncio.to_thread(models.ensure, choice, settings.data.folder / "models", report)


@contextlib.asynccontextmanager
async def waking(assistant: Assistant) -> AsyncIterator[None]:
    """Have the engine start while the person still reads. What goes wrong is told with their first message."""

    async def wake() -> None:
        from engine.errors import EngineError

        with contextlib.suppress(EngineError):
            await assistant.client.address()

    task = asyncio.create_task(wake())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def warming(knowledge: Knowledge) -> AsyncIterator[None]:
    """Have the embedding model loaded while the person still reads, if there are documents to search at all."""

    def warm() -> None:
        from knowledge.errors import KnowledgeError
        from store.errors import StoreError

        with contextlib.suppress(KnowledgeError, StoreError):  # told with the first search
            if knowledge.catalogue.chunk_count():
                knowledge.follow()
                knowledge.warm()
                knowledge.ingest.tidy()

    task = asyncio.create_task(asyncio.to_thread(warm))
    try:
        yield
    finally:
        await asyncio.gather(task, return_exceptions=True)


class Phases:
    """Shows the engine's phases on stderr while it is waited for, each once; nothing when it is ready at once."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._shown = ""

    def __call__(self, state: State) -> None:
        text = f"{state.phase}{': ' if state.detail else ''}{state.detail}"
        if state.phase == "ready" and self._shown:
            err().print(f"· ready in {time.monotonic() - self._began:.0f} s")
            self._shown = ""
        elif state.phase != "ready" and text != self._shown:
            err().print(f"· {text}", markup=False)
            self._shown = text


async def ready(connection: Connection) -> Address:
    """Wait for the engine, with its phases on stderr."""
    told = Phases()
    address: Address | None = None
    async for state in connection.wait():
        told(state)
        address = state.address
    assert address is not None  # wait() ends with a ready state, or raises
    return address


def short(path: Path) -> str:
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def out() -> Console:
    from rich.console import Console

    return Console(highlight=False)


def err() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False)
