"""`familiar adapters`: the LoRA adapters that are registered, and which of them answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.running import Phases, err, model_folder, out, ready, run, store_of

if TYPE_CHECKING:
    from engine.adapters import Adapters
    from settings import Settings

app = typer.Typer(help="LoRA adapters of the running engine.", no_args_is_help=True)

AdapterArgument = Annotated[str, typer.Argument(help="name@version, e.g. familiar@2")]


@app.command("list")
def listing() -> None:
    """Registered adapters, and which are loaded and in force."""

    async def command(settings: Settings) -> int:
        from rich.table import Table

        from store.adapters import all_adapters

        async with store_of(settings) as store:
            rows = await asyncio.to_thread(all_adapters, store)
        if not rows:
            out().print("No adapter is registered.")
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
        out().print(table)
        return 0

    run(command)


@app.command()
def add(
    folder: Annotated[
        Path, typer.Argument(help="A PEFT LoRA adapter: adapter_config.json, adapter_model.safetensors.")
    ],
    name: Annotated[str, typer.Option(help="The name it is served under.")] = "familiar",
) -> None:
    """Check an adapter, copy it into the data folder as the next version, load it and put it in force."""

    async def command(settings: Settings) -> int:
        async with _adapters(settings) as adapters:
            base = await model_folder(settings)
            row = await asyncio.to_thread(adapters.register, name, folder, base, max_rank=settings.engine.max_lora_rank)
            out().print(f"{row.name}@{row.version} is registered.")
            await _put_in_force(settings, adapters, row.name, row.version)
        return 0

    run(command)


@app.command()
def rollback(name: Annotated[str, typer.Argument(help="The adapter's name.")] = "familiar") -> None:
    """One step back: a canary ends; else the version before answers again, or from the first the base model."""

    async def command(settings: Settings) -> int:
        from engine.in_force import roll_back
        from engine.process import connect

        async with _adapters(settings) as adapters:
            now = await roll_back(connect(settings), adapters, name, Phases())
        out().print(f"{now} is in force." if now else "The base model is in force.")
        return 0

    run(command)


@app.command()
def unload(adapter: AdapterArgument) -> None:
    """Take a version out of the running engine. It stays registered."""
    name, version = _name_and_version(adapter)

    async def command(settings: Settings) -> int:
        from engine.process import connect

        async with _adapters(settings) as adapters:
            await adapters.unload(await ready(connect(settings)), name, version)
        out().print(f"{name}@{version} is unloaded.")
        return 0

    run(command)


@app.command()
def use(adapter: AdapterArgument) -> None:
    """Load a registered version and put it in force."""
    name, version = _name_and_version(adapter)

    async def command(settings: Settings) -> int:
        async with _adapters(settings) as adapters:
            await _put_in_force(settings, adapters, name, version)
        return 0

    run(command)


@asynccontextmanager
async def _adapters(settings: Settings) -> AsyncIterator[Adapters]:
    from engine.adapters import Adapters

    async with store_of(settings) as store:
        yield Adapters(store, settings.data.folder / "adapters", max_cpu_loras=settings.engine.max_cpu_loras)


async def _put_in_force(settings: Settings, adapters: Adapters, name: str, version: int) -> None:
    from engine.errors import AdapterRefused
    from engine.in_force import put_in_force
    from engine.process import connect

    try:
        now = await put_in_force(connect(settings), adapters, name, version, Phases())
    except AdapterRefused as refused:
        if refused.engine_poisoned and not settings.engine.url:
            err().print("· the adapter spoilt the engine, which starts again without it")
        raise
    out().print(f"{now} is in force.")


def _name_and_version(adapter: str) -> tuple[str, int]:
    name, _, version = adapter.partition("@")
    if not (version.isascii() and version.isdecimal()):
        raise typer.BadParameter(f"{adapter!r} is not of the form name@version, e.g. familiar@2")
    return name, int(version)
