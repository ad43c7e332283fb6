"""A version is put in force, for everybody or for a share of the conversations first; and taken back.

What is put in force is loaded and has answered before anybody's reply depends on it; the version before stays loaded,
and replies that are under way end with it. Each step may be repeated: after a crash the same files are the same
version, and what is in force is put in force once more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path

from engine import in_force
from engine.adapters import DEFAULT, Adapters, served_name, stands_in
from engine.in_force import Told
from engine.state import Connection
from finetune.canary import opinion
from finetune.errors import FinetuneError
from finetune.stages import Promoted
from settings import Settings
from store import adapters as table
from store import canaries, lineage
from store.session import Store
from store.tables import Adapter, Canary, now

log = logging.getLogger("familiar.finetune")


def adapters_of(settings: Settings, store: Store) -> Adapters:
    return Adapters(store, settings.data.folder / "adapters", max_cpu_loras=settings.engine.max_cpu_loras)


def register(
    settings: Settings, store: Store, name: str, made: Path, model_folder: Path, learned_from: Collection[int]
) -> Adapter:
    """Keep what a run made as the next version of `name`, with the conversations that it learned from.

    `made`: an adapter's folder, or a whole model's. The same again is the version that it is already. Blocks.
    Raises AdapterRefused.
    """
    kept = adapters_of(settings, store)
    if made.name == "model":
        row: Adapter = kept.register_model(name, made, model_folder)
    else:
        row = kept.register(name, made, model_folder, max_rank=settings.engine.max_lora_rank)
    assert row.id is not None, "a stored row has an id"
    lineage.trained_on(store, row.id, learned_from)
    return row


async def put(
    settings: Settings,
    store: Store,
    connection: Connection,
    adapter: Adapter,
    *,
    instead_of: str | None = None,
    told: Told = lambda _: None,
) -> Promoted:
    """Let this version answer: everybody, or a share of the conversations first (gate.canary_share).

    `instead_of`: what it was shown to be better than, name@version or "base". Raises FinetuneError when something else
    has been put in force since, and what `engine.in_force.put_in_force` raises; then nothing has changed.
    """
    active = await asyncio.to_thread(table.active, store, adapter.name)
    answers = await asyncio.to_thread(stands_in, store, adapter.name)
    now_in_force = served_name(answers) if answers else "base"
    this = served_name(adapter)
    if instead_of is not None and now_in_force not in {instead_of, this}:
        raise FinetuneError(
            f"{this} was compared with {instead_of}, and {now_in_force} has been put in force since. `familiar "
            f"finetune promote {this}` puts it in force all the same; the next run compares anew."
        )
    notes = await asyncio.to_thread(_notes, store, adapter)
    if _first_for_some(settings, adapter, active):
        before = active.version if active else None
        share = settings.gate.canary_share
        await in_force.load(connection, adapters_of(settings, store), adapter, told)
        await asyncio.to_thread(canaries.begin, store, adapter.name, adapter.version, before, share)
        said = f"{this} answers {share:.0%} of the conversations first, for up to {settings.gate.canary_days:g} days."
        return Promoted(adapter.version, said, notes, share)
    await in_force.put_in_force(connection, adapters_of(settings, store), adapter.name, adapter.version, told)
    await asyncio.to_thread(_settle, store, adapter.name, adapter.version)
    return Promoted(adapter.version, f"{this} is in force.", notes)


async def promote(
    settings: Settings, store: Store, connection: Connection, name: str, version: int, told: Told = lambda _: None
) -> str:
    """Let `name@version` answer everybody, because an operator says so. Returns its name. Raises EngineError."""
    now_in_force = await in_force.put_in_force(connection, adapters_of(settings, store), name, version, told)
    await asyncio.to_thread(_settle, store, name, version)
    log.info("%s was put in force by hand", now_in_force)
    return now_in_force


async def rollback(
    settings: Settings, store: Store, connection: Connection, name: str = DEFAULT, told: Told = lambda _: None
) -> str:
    """One step back, as `engine.in_force.roll_back`. Raises EngineError."""
    now_in_force = await in_force.roll_back(connection, adapters_of(settings, store), name, told)
    log.info("rolled back to %s", now_in_force or "the base model")
    return now_in_force


async def check_canary(
    settings: Settings, store: Store, connection: Connection, canary: Canary, told: Told = lambda _: None
) -> str:
    """Decide about a canary, if that can be done by now. Returns its outcome; "" while it stays open.

    Raises EngineError when the decision cannot be carried out; then it stays open.
    """
    active = await asyncio.to_thread(table.active, store, canary.name)
    version = active.version if active else None
    if version == canary.version:  # put in force by hand, or before a crash
        await asyncio.to_thread(canaries.end, store, _number(canary), "promoted")
        return "promoted"
    if version != canary.before_version:
        await asyncio.to_thread(canaries.end, store, _number(canary), "replaced")
        return "replaced"
    found = opinion(await asyncio.to_thread(canaries.ratings, store, canary), settings.gate)
    told_of = {"adapter": f"{canary.name}@{canary.version}", "said": found.said()}
    if found.verdict == "worse":
        log.warning("%s is rolled back: people rate it lower. %s", told_of["adapter"], found.said())
        notice = ("learning.canary_rolled_back", told_of)
        await in_force.take_back(connection, adapters_of(settings, store), canary, notice)
        return "rolled_back"
    if found.verdict == "open" and now() - canary.started_at < timedelta(days=settings.gate.canary_days):
        return ""
    await in_force.put_in_force(connection, adapters_of(settings, store), canary.name, canary.version, told)
    log.info("%s answers everybody now. %s", told_of["adapter"], found.said())
    notice = ("learning.canary_promoted", told_of)
    await asyncio.to_thread(canaries.end, store, _number(canary), "promoted", notice=notice)
    return "promoted"


def _first_for_some(settings: Settings, adapter: Adapter, active: Adapter | None) -> bool:
    """A whole model cannot answer beside another: the engine is one or the other."""
    if not settings.gate.canary_share or adapter.kind != "lora" or (active is not None and active.kind != "lora"):
        return False
    return active is None or active.version != adapter.version


def _settle(store: Store, name: str, version: int) -> None:
    """A canary of this name is over now that somebody has put a version in force."""
    canary = canaries.under_way(store, name)
    if canary is not None:
        canaries.end(store, _number(canary), "promoted" if canary.version == version else "replaced")


def _notes(store: Store, adapter: Adapter) -> tuple[str, ...]:
    this = served_name(adapter)
    for each in lineage.to_leave_out(store):
        if each.adapter == this:
            many = f"{each.conversations} conversation{'' if each.conversations == 1 else 's'}"
            return (f"Forgotten since it learned from them: {many}. The next run goes without.",)
    return ()


def _number(canary: Canary) -> int:
    assert canary.id is not None, "a stored row has an id"
    return canary.id
