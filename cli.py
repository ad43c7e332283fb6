"""The front door: every command of Familiar, one Typer app.

Nothing heavy is imported before a command needs it: `familiar --help` and a mistyped option answer at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from bot.assistant import Assistant
    from engine.state import Address
    from settings import Settings

app = typer.Typer(
    help="Familiar: a chat assistant of your own that learns from the people who use it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
models_app = typer.Typer(help="The model that generates.", no_args_is_help=True)
adapters_app = typer.Typer(help="LoRA adapters of the running engine.", no_args_is_help=True)
app.add_typer(models_app, name="models")
app.add_typer(adapters_app, name="adapters")

PersonaOption = Annotated[str, typer.Option(help="One of the personas of config.toml.")]
ModelOption = Annotated[str, typer.Option(help="'auto', 'base', or an adapter's name or name@version.")]


# Talking


@app.command()
def chat(
    resume: Annotated[bool, typer.Option("--continue", "-c", help="Go on with the last conversation.")] = False,
    conversation: Annotated[int | None, typer.Option(help="Go on with the conversation of this number.")] = None,
    persona: PersonaOption = "",
    model: ModelOption = "",
) -> None:
    """Talk to the assistant in this terminal."""
    import bot.terminal.chat as terminal

    async def run(settings: Settings) -> int:
        async with _assistant(settings) as assistant, _waking(assistant):
            return await terminal.run(
                assistant, settings, conversation=conversation, latest=resume, persona=persona, model=model
            )

    _run(run)


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="Left out: read from standard input.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for scripts.")] = False,
    persona: PersonaOption = "",
    model: ModelOption = "",
) -> None:
    """Ask once: `familiar ask "…"`, `cat file | familiar ask "summarise"`."""
    import bot.terminal.ask as terminal

    async def run(settings: Settings) -> int:
        async with _assistant(settings) as assistant:
            return await terminal.run(assistant, settings, question, as_json=as_json, persona=persona, model=model)

    _run(run)


# The engine


@app.command()
def serve() -> None:
    """Start the engine and keep it up until Ctrl-C; after that it ends when idle."""

    async def run(settings: Settings) -> int:
        from engine.process import LocalEngine, connect

        connection = connect(settings)
        address = await _ready(connection)
        _out().print(f"{address.model} at {address.url}, {address.max_model_len} tokens of context. Ctrl-C to leave.")
        while isinstance(connection, LocalEngine):
            await asyncio.sleep(10)
            await _ready(connection)  # counts as use, and starts it again if somebody stopped it
        return 0

    _run(run)


@app.command()
def stop() -> None:
    """Stop the engine of this data folder."""

    async def run(settings: Settings) -> int:
        from engine.process import LocalEngine

        stopped = await LocalEngine(settings).stop()
        _out().print("The engine is stopped." if stopped else "The engine was not running.")
        return 0

    _run(run)


@app.command()
def status() -> None:
    """Show how the engine is. Nothing is started."""

    async def run(settings: Settings) -> int:
        import time

        import aiohttp

        from engine import probe
        from engine.process import LocalEngine

        state = LocalEngine(settings).state()
        out = _out()
        out.print(f"{state.phase}" + (f" for {time.time() - state.since:.0f} s" if state.since else ""))
        if state.detail:
            out.print(state.detail)
        if state.log_tail:
            out.print(state.log_tail, markup=False)
        if state.address is None:
            return 0
        async with aiohttp.ClientSession() as session:
            served = await probe.models(session, state.address)
            numbers = await probe.metrics(session, state.address)
        out.print(f"at {state.address.url}, restarted {state.restarts} times")
        out.print("serves " + ", ".join(entry["id"] for entry in served))
        for name in ("num_requests_running", "num_requests_waiting", "prompt_tokens_total", "generation_tokens_total"):
            out.print(f"{name.replace('_', ' ')}: {numbers.get(f'vllm:{name}', 0):.0f}")
        return 0

    _run(run)


@models_app.command("list")
def models_list() -> None:
    """Which model is used on this machine and why, and what `auto` would take elsewhere."""

    async def run(settings: Settings) -> int:
        from rich.table import Table

        from engine import bundled, hardware, models

        machine = hardware.detect()
        choice = models.choose(settings.engine.model, machine)
        out = _out()
        out.print(f"This machine: {machine}.")
        out.print(f"engine.model = {settings.engine.model!r}: [bold]{choice.served_name}[/] ({choice.reason}).\n")
        table = Table("GPU memory from", "auto takes", title="What auto takes", title_justify="left")
        for memory_gib, model in models.GPU_MODELS:
            table.add_row(f"{memory_gib:g} GiB", model)
        table.add_row("no GPU, or less", f"{bundled.NAME} (bundled)")
        out.print(table)
        return 0

    _run(run)


@models_app.command("prepare")
def models_prepare() -> None:
    """Download and convert the model now, so that the first chat need not."""

    async def run(settings: Settings) -> int:
        if settings.engine.url:
            _err().print(f"engine.url is set: the model is served by {settings.engine.url}.")
            return 0
        _err().print(f"· the model is ready in {_short(await _model(settings))}")
        return 0

    _run(run)


# Adapters


@adapters_app.command("list")
def adapters_list() -> None:
    """Registered adapters, and which are loaded and in force."""

    async def run(settings: Settings) -> int:
        from rich.table import Table

        from store.adapters import all_adapters

        async with _store(settings) as store:
            rows = await asyncio.to_thread(all_adapters, store)
        if not rows:
            _out().print("No adapter is registered.")
            return 0
        table = Table("adapter", "rank", "base", "loaded", "in force", "registered")
        for row in rows:
            table.add_row(
                f"{row.name}@{row.version}",
                str(row.rank),
                row.base,
                "yes" if row.loaded else "no",
                "yes" if row.active else "no",
                f"{row.created_at:%Y-%m-%d %H:%M}",
            )
        _out().print(table)
        return 0

    _run(run)


@adapters_app.command("add")
def adapters_add(
    folder: Annotated[
        Path, typer.Argument(help="A PEFT LoRA adapter: adapter_config.json, adapter_model.safetensors.")
    ],
    name: Annotated[str, typer.Option(help="The name it is served under.")] = "familiar",
) -> None:
    """Check an adapter, copy it into the data folder as the next version, load it and put it in force."""

    async def run(settings: Settings) -> int:
        async with _store(settings) as store:
            base = await _model(settings)
            adapters = _adapters(settings, store)
            row = await asyncio.to_thread(adapters.register, name, folder, base, max_rank=settings.engine.max_lora_rank)
            _out().print(f"{row.name}@{row.version} is registered.")
            await _swap(settings, adapters, row.name, row.version)
        return 0

    _run(run)


@adapters_app.command("rollback")
def adapters_rollback(name: Annotated[str, typer.Argument(help="The adapter's name.")] = "familiar") -> None:
    """Put the version before the one in force back; from the first, the base model."""

    async def run(settings: Settings) -> int:
        from engine.process import connect

        async with _store(settings) as store:
            address = await _ready(connect(settings))
            now = await _adapters(settings, store).rollback(address, name)
        _out().print(f"{now} is in force." if now else "The base model is in force.")
        return 0

    _run(run)


@adapters_app.command("unload")
def adapters_unload(adapter: Annotated[str, typer.Argument(help="name@version, e.g. familiar@2")]) -> None:
    """Take a version out of the running engine. It stays registered."""

    async def run(settings: Settings) -> int:
        from engine.process import connect

        name, version = _name_and_version(adapter)
        async with _store(settings) as store:
            await _adapters(settings, store).unload(await _ready(connect(settings)), name, version)
        _out().print(f"{name}@{version} is unloaded.")
        return 0

    _run(run)


@adapters_app.command("use")
def adapters_use(adapter: Annotated[str, typer.Argument(help="name@version, e.g. familiar@2")]) -> None:
    """Load a registered version and put it in force."""

    async def run(settings: Settings) -> int:
        name, version = _name_and_version(adapter)
        async with _store(settings) as store:
            await _swap(settings, _adapters(settings, store), name, version)
        return 0

    _run(run)


# Settings


@app.command()
def config() -> None:
    """Print the settings in force, without secrets, and where each came from."""

    async def run(settings: Settings) -> int:
        from rich.table import Table

        from settings import origins

        table = Table("setting", "value", "from")
        for key, value, origin in origins(settings):
            table.add_row(key, value, origin)
        _out().print(table)
        return 0

    _run(run)


# How a command runs


def _run(command: Any) -> None:
    """Run a command's coroutine function and leave with its exit code; a person's errors are one sentence on stderr."""
    from engine.errors import EngineError
    from settings import SettingsError, load
    from store.errors import StoreError

    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(message)s")
    try:
        settings = load()
        _log_to(settings.data.folder / "log" / "familiar.log")
        code = asyncio.run(command(settings))
    except KeyboardInterrupt:
        code = 130
    except (SettingsError, EngineError, StoreError) as error:
        tail = getattr(error, "log_tail", "")
        _err().print(f"{tail}\n" if tail else "", end="", markup=False, soft_wrap=True)
        _err().print(str(error), style="red", markup=False, soft_wrap=True)
        code = 2 if isinstance(error, SettingsError) else 1
    sys.exit(code)


def _log_to(file: Path) -> None:
    """What Familiar's code logs goes to a file: on the screen it would stand in the middle of a conversation."""
    from logging.handlers import RotatingFileHandler

    with contextlib.suppress(OSError):  # a full or read-only disk must not keep anybody from talking
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handler = RotatingFileHandler(file, maxBytes=2_000_000, backupCount=3, delay=True, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        logger = logging.getLogger("familiar")
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False


@contextlib.asynccontextmanager
async def _store(settings: Settings) -> AsyncIterator[Any]:
    from store.session import Store

    store = Store(settings.database_url)
    await asyncio.to_thread(store.open)
    try:
        yield store
    finally:
        await asyncio.to_thread(store.close)


@contextlib.asynccontextmanager
async def _assistant(settings: Settings) -> AsyncIterator[Assistant]:
    from bot.assistant import Assistant
    from engine.client import EngineClient
    from engine.process import connect

    if not settings.engine.url:
        await _model(settings)
    client = EngineClient(
        connect(settings),
        max_concurrent=settings.engine.max_concurrent,
        first_token_timeout_s=settings.engine.first_token_timeout_s,
        between_tokens_timeout_s=settings.engine.between_tokens_timeout_s,
    )
    async with _store(settings) as store, client:
        yield Assistant(store, client, settings)


async def _model(settings: Settings) -> Path:
    """The model's folder; if it must be downloaded or converted first, that is shown."""
    from engine import hardware, models

    choice = models.choose(settings.engine.model, hardware.detect())
    out = _err()
    with out.status("looking for the model") as spinner:

        def report(text: str) -> None:
            spinner.update(text)
            out.print(f"· {text}", markup=False)

        return await asyncio.to_thread(models.ensure, choice, settings.data.folder / "models", report)


@contextlib.asynccontextmanager
async def _waking(assistant: Assistant) -> AsyncIterator[None]:
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


async def _ready(connection: Any) -> Address:
    """Wait for the engine, with its phases on stderr."""
    import time

    begun, shown = time.monotonic(), ""
    address: Address | None = None
    async for state in connection.wait():
        address = state.address
        text = f"{state.phase}{': ' if state.detail else ''}{state.detail}"
        if state.phase != "ready" and text != shown:
            _err().print(f"· {text}", markup=False)
            shown = text
    if shown:
        _err().print(f"· ready in {time.monotonic() - begun:.0f} s")
    assert address is not None  # wait() ends with a ready state, or raises
    return address


def _adapters(settings: Settings, store: Any) -> Any:
    from engine.adapters import Adapters

    return Adapters(store, settings.data.folder / "adapters", max_cpu_loras=settings.engine.max_cpu_loras)


async def _swap(settings: Settings, adapters: Any, name: str, version: int) -> None:
    """Put an adapter in force, restarting the engine once if it runs without LoRA."""
    from engine.errors import AdapterRefused
    from engine.process import LocalEngine, connect

    connection = connect(settings)
    address = await _ready(connection)
    if not address.lora and isinstance(connection, LocalEngine) and settings.engine.lora == "auto":
        await asyncio.to_thread(adapters.mark_for_loading, name, version)
        await connection.renew()
        address = await _ready(connection)
    try:
        await adapters.swap(address, name, version)
    except AdapterRefused as refused:
        if refused.engine_poisoned and isinstance(connection, LocalEngine):
            _err().print("· the adapter spoilt the engine, which starts again without it")
            await connection.renew()
        raise
    _out().print(f"{name}@{version} is in force.")


def _name_and_version(adapter: str) -> tuple[str, int]:
    name, _, version = adapter.partition("@")
    if not version.isdecimal():
        raise typer.BadParameter(f"{adapter!r} is not of the form name@version, e.g. familiar@2")
    return name, int(version)


def _short(path: Path) -> str:
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def _out() -> Console:
    from rich.console import Console

    return Console(highlight=False)


def _err() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
