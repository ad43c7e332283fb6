"""The chunks as rows, read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from store.catalogue.database import as_json
from store.catalogue.entries import Chunk

_SELECT = (
    "SELECT chunk.id, document_id, position, text, heading, page, page_end, hash, tokens, owner.name, title, source, "
    "document.name FROM chunk JOIN document ON document.id = document_id JOIN owner ON owner.id = owner_id "
)


def get(connection: Connection, ids: Sequence[int], readable: Sequence[str]) -> dict[int, Chunk]:
    found = _selected(
        connection,
        "WHERE chunk.id IN (SELECT value FROM json_each(?)) AND owner.name IN (SELECT value FROM json_each(?))",
        (as_json(ids), as_json(readable)),
    )
    return {chunk.id: chunk for chunk in found}


def between(connection: Connection, document_id: int, first: int, last: int) -> list[Chunk]:
    return _selected(
        connection, "WHERE document_id = ? AND position BETWEEN ? AND ? ORDER BY position", (document_id, first, last)
    )


def of_document(connection: Connection, document_id: int) -> list[Chunk]:
    return _selected(connection, "WHERE document_id = ? ORDER BY position", (document_id,))


def count(connection: Connection, readable: Sequence[str] | None) -> int:
    everybody, names = (1, "[]") if readable is None else (0, as_json(readable))
    counted = connection.exec_driver_sql(
        "SELECT coalesce(sum(chunks), 0) FROM owner WHERE ? OR name IN (SELECT value FROM json_each(?))",
        (everybody, names),
    )
    return int(counted.scalar_one())


def keys(connection: Connection, after: int, limit: int) -> list[tuple[int, str, str]]:
    """(id, owner, hash), by id."""
    found = connection.exec_driver_sql(
        "SELECT chunk.id, owner.name, hash FROM chunk JOIN document ON document.id = document_id "
        "JOIN owner ON owner.id = owner_id WHERE chunk.id > ? ORDER BY chunk.id LIMIT ?",
        (after, limit),
    )
    return [(chunk_id, owner, hash_) for chunk_id, owner, hash_ in found]


def _selected(connection: Connection, condition: str, parameters: tuple[Any, ...]) -> list[Chunk]:
    return [Chunk(*row) for row in connection.exec_driver_sql(_SELECT + condition, parameters)]
