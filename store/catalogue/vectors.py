"""Vectors by what they were made of: a cache for embedding, and what the vector index is made anew from.

They are kept as float16. A component of a unit vector loses at most 1/2048 of itself, and a cosine about a millionth.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from store.catalogue.database import as_json, many
from store.storable import storable

Vector = NDArray[np.float32]
_STORED = np.dtype("<f2")


def missing(connection: Connection, hashes: Sequence[str], model_id: str) -> list[str]:
    """Those of `hashes` without a vector by this model, each once, in the order given."""
    found = connection.exec_driver_sql(
        "SELECT hash FROM vector JOIN model ON model.id = model_id "
        "WHERE hash IN (SELECT value FROM json_each(?)) AND model.name = ?",
        (as_json(hashes), model_id),
    )
    there = set(found.scalars())
    return [each for each in dict.fromkeys(hashes) if each not in there]


def put(connection: Connection, model_id: str, vectors: Mapping[str, Vector]) -> None:
    """Raises ValueError when they are not all finite, or not as long as this model's others."""
    model, dimensions = _model(connection, model_id, len(next(iter(vectors.values()))))
    now = time.time()
    stored = [(model, storable(each), _packed(vector, dimensions), now) for each, vector in vectors.items()]
    many(
        connection,
        "INSERT INTO vector (model_id, hash, data, put_at) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (hash, model_id) DO UPDATE SET put_at = excluded.put_at",
        stored,
    )


def _model(connection: Connection, name: str, dimensions: int) -> tuple[int, int]:
    connection.exec_driver_sql(
        "INSERT INTO model (name, dimensions) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", (name, dimensions)
    )
    row = connection.exec_driver_sql("SELECT id, dimensions FROM model WHERE name = ?", (name,)).one()
    return int(row[0]), int(row[1])


def dimensions(connection: Connection, name: str) -> int | None:
    """None: no vector by this model was ever put."""
    found = connection.exec_driver_sql("SELECT dimensions FROM model WHERE name = ?", (name,)).scalar()
    return None if found is None else int(found)


def _packed(vector: Vector, dimensions: int) -> bytes:
    if vector.shape != (dimensions,):
        raise ValueError(f"A vector of the shape {vector.shape} among those with {dimensions} dimensions.")
    with np.errstate(over="ignore"):
        packed = vector.astype(_STORED)
    if not np.isfinite(packed).all():
        raise ValueError("A vector with a component that is not a number, or too large for one of unit length.")
    return packed.tobytes()


def get(connection: Connection, hashes: Sequence[str], model_id: str) -> dict[str, Vector]:
    """Those that there are."""
    found = connection.exec_driver_sql(
        "SELECT hash, data FROM vector JOIN model ON model.id = model_id "
        "WHERE hash IN (SELECT value FROM json_each(?)) AND model.name = ?",
        (as_json(hashes), model_id),
    ).all()
    return dict(zip((row[0] for row in found), unpacked([row[1] for row in found]), strict=True))


def unpacked(stored: Sequence[bytes]) -> Vector:
    """(n, d), (0, 0) for none."""
    if not stored:
        return np.empty((0, 0), dtype=np.float32)
    return np.frombuffer(b"".join(stored), dtype=_STORED).reshape(len(stored), -1).astype(np.float32)


def drop_unused(connection: Connection, hashes: Sequence[str]) -> None:
    """Of every model, unless a chunk is left that has the hash."""
    connection.exec_driver_sql(
        "DELETE FROM vector WHERE hash IN (SELECT value FROM json_each(?)) "
        "AND NOT EXISTS (SELECT 1 FROM chunk WHERE chunk.hash = vector.hash)",
        (as_json(list(set(hashes))),),
    )


def sweep(connection: Connection, older_than_s: float) -> int:
    """Drop those that no chunk uses, but for the young ones, whose documents may be on their way."""
    swept: Any = connection.exec_driver_sql(
        "DELETE FROM vector WHERE put_at <= ? AND NOT EXISTS (SELECT 1 FROM chunk WHERE chunk.hash = vector.hash)",
        (time.time() - older_than_s,),
    )
    return int(swept.rowcount)
