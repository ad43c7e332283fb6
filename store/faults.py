"""What the drivers' errors mean: sqlite3's codes, PostgreSQL's SQLSTATEs and the system's errno as StoreErrors."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
from sqlalchemy import exc

from store.errors import (
    AlreadyThere,
    NotFound,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreUnreachable,
)

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_MIB = 2**20

_SQLITE = {
    sqlite3.SQLITE_FULL: StoreFull,
    sqlite3.SQLITE_BUSY: StoreLocked,
    sqlite3.SQLITE_LOCKED: StoreLocked,
    sqlite3.SQLITE_PERM: StoreUnreachable,
    sqlite3.SQLITE_READONLY: StoreUnreachable,
    sqlite3.SQLITE_CANTOPEN: StoreUnreachable,
    sqlite3.SQLITE_IOERR: StoreUnreachable,
    sqlite3.SQLITE_AUTH: StoreUnreachable,
    sqlite3.SQLITE_CORRUPT: StoreDamaged,
    sqlite3.SQLITE_NOTADB: StoreDamaged,
}
_SQLITE_EXTENDED = {
    sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY: NotFound,
    sqlite3.SQLITE_CONSTRAINT_UNIQUE: AlreadyThere,
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY: AlreadyThere,
}
# By SQLSTATE; a class of two characters stands for every state that begins with it.
_POSTGRES = {
    "23503": NotFound,
    "23505": AlreadyThere,
    "53100": StoreFull,
    "53300": StoreUnreachable,  # too many connections
    "55P03": StoreLocked,  # lock_timeout ran out
    "40P01": StoreLocked,  # deadlock
    "40001": StoreLocked,
    "25006": StoreUnreachable,  # a standby, read-only
    "42501": StoreUnreachable,  # no privilege
    "57P01": StoreUnreachable,  # the server is stopping
    "57P02": StoreUnreachable,
    "57P03": StoreUnreachable,  # or starting
    "57P05": StoreUnreachable,
    "3D000": StoreUnreachable,  # no such database
    "22003": NotFound,  # a number too large for any id
    "08": StoreUnreachable,
    "28": StoreUnreachable,  # wrong user or password
    "XX001": StoreDamaged,
    "XX002": StoreDamaged,
}


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Raise what a driver, the pool or the system reports as a StoreError. `where` names the database in its text."""
    try:
        yield
    except exc.DBAPIError as error:
        raise _from_driver(error, where) from error
    except (exc.TimeoutError, filelock.Timeout) as error:
        raise _error(StoreLocked, where, "") from error
    except OSError as error:
        kind = StoreFull if error.errno in _NO_ROOM else StoreUnreachable
        raise _error(kind, where, error.strerror or str(error)) from error
    except OverflowError as error:  # a number too large for any row's id
        raise NotFound("There is no row with such a number.") from error


def _from_driver(error: exc.DBAPIError, where: str) -> StoreError:
    cause = error.orig
    words = str(cause).strip().partition("\n")[0]
    if isinstance(cause, sqlite3.Error):
        return _error(_kind_of_sqlite(cause, where), where, words)
    state = getattr(cause, "sqlstate", None) or ""
    kind = _POSTGRES.get(state) or _POSTGRES.get(state[:2])
    if kind is None and (error.connection_invalidated or (isinstance(error, exc.OperationalError) and not state)):
        kind = StoreUnreachable
    return _error(kind or StoreError, where, words)


def _kind_of_sqlite(cause: sqlite3.Error, where: str) -> type[StoreError]:
    code = getattr(cause, "sqlite_errorcode", 0)
    kind = _SQLITE_EXTENDED.get(code) or _SQLITE.get(code & 0xFF) or StoreError
    # SQLite says "disk I/O error" or "unable to open" when it is one of its side files that finds no room.
    if code & 0xFF in {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN} and _has_no_room(Path(where).parent):
        return StoreFull
    return kind


def _has_no_room(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < _MIB
    except OSError:
        return False


def _error(kind: type[StoreError], where: str, words: str) -> StoreError:
    said = f" ({words})" if words else ""
    texts: dict[type[StoreError], str] = {
        NotFound: f"What this belongs to is not there, or was deleted meanwhile{said}.",
        AlreadyThere: f"This is there already{said}.",
        StoreFull: f"There is no room left for the database {where}{said}. "
        "The last change was not made, everything before it is kept. Free some space and try again.",
        StoreLocked: f"The database {where} was in use by another program for too long{said}. "
        "The last change was not made. Try again; if it stays so, see what else has the database open.",
        StoreUnreachable: f"The database {where} cannot be used{said}. Check data.database and data.folder in the "
        "configuration, that the server runs, and that this user may read and write there.",
        StoreDamaged: f"{where} is not a database, or is damaged{said}. "
        "Move it away and restore a backup in its place; without one, Familiar makes a new, empty database.",
    }
    return kind(texts.get(kind, f"The database {where} reported an error{said}."))
