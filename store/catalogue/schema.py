"""The tables of the catalogue, written as SQLite has them: nothing else ever holds it.

There are no migrations. Everything here can be made again from the original documents, so a catalogue of an earlier
schema is refused with the command that does so.

Words are in an FTS5 index that stores no text of its own. One of its tokens is an owner's number and a term, "3:cat":
a search for "3:cat" touches nothing of anybody else, costs nothing for what others have, and there is no filter that
could be forgotten. The second occurrence of a term in a chunk is a token of its own, "3.2:cat", and so on: in which
chunks a term is how often can then be asked without FTS5's own scoring, which takes ten times as long as finding.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection

from store.catalogue.errors import CatalogueTooOld
from store.errors import StoreDamaged, StoreTooNew

SCHEMA = 1

# The tokenizer parts at blanks and control characters only, see store.catalogue.words.token_of.
_TOKENCHARS = "".join(chr(code) for code in range(0x21, 0x7F) if not chr(code).isalnum())
_TOKENIZER = f"ascii tokenchars '{_TOKENCHARS.replace(chr(39), chr(39) * 2)}'"

_TABLES = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE owner (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    chunks INTEGER NOT NULL DEFAULT 0,  -- how many are theirs
    words INTEGER NOT NULL DEFAULT 0    -- how many are in them, each as often as it occurs
);
CREATE TABLE document (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    owner_id INTEGER NOT NULL REFERENCES owner (id),
    source TEXT NOT NULL,
    name TEXT NOT NULL,
    title TEXT NOT NULL,
    kind TEXT NOT NULL,
    mime TEXT NOT NULL,
    content_hash TEXT NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    pages INTEGER,
    original TEXT NOT NULL,
    added_by INTEGER,
    notes TEXT NOT NULL,      -- a JSON list
    chunks INTEGER NOT NULL,  -- how many
    added_at TEXT NOT NULL,   -- ISO 8601, UTC
    updated_at TEXT NOT NULL,
    UNIQUE (owner_id, source)
);
CREATE INDEX document_content ON document (content_hash);
CREATE INDEX document_added_by ON document (added_by) WHERE added_by IS NOT NULL;
CREATE TABLE chunk (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    document_id INTEGER NOT NULL REFERENCES document (id),
    position INTEGER NOT NULL,
    page INTEGER,
    page_end INTEGER,
    tokens INTEGER NOT NULL,
    hash TEXT NOT NULL,
    heading TEXT NOT NULL,
    text TEXT NOT NULL,
    words TEXT NOT NULL  -- the terms as store.catalogue.words.token_of made them, separated by blanks
);
CREATE TABLE length (  -- a table of its own, small, to be read quickly
    chunk_id INTEGER PRIMARY KEY,
    words INTEGER NOT NULL  -- how many
);
CREATE INDEX chunk_place ON chunk (document_id, position);
CREATE INDEX chunk_hash ON chunk (hash);
CREATE TABLE term (
    term TEXT NOT NULL,
    owner_id INTEGER NOT NULL,
    chunks INTEGER NOT NULL,  -- how many of this owner's chunks hold it
    PRIMARY KEY (term, owner_id)
) WITHOUT ROWID;
CREATE TABLE model (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, dimensions INTEGER NOT NULL);
CREATE TABLE vector (
    id INTEGER PRIMARY KEY,
    model_id INTEGER NOT NULL REFERENCES model (id),
    hash TEXT NOT NULL,
    data BLOB NOT NULL,  -- float16, little endian
    put_at REAL NOT NULL,
    UNIQUE (hash, model_id)
);
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    chunk_id INTEGER NOT NULL UNIQUE,
    action TEXT NOT NULL,
    owner_id INTEGER NOT NULL REFERENCES owner (id),
    hash TEXT NOT NULL
);
CREATE INDEX outbox_puts ON outbox (owner_id) WHERE action = 'put';
CREATE TABLE refusal (
    owner_id INTEGER NOT NULL REFERENCES owner (id),
    source TEXT NOT NULL,
    name TEXT NOT NULL,
    content_hash TEXT NOT NULL,
    mtime_ns INTEGER NOT NULL,
    size INTEGER NOT NULL,
    kind TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (owner_id, source)
) WITHOUT ROWID;
CREATE VIRTUAL TABLE lexical USING fts5 (
    words, content = '', detail = none, columnsize = 0, tokenize = "{_TOKENIZER.replace('"', '""')}"
);
INSERT INTO meta VALUES ('catalogue.schema', '{SCHEMA}'), ('catalogue.changes', '0');
"""


def schema_of(connection: Connection) -> int | None:
    """Of an open database; None when it is empty. Raises StoreDamaged when something else made it."""
    tables = set(connection.exec_driver_sql("SELECT name FROM sqlite_schema WHERE type = 'table'").scalars())
    if not tables:
        return None
    ours = "SELECT value FROM meta WHERE key = 'catalogue.schema'"
    version = connection.exec_driver_sql(ours).scalar() if "meta" in tables else None
    if version is None or not str(version).isdecimal():
        raise StoreDamaged("it holds other tables")
    return int(version)


def make(connection: Connection) -> None:
    """In the transaction that is open: all of it or nothing."""
    for statement in _TABLES.split(";\n"):
        if statement.strip():
            connection.exec_driver_sql(statement)


def refuse_other(version: int, file: Path) -> None:
    """Raises StoreTooNew or CatalogueTooOld when it is not the version that this code reads and writes."""
    if version > SCHEMA:
        raise StoreTooNew(
            f"{file} was made by a newer version of Familiar. Update Familiar, or make the index anew with: "
            "familiar knowledge rebuild"
        )
    if version < SCHEMA:
        raise CatalogueTooOld(
            f"{file} was made by an earlier version of Familiar. Make it anew from the documents with: "
            "familiar knowledge rebuild"
        )
