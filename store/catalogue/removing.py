"""How documents and chunks leave the catalogue: with their words, and with the vectors that nothing else uses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import Connection

from store.catalogue import erasing, outbox, vectors, words
from store.catalogue.database import as_json
from store.catalogue.owners import SHARED


def drop_documents(connection: Connection, document_ids: Sequence[int]) -> int:
    """How many of them there were."""
    wanted = as_json(document_ids)
    held = connection.exec_driver_sql(
        "SELECT id FROM chunk WHERE document_id IN (SELECT value FROM json_each(?))", (wanted,)
    )
    drop_chunks(connection, list(held.scalars()))
    gone = connection.exec_driver_sql("DELETE FROM document WHERE id IN (SELECT value FROM json_each(?))", (wanted,))
    return gone.rowcount


def drop_chunks(connection: Connection, chunk_ids: Sequence[int]) -> None:
    if not chunk_ids:
        return
    wanted = as_json(chunk_ids)
    found = connection.exec_driver_sql(
        "SELECT owner_id, chunk.id, hash, chunk.words, owner.name FROM chunk "
        "JOIN document ON document.id = document_id JOIN owner ON owner.id = owner_id "
        "WHERE chunk.id IN (SELECT value FROM json_each(?))",
        (wanted,),
    ).all()
    by_owner = defaultdict(list)
    for owner_id, chunk_id, hash_, tokens, _ in found:
        by_owner[owner_id].append((chunk_id, hash_, tokens))
    for owner_id, chunks in by_owner.items():
        words.remove(connection, owner_id, [(chunk_id, tokens) for chunk_id, _, tokens in chunks])
        outbox.add(connection, "delete", owner_id, [(chunk_id, hash_) for chunk_id, hash_, _ in chunks])
    connection.exec_driver_sql("DELETE FROM chunk WHERE id IN (SELECT value FROM json_each(?))", (wanted,))
    vectors.drop_unused(connection, [row[2] for row in found])
    if any(row[4] != SHARED for row in found):
        erasing.owe(connection)
