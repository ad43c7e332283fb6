"""Putting a registered adapter in force, from any command or channel.

engine.adapters does it in a server that is ready and takes adapters. What it takes to get there is here: an engine that
sleeps is started; one that runs without LoRA is started anew with it, if the settings leave that open; and one that an
adapter has spoilt is started anew without that adapter.

For a whole model, and back from it, the engine is always started anew: running replies end first, new turns wait. What
is to be served is asked for in the engine's folder before. The supervisor puts it in force when it is ready, and where
it cannot be served stays with what was in force. So whoever is killed in the middle leaves a store that is true.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from engine import whole_model
from engine.adapters import DEFAULT, Adapters, served_name
from engine.errors import AdapterRefused, EngineError, EngineFailed
from engine.process import LocalEngine
from engine.state import Address, Connection, State
from store import adapters as table
from store.tables import Adapter

MOST_STARTS = 3

Told = Callable[[State], None]


async def put_in_force(connection: Connection, adapters: Adapters, name: str, version: int, told: Told) -> str:
    """Let `name@version` answer from now on and return that name; `told` gets the engine's states on the way.

    Raises EngineFailed and what `Adapters.swap` raises; then what was in force before still is.
    """
    address = (await _ready(connection, told)).served()
    _forget_what_was_asked(connection)
    row = await asyncio.to_thread(adapters.row, name, version)
    if row.kind == "model":
        return await _start_onto(connection, adapters, row, address, told)
    if address.whole:
        return await _leave_whole(connection, adapters, row, told)
    if not address.lora and isinstance(connection, LocalEngine) and connection.settings.engine.lora == "auto":
        await asyncio.to_thread(adapters.mark_for_loading, name, version)
        await connection.renew()
        address = (await _ready(connection, told)).served()
    return await _or_renew(connection, adapters.swap(address, name, version))


async def roll_back(connection: Connection, adapters: Adapters, name: str, told: Told) -> str:
    """Let the version before the one in force answer and return its name; "" for the base model.

    Raises EngineFailed and what `Adapters.rollback` raises.
    """
    address = (await _ready(connection, told)).served()
    _forget_what_was_asked(connection)
    before = await asyncio.to_thread(adapters.before, name)
    if before is not None and before.kind == "model":
        return await _start_onto(connection, adapters, before, address, told)
    if address.whole and name == DEFAULT:
        return await _leave_whole(connection, adapters, before, told)
    return await _or_renew(connection, adapters.rollback(address, name))


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
        state = await _ready(engine, told)
        if state.served().whole == whole or state.detail:
            break
    return state


def _forget_what_was_asked(connection: Connection) -> None:
    """By somebody who was killed before the engine was started anew: what is wanted now is something else."""
    if isinstance(connection, LocalEngine):
        connection.files.ask_for("")


async def _or_renew(connection: Connection, change: Awaitable[str]) -> str:
    try:
        return await change
    except AdapterRefused as refused:
        if refused.engine_poisoned and isinstance(connection, LocalEngine):
            await connection.renew()
        raise


async def _ready(connection: Connection, told: Told) -> State:
    """The ready state. Raises EngineFailed."""
    last: State | None = None
    async for last in connection.wait():
        told(last)
    if last is None or last.address is None:
        raise EngineFailed("The engine did not become ready.")
    return last
