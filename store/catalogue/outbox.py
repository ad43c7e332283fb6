"""What the vector index has still to do. It is written in the transaction that changes the chunks, so that the index
can be behind the catalogue but never apart from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from store.catalogue.database import as_json, many
from store.catalogue.entries import Action, OutboxItem
from store.catalogue.vectors import Vector, unpacked


def add(connection: Connection, action: Action, owner_id: int, chunks: Iterable[tuple[int, str]]) -> None:
    """Chunks as (id, hash).

    REPLACE, not UPDATE: what is to be done now has a new id, so that an indexer which reports the older as done does
    not cross this out. A deletion stays even when its put was never reported, for it may have been made.
    """
    many(
        connection,
        "REPLACE INTO outbox (chunk_id, action, owner_id, hash) VALUES (?, ?, ?, ?)",
        [(chunk_id, action, owner_id, hash_) for chunk_id, hash_ in chunks],
    )


def pending(connection: Connection, limit: int, after: int) -> list[OutboxItem]:
    found = connection.exec_driver_sql(
        "SELECT outbox.id, chunk_id, action, owner.name, hash FROM outbox JOIN owner ON owner.id = owner_id "
        "WHERE outbox.id > ? ORDER BY outbox.id LIMIT ?",
        (after, limit),
    )
    return [OutboxItem(*row) for row in found]


def done(connection: Connection, item_ids: Sequence[int]) -> None:
    many(connection, "DELETE FROM outbox WHERE id = ?", [(item_id,) for item_id in item_ids])


def count(connection: Connection) -> int:
    return int(connection.exec_driver_sql("SELECT count(*) FROM outbox").scalar_one())


def puts(connection: Connection, readable: Sequence[str], model_id: str) -> tuple[NDArray[np.int64], Vector]:
    """The chunk ids (n,) and vectors (n, d) that are still to be put, of readable owners."""
    found = connection.exec_driver_sql(
        "SELECT chunk_id, data FROM outbox JOIN vector ON vector.hash = outbox.hash "
        "AND vector.model_id = (SELECT id FROM model WHERE name = ?) "
        "WHERE action = 'put' AND owner_id IN (SELECT id FROM owner WHERE name IN (SELECT value FROM json_each(?)))",
        (model_id, as_json(readable)),
    ).all()
    return np.array([row[0] for row in found], dtype=np.int64), unpacked([row[1] for row in found])
