"""An insert that does not fail when its row is there: `on_conflict_do_nothing`, `on_conflict_do_update`.

Both databases know it, in the same words; SQLAlchemy has it only in the dialect of each.
"""

from __future__ import annotations

from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, SQLModel


def insert_into(session: Session, table: type[SQLModel]) -> sqlite.Insert | postgresql.Insert:
    """The insert, in the words of the session's database. The tables' defaults do not apply to it: give every value."""
    if session.get_bind().dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)
