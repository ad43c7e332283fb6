"""Run by Alembic for `store.migrations.upgrade`, which hands over a connection that is in a transaction."""

from alembic import context
from sqlmodel import SQLModel

from store import tables as tables  # so that the metadata is complete

context.configure(connection=context.config.attributes["connection"], target_metadata=SQLModel.metadata)
with context.begin_transaction():
    context.run_migrations()
