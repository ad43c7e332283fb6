"""Putting a registered adapter in force, from any command or channel.

engine.adapters does it in a server that is ready and takes adapters. What it takes to get there is here: an engine that
sleeps is started; one that runs without LoRA is started anew with it, if the settings leave that open; and one that an
adapter has spoilt is started anew without that adapter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from engine.adapters import Adapters
from engine.errors import AdapterRefused, EngineFailed
from engine.process import LocalEngine
from engine.state import Address, Connection, State

Told = Callable[[State], None]


async def put_in_force(connection: Connection, adapters: Adapters, name: str, version: int, told: Told) -> str:
    """Let `name@version` answer from now on and return that name; `told` gets the engine's states on the way.

    Raises EngineFailed and what `Adapters.swap` raises; then what was in force before still is.
    """
    address = await _ready(connection, told)
    if not address.lora and isinstance(connection, LocalEngine) and connection.settings.engine.lora == "auto":
        await asyncio.to_thread(adapters.mark_for_loading, name, version)
        await connection.renew()
        address = await _ready(connection, told)
    return await _or_renew(connection, adapters.swap(address, name, version))


async def roll_back(connection: Connection, adapters: Adapters, name: str, told: Told) -> str:
    """Let the version before the one in force answer and return its name; "" for the base model.

    Raises EngineFailed and what `Adapters.rollback` raises.
    """
    return await _or_renew(connection, adapters.rollback(await _ready(connection, told), name))


async def _or_renew(connection: Connection, change: Awaitable[str]) -> str:
    try:
        return await change
    except AdapterRefused as refused:
        if refused.engine_poisoned and isinstance(connection, LocalEngine):
            await connection.renew()
        raise


async def _ready(connection: Connection, told: Told) -> Address:
    address: Address | None = None
    async for state in connection.wait():
        told(state)
        address = state.address
    if address is None:
        raise EngineFailed("The engine did not become ready.")
    return address
