"""Whether somebody has been told that what they corrected is used: it is said once."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("person", sa.Column("told_of_learning_at", sa.DateTime(timezone=True), nullable=True))
