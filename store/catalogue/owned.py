"""The owners as rows: a name is looked up once, everything else holds its number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from store.catalogue.database import as_json


@dataclass(frozen=True)
class Owned:
    """How much an owner has."""

    id: int
    chunks: int
    words: int


def number_of(connection: Connection, name: str) -> int:
    """The owner's number, a new one when nothing was theirs before."""
    connection.exec_driver_sql("INSERT INTO owner (name) VALUES (?) ON CONFLICT (name) DO NOTHING", (name,))
    return int(connection.exec_driver_sql("SELECT id FROM owner WHERE name = ?", (name,)).scalar_one())


def all_of(connection: Connection, names: Sequence[str]) -> list[Owned]:
    """Those of `names` that have chunks."""
    found = connection.exec_driver_sql(
        "SELECT id, chunks, words FROM owner WHERE chunks > 0 AND name IN (SELECT value FROM json_each(?))",
        (as_json(names),),
    )
    return [Owned(*row) for row in found]


def names(connection: Connection) -> list[str]:
    """Of those who have chunks."""
    return [name for (name,) in connection.exec_driver_sql("SELECT name FROM owner WHERE chunks > 0 ORDER BY name")]


def add(connection: Connection, owner_id: int, chunks: int, words: int) -> None:
    """`chunks` and `words` came to the owner; negative: went."""
    connection.exec_driver_sql(
        "UPDATE owner SET chunks = chunks + ?, words = words + ? WHERE id = ?", (chunks, words, owner_id)
    )
