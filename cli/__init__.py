"""The front door: every command of Familiar, one Typer app.

Nothing heavy is imported before a command needs it: `familiar --help` and a mistyped option answer at once.

    here           talking, the engine, the model, the settings
    adapters.py    familiar adapters …      ┐
    finetune.py    familiar finetune …      │
    knowledge/     familiar knowledge …     │ mounted
    users.py       familiar users …         ┘
    running.py     how a command runs, and what several of them need
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from cli.adapters import app as adapters_app
from cli.finetune import app as finetune_app
from cli.finetune import learning
from cli.knowledge import app as knowledge_app
from cli.running import (
    assistant_of,
    err,
    knowledge_of,
    model_folder,
    out,
    ready,
    run,
    service_log,
    short,
    waking,
    warming,
)
from cli.users import app as users_app

if TYPE_CHECKING:
    from settings import Settings

app = typer.Typer(
    help="Familiar: a chat assistant of your own that learns from the people who use it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
models_app = typer.Typer(help="The model that generates.", no_args_is_help=True)
app.add_typer(models_app, name="models")
app.add_typer(adapters_app, name="adapters")
app.add_typer(finetune_app, name="finetune")
app.add_typer(knowledge_app, name="knowledge")
app.add_typer(users_app, name="users")

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

    async def command(settings: Settings) -> int:
        from bot.shelf import Shelf

        async with (
            knowledge_of(settings) as knowledge,
            assistant_of(settings, knowledge) as assistant,
            waking(assistant),
            warming(knowledge),
        ):
            return await terminal.run(
                assistant,
                settings,
                conversation=conversation,
                latest=resume,
                persona=persona,
                model=model,
                library=Shelf(knowledge),
            )

    run(command)


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="Left out: read from standard input.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for scripts.")] = False,
    persona: PersonaOption = "",
    model: ModelOption = "",
) -> None:
    """Ask once: `familiar ask "…"`, `cat file | familiar ask "summarise"`."""
    import bot.terminal.ask as terminal

    async def command(settings: Settings) -> int:
        async with knowledge_of(settings) as knowledge, assistant_of(settings, knowledge) as assistant:
            return await terminal.run(assistant, settings, question, as_json=as_json, persona=persona, model=model)

    run(command)


@app.command()
def telegram() -> None:
    """Answer people on Telegram until Ctrl-C."""

    async def command(settings: Settings) -> int:
        _refuse_without_token(settings)

        from bot.shelf import Shelf
        from bot.telegram import application

        async with (
            knowledge_of(settings) as knowledge,
            assistant_of(settings, knowledge) as assistant,
            warming(knowledge),
            learning(settings, assistant.store),
        ):
            return await application.run(assistant, settings, Shelf(knowledge))

    run(command, log=service_log)


def _refuse_without_token(settings: Settings) -> None:
    """Before anything is prepared. Raises SettingsError."""
    import re

    from settings import TOKEN_VARIABLE, SettingsError, config_file

    token = settings.telegram.token.get_secret_value()
    if not token:
        raise SettingsError(
            "There is no bot token yet: send /newbot to @BotFather on Telegram, who gives you one, and put it into the "
            f"environment as {TOKEN_VARIABLE}, or into a file that telegram.token_file in {config_file().name} names."
        )
    if not re.fullmatch(r"[0-9]+:[A-Za-z0-9_-]+", token):
        raise SettingsError(
            f"What is given as the bot token ({TOKEN_VARIABLE} or telegram.token_file) is none. One looks like "
            "123456789:AAEexample; @BotFather shows it again after /mybots."
        )


# The engine


@app.command()
def serve() -> None:
    """Start the engine and keep it up until Ctrl-C; after that it ends when idle."""

    async def command(settings: Settings) -> int:
        from engine.process import LocalEngine, connect

        connection = connect(settings)
        address = await ready(connection)
        out().print(f"{address.model} at {address.url}, {address.max_model_len} tokens of context. Ctrl-C to leave.")
        while isinstance(connection, LocalEngine):
            await asyncio.sleep(10)
            await ready(connection)  # counts as use, and starts it again if somebody stopped it
        return 0

    run(command)


@app.command()
def stop() -> None:
    """Stop the engine of this data folder."""

    async def command(settings: Settings) -> int:
        from engine.process import LocalEngine

        stopped = await LocalEngine(settings).stop()
        out().print("The engine is stopped." if stopped else "The engine was not running.")
        return 0

    run(command)


@app.command()
def status() -> None:
    """Show how the engine is. Nothing is started."""

    async def command(settings: Settings) -> int:
        import time

        import aiohttp

        from engine import probe
        from engine.process import LocalEngine

        state = LocalEngine(settings).state()
        screen = out()
        screen.print(f"{state.phase}" + (f" for {time.time() - state.since:.0f} s" if state.since else ""))
        if state.detail:
            screen.print(state.detail)
        if state.log_tail:
            screen.print(state.log_tail, markup=False)
        if state.address is None:
            return 0
        async with aiohttp.ClientSession() as session:
            served = await probe.models(session, state.address)
            numbers = await probe.metrics(session, state.address)
        screen.print(f"at {state.address.url}, restarted {state.restarts} times")
        screen.print("serves " + ", ".join(entry["id"] for entry in served))
        for name in ("num_requests_running", "num_requests_waiting", "prompt_tokens_total", "generation_tokens_total"):
            screen.print(f"{name.replace('_', ' ')}: {numbers.get(f'vllm:{name}', 0):.0f}")
        return 0

    run(command)


@models_app.command("list")
def models_list() -> None:
    """Which model is used on this machine and why, and what `auto` would take elsewhere."""

    async def command(settings: Settings) -> int:
        from rich.table import Table

        from engine import bundled, hardware, models

        machine = hardware.detect()
        choice = models.choose(settings.engine.model, machine)
        screen = out()
        screen.print(f"This machine: {machine}.")
        screen.print(f"engine.model = {settings.engine.model!r}: [bold]{choice.served_name}[/] ({choice.reason}).\n")
        table = Table("GPU memory from", "auto takes", title="What auto takes", title_justify="left")
        for memory_gib, model in models.GPU_MODELS:
            table.add_row(f"{memory_gib:g} GiB", model)
        table.add_row("no GPU, or less", f"{bundled.NAME} (bundled)")
        screen.print(table)
        return 0

    run(command)


@models_app.command("prepare")
def models_prepare() -> None:
    """Download and convert the model now, so that the first chat need not."""

    async def command(settings: Settings) -> int:
        from knowledge import embedding

        await asyncio.to_thread(embedding.prepare, settings, lambda text: err().print(f"· {text}", markup=False))
        if settings.engine.url:
            err().print(f"engine.url is set: the model is served by {settings.engine.url}.")
            return 0
        err().print(f"· the model is ready in {short(await model_folder(settings))}")
        return 0

    run(command)


# Settings


@app.command()
def config() -> None:
    """Print the settings in force, without secrets, and where each came from."""

    async def command(settings: Settings) -> int:
        from rich.table import Table

        from settings import origins

        table = Table("setting", "value", "from")
        for key, value, origin in origins(settings):
            table.add_row(key, value, origin)
        out().print(table)
        return 0

    run(command)


def main() -> None:
    app()
