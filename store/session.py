"""The open database, and the short transactions in which everything else here reads and writes.

    with Store(url).open() as store:
        person = people.person_for(store, "terminal", "ada")

SQLite (`sqlite:///path`) and PostgreSQL (`postgresql+psycopg://...`, also as `postgresql://` or `postgres://`) behave
alike. A Store may be shared by threads; each function of this package opens a session of its own and returns rows
that are detached from it. The functions block: on an event loop, call them through `asyncio.to_thread`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from sqlalchemy import URL, Connection, Engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session as OrmSession
from sqlalchemy.orm import UOWTransaction
from sqlmodel import Session

from store import migrations, postgres, sqlite
from store.errors import StoreError, StoreLocked, StoreUnreachable
from store.faults import translated
from store.storable import storable

BUSY_TIMEOUT_S = 10.0

_log = logging.getLogger(__name__)


class Store:
    """A database: `open` it before use, `close` it after."""

    def __init__(self, url: str, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        """`busy_timeout_s`: how long to wait for another process's write, or for a locked row, before StoreLocked."""
        self._given_url = url
        self._busy_timeout_s = busy_timeout_s
        self._where = "that was given"
        self._engine: Engine | None = None
        self._writer = threading.Lock()

    def open(self) -> Store:
        """Connect, and bring the tables up to date; safe when several processes do so at once. Returns the store.

        Raises StoreUnreachable, StoreLocked, StoreFull, StoreDamaged, StoreTooNew.
        """
        if self._engine is not None:
            return self
        url = _url_from(self._given_url)
        self._where = str(url.database) if _is_sqlite(url) else url.render_as_string(hide_password=True)
        database = _database_of(url)
        with translated(self._where):
            engine = database.engine_for(url, self._busy_timeout_s)
            event.listen(engine, "before_cursor_execute", _replace_in_parameters, retval=True)
            try:
                with database.starting(engine):
                    _bring_up_to_date(engine, self._where)
            except BaseException:
                engine.dispose()
                raise
        self._engine = engine
        return self

    def close(self) -> None:
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def __enter__(self) -> Store:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that sees one state of the database and changes nothing. Raises StoreError."""
        engine = self._opened()
        reader = engine.execution_options(**_database_of(engine.url).READING)
        with translated(self._where), Session(reader, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session whose changes are on the disk, all of them, when the block is left without an error, else none.

        Raises StoreError.
        """
        engine = self._opened()
        writer = engine.execution_options(**_database_of(engine.url).WRITING)
        with (
            self._in_turn(engine),
            translated(self._where),
            _WritingSession(writer, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    def erase_traces(self, *, thoroughly: bool) -> None:
        """After a deletion: see to it that the deleted text does not linger in unused parts of the database's files.

        The deletion itself is done; when this fails (no room, another program reads), that is logged, not raised.
        """
        engine = self._opened()
        try:
            with translated(self._where):
                _database_of(engine.url).erase_traces(engine, thoroughly=thoroughly)
        except StoreError as error:
            _log.warning("Deleted text may still stand in unused parts of the database's files: %s", error)

    @contextmanager
    def _in_turn(self, engine: Engine) -> Iterator[None]:
        """SQLite has one writer at a time, and who finds it busy sleeps for up to 0.1 s before looking again.

        Threads of this process wait for each other here instead, where they are woken at once.
        """
        if not _is_sqlite(engine.url):
            yield
            return
        if not self._writer.acquire(timeout=self._busy_timeout_s):
            raise StoreLocked(f"The database {self._where} was busy with other writes for too long. Try again.")
        try:
            yield
        finally:
            self._writer.release()

    def _opened(self) -> Engine:
        if self._engine is None:
            raise StoreUnreachable("The database is not open.")
        return self._engine


def _url_from(text: str) -> URL:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # ValueError: a port that is not a number
        raise StoreUnreachable(f"data.database is not a database URL. {_ACCEPTED}") from None
    if url.drivername in {"postgres", "postgresql"}:
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in {"sqlite", "sqlite+pysqlite", "postgresql+psycopg"}:
        raise StoreUnreachable(f"There is no database of the kind {url.drivername!r} here. {_ACCEPTED}")
    if _is_sqlite(url) and (url.database or ":memory:") == ":memory:":
        raise StoreUnreachable(f"data.database names no file. {_ACCEPTED}")
    return url


_ACCEPTED = "It is sqlite:///path/to/file or postgresql+psycopg://user:password@host/name."


def _is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


class _Database(Protocol):
    """What store.sqlite and store.postgres each do in their own way. READING, WRITING: options of a connection."""

    READING: dict[str, Any]
    WRITING: dict[str, Any]

    def engine_for(self, url: URL, busy_timeout_s: float) -> Engine: ...
    def starting(self, engine: Engine) -> AbstractContextManager[None]: ...
    def migrating(self, engine: Engine) -> AbstractContextManager[Connection]: ...
    def erase_traces(self, engine: Engine, *, thoroughly: bool) -> None: ...


def _database_of(url: URL) -> _Database:
    if _is_sqlite(url):
        return sqlite
    return postgres


def _bring_up_to_date(engine: Engine, where: str) -> None:
    with engine.connect() as connection:
        if migrations.revision_of(connection) == migrations.HEAD:
            return
    with _database_of(engine.url).migrating(engine) as connection:
        migrations.upgrade(connection, where)


def _replace_in_rows(session: OrmSession, _: UOWTransaction, __: object) -> None:
    """Unstorable characters, so that the row that a caller gets back is the row that is kept."""
    for row in (*session.new, *session.dirty):
        for name, value in list(vars(row).items()):
            if not name.startswith("_") and (cleaned := storable(value)) != value:
                setattr(row, name, cleaned)


def _replace_in_parameters(
    _: Connection, __: object, statement: str, parameters: object, ___: object, ____: bool
) -> tuple[str, object]:
    """Unstorable characters in what is looked for, so that it finds what was kept and is refused by no driver."""
    return statement, storable(parameters)


class _WritingSession(Session):
    """A class of its own, so that it is listened to once: to listen to each session costs more than what it writes."""


event.listen(_WritingSession, "before_flush", _replace_in_rows)
