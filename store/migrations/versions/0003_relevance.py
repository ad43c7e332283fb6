"""How well the documents answered, kept with each reply: what is missing in them can be told from it."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("message", sa.Column("relevance", sa.Float(), nullable=True))
