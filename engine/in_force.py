"""Putting a registered adapter in force, and going a step back, from any command or channel.

engine.adapters does it in a server that is ready and takes adapters. What it takes to get there is here: an engine that
sleeps is started; one that runs without LoRA is started anew with it, if the settings leave that open; and one that an
adapter has spoilt is started anew without that adapter.

For a whole model, and back from it, the engine is always started anew: running replies end first, new turns wait. What
is to be served is asked for in the engine's folder before. The supervisor puts it in force when it is ready, and where
it cannot be served stays with what was in force. So whoever is killed in the middle leaves a store that is true.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from engine import whole_model
from engine.adapters import DEFAULT, Adapters, served_name
from engine.errors import AdapterRefused, EngineError, EngineFailed
from engine.process import LocalEngine
from engine.state import Address, Connection, State
from store import adapters as table
from store import canaries
from store.session import Store
from store.tables import Adapter, Canary

MOST_STARTS = 3

Told = Callable[[State], None]
Made = TypeVar("Made")


async def put_in_force(connection: Connection, adapters: Adapters, name: str, version: int, told: Told) -> str:
    """Let `name@version` answer from now on and return that name; `told` gets the engine's states on the way.

    Raises EngineFailed and what `Adapters.swap` raises; then what was in force before still is.
    """
    row = await asyncio.to_thread(adapters.row, name, version)
    address = (await ready(connection, told)).served()
    _forget_what_was_asked(connection)
    if row.kind == "model":
        return await _start_onto(connection, adapters, row, address, told)
    if address.whole:
        return await _leave_whole(connection, adapters, row, told)
    address = await _with_lora(connection, adapters, row, address, told)
    return await _or_renew(connection, adapters.swap(address, name, version))


async def load(connection: Connection, adapters: Adapters, row: Adapter, told: Told) -> None:
    """Have this version ready to answer, beside what is in force. Raises EngineFailed, what `Adapters.load` raises."""
    address = (await ready(connection, told)).served()
    address = await _with_lora(connection, adapters, row, address, told)
    await _or_renew(connection, adapters.load(address, row.name, row.version))


async def roll_back(connection: Connection, adapters: Adapters, name: str, told: Told) -> str:
    """One step back: a canary ends; else the version before answers again. Returns its name; "" for the base model.

    What is left is not loaded at the engine's next start, and no later step back returns to it. Raises AdapterRefused
    where there is nothing to leave, EngineFailed and what `Adapters.rollback` raises.
    """
    store = adapters.store
    active = await asyncio.to_thread(table.active, store, name)
    canary = await asyncio.to_thread(_canary_beside, store, name, active)
    if canary is not None:
        await take_back(connection, adapters, canary)
        return served_name(active) if active else ""
    if active is None:
        raise AdapterRefused(f"The base model answers; there is no version of {name} in force to go back from.")
    now_in_force = await _step_back(connection, adapters, name, told)
    await asyncio.to_thread(table.mark_loaded, store, _id(active), False)
    return now_in_force


def left_by_roll_back(store: Store, name: str) -> Adapter | None:
    """The version that a step back would leave: an open canary's, else the one in force. None: there is none."""
    active = table.active(store, name)
    canary = _canary_beside(store, name, active)
    return table.get(store, name, canary.version) if canary is not None else active


async def take_back(
    connection: Connection,
    adapters: Adapters,
    canary: Canary,
    notice: tuple[str, dict[str, Any]] | None = None,
) -> None:
    """End a canary: nobody gets its version any more. `notice` is what the admins are told.

    The store first: from then on it is so. That the version leaves the engine, too, only saves memory.
    """
    assert canary.id is not None, "a stored row has an id"
    await asyncio.to_thread(canaries.end, adapters.store, canary.id, "rolled_back", notice=notice)
    row = await asyncio.to_thread(table.get, adapters.store, canary.name, canary.version)
    await asyncio.to_thread(table.mark_loaded, adapters.store, _id(row), False)
    with contextlib.suppress(EngineError):
        state = await ready(connection, lambda _: None)
        await adapters.unload(state.served(), canary.name, canary.version)


async def ready(connection: Connection, told: Told) -> State:
    """The state in which the engine is ready; `told` gets those on the way. Raises EngineFailed."""
    last: State | None = None
    async for last in connection.wait():
        told(last)
    if last is None or last.address is None:
        raise EngineFailed("The engine did not become ready.")
    return last


def _canary_beside(store: Store, name: str, active: Adapter | None) -> Canary | None:
    """The canary under way beside what is in force; beside anything else it has no effect."""
    canary = canaries.under_way(store, name)
    if canary is None or canary.before_version != (active.version if active else None):
        return None
    return canary


async def _step_back(connection: Connection, adapters: Adapters, name: str, told: Told) -> str:
    address = (await ready(connection, told)).served()
    _forget_what_was_asked(connection)
    before = await asyncio.to_thread(adapters.before, name)
    if before is not None and before.kind == "model":
        return await _start_onto(connection, adapters, before, address, told)
    if address.whole and name == DEFAULT:
        return await _leave_whole(connection, adapters, before, told)
    return await _or_renew(connection, adapters.rollback(address, name))


async def _with_lora(connection: Connection, adapters: Adapters, row: Adapter, address: Address, told: Told) -> Address:
    """An engine of ours that runs without LoRA is started anew with it, where the settings leave that open."""
    if address.lora or not isinstance(connection, LocalEngine) or connection.settings.engine.lora != "auto":
        return address
    await asyncio.to_thread(adapters.mark_for_loading, row.name, row.version)
    await connection.renew()
    return (await ready(connection, told)).served()


async def _start_onto(connection: Connection, adapters: Adapters, row: Adapter, address: Address, told: Told) -> str:
    """Start the engine anew onto this whole model. Raises EngineFailed, AdapterRefused."""
    name = served_name(row)
    engine = _ours(connection, name)
    if address.model_folder is not None:
        folder = adapters.root / row.folder
        await asyncio.to_thread(whole_model.check, folder, address.model_folder, numbers=False)
    await asyncio.to_thread(adapters.refuse_beside, row)
    engine.files.ask_for(name)
    try:
        state = await _renewed(engine, name, told)
    finally:
        engine.files.ask_for("")
    if state.served().whole != name:
        why = f": {state.detail}" if state.detail else "."
        raise AdapterRefused(f"The engine could not be started onto {name}{why}")
    return name


async def _leave_whole(connection: Connection, adapters: Adapters, row: Adapter | None, told: Told) -> str:
    """Start the engine anew onto the base model, and put this adapter in force there; None: no adapter.

    Raises EngineFailed, AdapterRefused; then the whole model answers again.
    """
    engine = _ours(connection, served_name(row) if row else "the base model")
    if row is None:
        await asyncio.to_thread(table.activate, adapters.store, DEFAULT, None)
        await _renewed(engine, "", told)
        return ""
    if engine.settings.engine.lora == "off":
        raise AdapterRefused(f"{served_name(row)} is an adapter, and engine.lora is 'off'. Set it to 'auto' first.")
    before = await asyncio.to_thread(table.active, adapters.store, DEFAULT)
    await asyncio.to_thread(adapters.mark_for_loading, row.name, row.version)
    await asyncio.to_thread(table.activate, adapters.store, DEFAULT, None)
    try:
        state = await _renewed(engine, "", told)
        return await adapters.swap(state.served(), row.name, row.version)
    except EngineError:
        await asyncio.to_thread(table.activate, adapters.store, DEFAULT, before.version if before else None)
        await engine.renew()
        raise


def _ours(connection: Connection, name: str) -> LocalEngine:
    if isinstance(connection, LocalEngine):
        return connection
    raise AdapterRefused(
        f"{name} can only be served after a restart of the engine, and the server at engine.url is somebody else's. "
        f"Serve the model's folder there, or train an adapter, e.g. with LoRA."
    )


async def _renewed(engine: LocalEngine, whole: str, told: Told) -> State:
    """Start the engine anew until it serves this whole model ("": the base model), or says why it does not.

    More than once only if it was just starting onto another one. Raises EngineFailed.
    """
    for _ in range(MOST_STARTS):
        await engine.renew()
        state = await ready(engine, told)
        if state.served().whole == whole or state.detail:
            break
    return state


def _forget_what_was_asked(connection: Connection) -> None:
    """By somebody who was killed before the engine was started anew: what is wanted now is something else."""
    if isinstance(connection, LocalEngine):
        connection.files.ask_for("")


async def _or_renew(connection: Connection, change: Awaitable[Made]) -> Made:
    try:
        return await change
    except AdapterRefused as refused:
        if refused.engine_poisoned and isinstance(connection, LocalEngine):
            await connection.renew()
        raise


def _id(adapter: Adapter) -> int:
    assert adapter.id is not None, "a stored row has an id"
    return adapter.id
