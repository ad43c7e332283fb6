"""What could not be taken in, remembered so that an unchanged bad file is not read at every sync."""

from __future__ import annotations

from sqlalchemy import Connection

from store.catalogue import owned
from store.catalogue.entries import Refusal


def note(connection: Connection, owner: str, refusal: Refusal) -> None:
    connection.exec_driver_sql(
        "REPLACE INTO refusal (owner_id, source, name, content_hash, mtime_ns, size, kind, reason) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            owned.number_of(connection, owner),
            refusal.source,
            refusal.name,
            refusal.content_hash,
            refusal.mtime_ns,
            refusal.size,
            refusal.kind,
            refusal.reason,
        ),
    )


def of(connection: Connection, owner: str) -> dict[str, Refusal]:
    found = connection.exec_driver_sql(
        "SELECT source, refusal.name, content_hash, mtime_ns, size, kind, reason "
        "FROM refusal JOIN owner ON owner.id = owner_id WHERE owner.name = ? ORDER BY source",
        (owner,),
    )
    return {row[0]: Refusal(*row) for row in found}


def clear(connection: Connection, owner: str, source: str | None = None) -> None:
    """None: all of the owner's."""
    connection.exec_driver_sql(
        "DELETE FROM refusal WHERE owner_id = (SELECT id FROM owner WHERE name = ?1) AND (?2 IS NULL OR source = ?2)",
        (owner, source),
    )
