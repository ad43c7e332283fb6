"""An engine for a bench: its own data folder, the prepared model, gone afterwards."""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bot.assistant import Assistant
from engine import hardware, models
from engine.client import EngineClient
from engine.process import LocalEngine
from engine.state import Address
from settings import Data, Finetune, Persona, Settings, load
from store.session import Store


@dataclass(frozen=True)
class Bench:
    settings: Settings
    engine: LocalEngine
    address: Address
    client: EngineClient
    store: Store
    assistant: Assistant
    start_s: float  # from nothing to ready


@contextlib.asynccontextmanager
async def running(
    personas: tuple[Persona, ...], *, gpu: Literal["sleep", "share"] = "sleep", **engine: object
) -> AsyncIterator[Bench]:
    """A ready engine with the configured model and the given settings, and an assistant on a database file.

    `gpu`: what becomes of the engine's GPU while a model is trained.
    """
    configured = load()
    with tempfile.TemporaryDirectory() as folder:
        shared = configured.data.folder / "models"
        models.ensure(models.choose(configured.engine.model, hardware.detect()), shared, print)
        (Path(folder) / "models").symlink_to(shared)
        settings = Settings(
            data=Data(folder=Path(folder)),
            engine=configured.engine.model_copy(update={"keep_alive_minutes": 0, **engine}),
            finetune=Finetune(gpu=gpu),
            persona=personas,
        )
        local = LocalEngine(settings)
        begun = time.monotonic()
        try:
            async for state in local.wait():
                address = state.address
            assert address is not None
            start_s = time.monotonic() - begun
            client = EngineClient(local, max_concurrent=64, first_token_timeout_s=600, between_tokens_timeout_s=600)
            with Store(settings.database_url) as store:
                async with client:
                    yield Bench(settings, local, address, client, store, Assistant(store, client, settings), start_s)
        finally:
            await local.stop()


def heading(what: str, address: Address | None = None) -> None:
    """What is measured, where, and how busy the machine already is."""
    machine = hardware.detect()
    print(f"# {what}")
    model = f"{address.model}, " if address else ""
    load_1, _, _ = os.getloadavg()
    print(f"{model}{machine}, Python {platform.python_version()}, load before the start {load_1:.1f}\n", flush=True)


def median(values: list[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2] if ordered else float("nan")


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else float("nan")
