"""The catalogue's file while it is open: transactions for reading and for writing, and the erasing of what was deleted.

A transaction that writes is on the disk as a whole when its block is left, or not at all. Readers see one state of
the database and wait for nobody.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, event

from store import sqlite
from store.catalogue import schema
from store.errors import StoreDamaged, StoreError, StoreLocked, StoreUnreachable
from store.faults import translated
from store.storable import storable

BUSY_TIMEOUT_S = 60.0  # another may be putting thousands of chunks, or erasing

_log = logging.getLogger("familiar")


class Database:
    def __init__(self, file: Path, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self.file = file
        self._busy_timeout_s = busy_timeout_s
        self._engine: Engine | None = None
        self._writer = threading.Lock()

    def open(self) -> bool:
        """False when it was open. Raises StoreDamaged, StoreTooNew, CatalogueTooOld, StoreLocked, StoreFull,
        StoreUnreachable."""
        if self._engine is not None:
            return False
        with self._faults():
            engine = sqlite.engine_for(URL.create("sqlite", database=str(self.file)), self._busy_timeout_s)
            event.listen(engine, "before_cursor_execute", _replace_in_parameters, retval=True)
            try:
                with sqlite.starting(engine), engine.connect().execution_options(**sqlite.WRITING) as connection:
                    self._make_or_check(connection)
            except BaseException:
                engine.dispose()
                raise
        self._engine = engine
        return True

    def _make_or_check(self, connection: Connection) -> None:
        with connection.begin():
            version = schema.schema_of(connection)
            if version is None:
                schema.make(connection)
            else:
                schema.refuse_other(version, self.file)

    def close(self) -> None:
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        engine = self._opened()
        with self._faults(), engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """What was deleted in it may linger in the file, see `erase_traces`."""
        engine = self._opened().execution_options(**sqlite.WRITING)
        with self._in_turn(), self._faults(), engine.connect() as connection, connection.begin():
            connection.exec_driver_sql(_COUNT_CHANGE)
            yield connection

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        """Threads of this process are woken when it is their turn; a connection that finds SQLite busy sleeps."""
        if not self._writer.acquire(timeout=self._busy_timeout_s):
            raise StoreLocked(f"The database {self.file} was busy with other writes for too long. Try again.")
        try:
            yield
        finally:
            self._writer.release()

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            with translated(str(self.file)):
                yield
        except StoreDamaged as error:
            raise StoreDamaged(
                f"{self.file} is not a catalogue of documents, or is damaged. "
                "Make it anew from the documents with: familiar knowledge rebuild"
            ) from error

    def _opened(self) -> Engine:
        if self._engine is None:
            raise StoreUnreachable("The catalogue of documents is not open.")
        return self._engine

    def empty_log(self, *, thoroughly: bool) -> bool:
        """See store.sqlite.erase_traces. A failure is logged: what was deleted is deleted, it only lingers."""
        engine = self._opened()
        try:
            with self._in_turn(), self._faults():
                sqlite.erase_traces(engine, thoroughly=thoroughly)
        except StoreError as error:
            _log.warning("Deleted text may still stand in unused parts of the catalogue's files: %s", error)
            return False
        return True


def many(connection: Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Execute it once for each of `rows`, whose text has to be storable; not at all when there are none."""
    if rows:
        connection.exec_driver_sql(statement, list(rows))


def as_json(values: Sequence[object]) -> str:
    """For `IN (SELECT value FROM json_each(?))`, which takes a list of any length."""
    return json.dumps([storable(value) for value in values])


_COUNT_CHANGE = "UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = 'catalogue.changes'"


def _replace_in_parameters(
    _: Connection, __: object, statement: str, parameters: object, ___: object, executemany: bool
) -> tuple[str, object]:
    if executemany:  # thousands of rows, most of numbers and of text that was looked through before, see `many`
        return statement, parameters
    return statement, storable(parameters)
