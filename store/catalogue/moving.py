"""How what is one owner's becomes another's: a group may get a new number where its channel lets it grow.

A document keeps its number, so that passages that were quoted from it are found as before. Its chunks get new ones: the
vectors of the old owner and of the new one may lie in different shards, so the index has one to delete and one to put,
and the outbox holds one thing to do for a chunk.

That it moved is noted for good. Somebody may be taking in a document for the old owner at this moment.
"""

from __future__ import annotations

from sqlalchemy import Connection

from store.catalogue import outbox, owned, words
from store.catalogue.database import as_json
from store.catalogue.removing import drop_chunks
from store.storable import storable

_NOTE = "catalogue.moved:"
_COPIED = "document_id, position, page, page_end, tokens, hash, heading, text, words"


def move(connection: Connection, owner: str, to: str) -> int:
    """How many documents. Those of a source that `to` has too stay, and so does everything when the two are one."""
    owner, to = storable(owner), storable(to)
    if owner == to:
        return 0
    _note(connection, owner, to)
    found = connection.exec_driver_sql(
        "SELECT id FROM document WHERE owner_id = (SELECT id FROM owner WHERE name = ?) AND source NOT IN "
        "(SELECT source FROM document WHERE owner_id = (SELECT id FROM owner WHERE name = ?))",
        (owner, to),
    )
    document_ids = list(found.scalars())
    if document_ids:
        _give(connection, document_ids, owned.number_of(connection, to))
    return len(document_ids)


def moved_to(connection: Connection, owner: str) -> str | None:
    to = _noted(connection, owner)
    while to is not None and (further := _noted(connection, to)) is not None:
        to = further
    return to


def _give(connection: Connection, document_ids: list[int], owner_id: int) -> None:
    moved = as_json(document_ids)
    of_them = "FROM chunk WHERE document_id IN (SELECT value FROM json_each(?))"
    before = list(connection.exec_driver_sql(f"SELECT id {of_them} ORDER BY id", (moved,)).scalars())
    connection.exec_driver_sql(
        f"INSERT INTO chunk ({_COPIED}) SELECT {_COPIED} {of_them} ORDER BY document_id, position", (moved,)
    )
    # A new number is higher than all before it.
    copies = connection.exec_driver_sql(
        f"SELECT id, hash, words {of_them} AND id > ? ORDER BY id", (moved, max(before, default=0))
    ).all()
    words.add(connection, owner_id, [(chunk_id, tokens) for chunk_id, _, tokens in copies])
    outbox.add(connection, "put", owner_id, [(chunk_id, hash_) for chunk_id, hash_, _ in copies])
    drop_chunks(connection, before)
    connection.exec_driver_sql(
        "UPDATE document SET owner_id = ? WHERE id IN (SELECT value FROM json_each(?))", (owner_id, moved)
    )


def _note(connection: Connection, owner: str, to: str) -> None:
    """Who is moved to is where things are: a note of their own move, back from there, would lead in a circle."""
    connection.exec_driver_sql("DELETE FROM meta WHERE key = ?", (_NOTE + to,))
    connection.exec_driver_sql("REPLACE INTO meta (key, value) VALUES (?, ?)", (_NOTE + owner, to))


def _noted(connection: Connection, owner: str) -> str | None:
    value = connection.exec_driver_sql("SELECT value FROM meta WHERE key = ?", (_NOTE + owner,)).scalar()
    return None if value is None else str(value)
