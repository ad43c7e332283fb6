"""The history of the tables, one file a revision in versions/, applied by Alembic when a store is opened.

To change the tables: change store/tables.py; copy the newest file in versions/ under the next number; set its
`revision` and `down_revision`, and HEAD below; write `upgrade` by hand. On SQLite, alter a table only with
`op.batch_alter_table`. A test compares the tables with what the migrations make, on both databases, and says what
is still missing.
"""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from store.errors import StoreDamaged, StoreTooNew

HEAD = "0006"  # the newest revision; known here so that opening a database that has it loads no Alembic

_FIRST_TABLES = {"person", "conversation", "message"}


def revision_of(connection: Connection) -> str | None:
    """The revision of the connected database; None before the first migration."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return revision


def upgrade(connection: Connection, where: str) -> None:
    """Apply, in the transaction that `connection` is in, every revision that the database lacks.

    Raises StoreTooNew when its revision is not one of ours, StoreDamaged when somebody else's tables are in the way.
    """
    stored = revision_of(connection)
    if stored == HEAD:
        return
    if stored is None and (foreign := _FIRST_TABLES & set(inspect(connection).get_table_names())):
        raise StoreDamaged(
            f"{where} belongs to another program: it has a table {min(foreign)!r} that Familiar did not make. "
            "Give Familiar a database of its own: data.database in the configuration."
        )
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it reports every step, its import included
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    ours = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if stored is not None and stored not in ours:
        raise StoreTooNew(
            f"{where} was made by a newer version of Familiar (its revision is {stored}, this version knows {HEAD}). "
            "Update Familiar, or set data.database to another database."
        )
    command.upgrade(config, "head")
