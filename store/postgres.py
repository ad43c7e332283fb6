"""The store on a PostgreSQL server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine

READING: dict[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
WRITING: dict[str, Any] = {}

_CONNECT_TIMEOUT_S = 10
_MIGRATION_TIMEOUT_S = 120
_MIGRATION_LOCK = 0x66616D696C696172  # "familiar": the advisory lock of whoever migrates


def engine_for(url: URL, busy_timeout_s: float) -> Engine:
    """An engine on the server that `url` names. Rows locked by others are waited for `busy_timeout_s`."""
    defaults = {"application_name": "familiar", "connect_timeout": str(_CONNECT_TIMEOUT_S)}
    arguments = {name: value for name, value in defaults.items() if name not in url.query}
    arguments["options"] = f"{url.query.get('options', '')} -c lock_timeout={round(busy_timeout_s * 1000)}".strip()
    # pool_pre_ping: a connection that the server closed meanwhile (a restart) is replaced, not handed out.
    return create_engine(url, connect_args=arguments, pool_pre_ping=True, hide_parameters=True)


@contextmanager
def starting(engine: Engine) -> Iterator[None]:
    """Opening needs no lock here; `migrating` takes one."""
    yield


@contextmanager
def migrating(engine: Engine) -> Iterator[Connection]:
    """A connection in the transaction of a migration, which nobody else makes at the same time."""
    with engine.begin() as connection:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_MIGRATION_TIMEOUT_S}s'")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
        yield connection


def erase_traces(engine: Engine, *, thoroughly: bool) -> None:
    """Deleted rows stay in the server's files until its autovacuum has passed; nothing needs to be done here."""
