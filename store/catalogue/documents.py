"""The documents as rows: found, listed, renamed. How they come in and go is in putting.py and removing.py."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from store.catalogue import owned
from store.catalogue.database import as_json
from store.catalogue.entries import Document, NewDocument
from store.errors import NotFound

_COLUMNS = tuple(field.name for field in fields(Document))
_FIELDS = ", ".join("owner.name" if name == "owner" else f"document.{name}" for name in _COLUMNS)
_SELECT = f"SELECT {_FIELDS} FROM document JOIN owner ON owner.id = owner_id "


def get(connection: Connection, document_id: int) -> Document:
    """Raises NotFound."""
    found = _selected(connection, "WHERE document.id = ?", (document_id,))
    if not found:
        raise NotFound(f"There is no document {document_id}.")
    return found[0]


def listing(connection: Connection, owners: Sequence[str], added_by: int | None) -> list[Document]:
    return _selected(
        connection,
        "WHERE owner.name IN (SELECT value FROM json_each(?1)) AND (?2 IS NULL OR added_by = ?2) "
        "ORDER BY added_at DESC, document.id DESC",
        (as_json(owners), added_by),
    )


def by_source(connection: Connection, owner: str, prefix: str) -> dict[str, Document]:
    found = _selected(
        connection, "WHERE owner.name = ?1 AND substr(source, 1, length(?2)) = ?2 ORDER BY source", (owner, prefix)
    )
    return {document.source: document for document in found}


def with_content(connection: Connection, owner: str, content_hash: str) -> list[Document]:
    return _selected(
        connection, "WHERE owner.name = ? AND content_hash = ? ORDER BY document.id", (owner, content_hash)
    )


def count(connection: Connection, owners: Sequence[str]) -> int:
    counted = connection.exec_driver_sql(
        "SELECT count(*) FROM document JOIN owner ON owner.id = owner_id "
        "WHERE owner.name IN (SELECT value FROM json_each(?))",
        (as_json(owners),),
    )
    return int(counted.scalar_one())


def added_by(connection: Connection, person_id: int) -> list[Document]:
    return _selected(connection, "WHERE added_by = ? ORDER BY added_at DESC, document.id DESC", (person_id,))


def insert_or_update(connection: Connection, new: NewDocument, chunks: int) -> tuple[int, int]:
    """The row of the document that this owner has from this source. (its id, its owner's number)"""
    owner_id = owned.number_of(connection, new.owner)
    now = datetime.now(UTC).isoformat()
    connection.exec_driver_sql(
        "INSERT INTO document (owner_id, source, name, title, kind, mime, content_hash, size, mtime_ns, pages, "
        "original, added_by, notes, chunks, added_at, updated_at) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) "
        "ON CONFLICT (owner_id, source) DO UPDATE SET name = excluded.name, title = excluded.title, "
        "kind = excluded.kind, mime = excluded.mime, content_hash = excluded.content_hash, size = excluded.size, "
        "mtime_ns = excluded.mtime_ns, pages = excluded.pages, original = excluded.original, "
        "added_by = excluded.added_by, notes = excluded.notes, chunks = excluded.chunks, "
        "updated_at = excluded.updated_at",
        (
            owner_id,
            new.source,
            new.name,
            new.title,
            new.kind,
            new.mime,
            new.content_hash,
            new.size,
            new.mtime_ns,
            new.pages,
            new.original,
            new.added_by,
            json.dumps(new.notes, ensure_ascii=False),
            chunks,
            now,
            now,
        ),
    )
    document_id = connection.exec_driver_sql(
        "SELECT id FROM document WHERE owner_id = ? AND source = ?", (owner_id, new.source)
    ).scalar_one()
    return int(document_id), owner_id


def rename(connection: Connection, document_id: int, source: str, name: str, title: str, mtime_ns: int) -> None:
    connection.exec_driver_sql(
        "UPDATE document SET source = ?, name = ?, title = ?, mtime_ns = ?, updated_at = ? WHERE id = ?",
        (source, name, title, mtime_ns, datetime.now(UTC).isoformat(), document_id),
    )


def touch(connection: Connection, document_id: int, mtime_ns: int) -> None:
    connection.exec_driver_sql("UPDATE document SET mtime_ns = ? WHERE id = ?", (mtime_ns, document_id))


def _selected(connection: Connection, condition: str, parameters: tuple[Any, ...]) -> list[Document]:
    return [_document(row) for row in connection.exec_driver_sql(_SELECT + condition, parameters)]


def _document(row: Any) -> Document:
    values = dict(zip(_COLUMNS, row, strict=True))
    values["notes"] = tuple(json.loads(values["notes"]))
    values["added_at"] = datetime.fromisoformat(values["added_at"])
    values["updated_at"] = datetime.fromisoformat(values["updated_at"])
    return Document(**values)
