"""The store in one file on this machine.

Every connection has write-ahead logging (readers and the writer do not wait for each other), synchronous=FULL (what
is acknowledged survives a power cut), foreign keys, and secure_delete (forgotten text is overwritten with zeros).
A write takes the lock at its beginning: a transaction that began by reading and then wants to write would be refused
at once, without waiting, if somebody else had written meanwhile.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from sqlalchemy import URL, Connection, Engine, PoolProxiedConnection, create_engine, event
from sqlalchemy.pool import ConnectionPoolEntry

from store.errors import StoreDamaged, StoreLocked

READING: dict[str, Any] = {}
WRITING: dict[str, Any] = {"familiar_writes": True}

_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON")
_MIGRATION_TIMEOUT_S = 120


def engine_for(url: URL, busy_timeout_s: float) -> Engine:
    """An engine on the file that `url` names. Its folder and the file are made, for their owner only, if missing."""
    assert url.database is not None
    file = Path(url.database)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite gives its side files the same mode
    # max_overflow: a thread that waits for the write lock must not use up the connections of those that read.
    engine = create_engine(url, connect_args={"timeout": busy_timeout_s}, max_overflow=-1, hide_parameters=True)
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


@contextmanager
def starting(engine: Engine) -> Iterator[None]:
    """Only one process at a time opens a database: the switch to write-ahead logging does not wait for others."""
    with FileLock(f"{engine.url.database}.lock", timeout=_MIGRATION_TIMEOUT_S, mode=0o600):
        yield


@contextmanager
def migrating(engine: Engine) -> Iterator[Connection]:
    """A connection in the transaction of a migration.

    Foreign keys are off in it and checked at its end: SQLite changes a table by making it anew and dropping the old
    one, which would take along every row that refers to it.
    """
    with engine.connect().execution_options(**WRITING) as connection:
        connection.detach()  # from the pool: its foreign keys are off, it is closed afterwards
        _driver(connection.connection).execute("PRAGMA foreign_keys=OFF")
        with connection.begin():
            yield connection
            if connection.exec_driver_sql("PRAGMA foreign_key_check").first():
                raise StoreDamaged(f"{engine.url.database} holds rows that refer to nothing. Restore a backup.")


def erase_traces(engine: Engine, *, thoroughly: bool) -> None:
    """Empty the write-ahead log, which holds older states of pages; before that, `thoroughly`, write the file anew.

    secure_delete zeroes what is deleted, but not the copies that SQLite left in the gaps of a page when it moved rows
    to another. Writing anew takes about a second for 100 MB, in which nobody else can write, and as much free disk as
    the database has.
    """
    with engine.connect() as connection:
        driver = _driver(connection.connection)
        if thoroughly:
            driver.execute("VACUUM")
        (busy, _, _) = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StoreLocked(f"{engine.url.database}-wal is being read, and goes when all programs have closed it.")


def _configure(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # the driver begins no transaction of its own; _begin does
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").fetchall()


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("familiar_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _driver(connection: PoolProxiedConnection) -> sqlite3.Connection:
    driver = connection.dbapi_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver
