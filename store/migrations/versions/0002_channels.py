"""What a channel with many people needs: places, posts, access, usage, quotations; and what adapters were trained on.

Columns are added, no table is made anew: a table made anew would give out the numbers of its deleted rows again.
A channel no longer takes arrivals one by one, it works on all that is not done: what was taken waits again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("conversation", sa.Column("place", sa.String(), server_default="", nullable=False))
    op.add_column("conversation", sa.Column("unquoted_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("inbox", sa.Column("reply_id", sa.Integer(), nullable=True))
    op.add_column("inbox", sa.Column("progress", sa.JSON(), server_default="{}", nullable=False))
    if op.get_bind().dialect.name == "postgresql":  # the default was for the rows that are there; SQLite keeps it
        op.alter_column("inbox", "progress", server_default=None)
    op.execute("UPDATE inbox SET state = 'waiting' WHERE state = 'taken'")
    op.create_table(
        "post",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("chat", sa.String(), nullable=False),
        sa.Column("external_id", sa.String(), nullable=False),
        sa.Column("message_id", sa.Integer(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["message_id"], ["message.id"], name="fk_post_message_id_message", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_post"),
        sa.UniqueConstraint("channel", "chat", "external_id", name="uq_post_channel_chat_external_id"),
    )
    op.create_index("ix_post_message_id", "post", ["message_id"])
    op.create_table(
        "quotation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("message_id", sa.Integer(), nullable=False),
        sa.Column("person_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["message_id"], ["message.id"], name="fk_quotation_message_id_message", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name="fk_quotation_person_id_person", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_quotation"),
        sa.UniqueConstraint("message_id", "person_id", name="uq_quotation_message_id_person_id"),
    )
    op.create_index("ix_quotation_message_id", "quotation", ["message_id"])
    op.create_index("ix_quotation_person_id", "quotation", ["person_id"])
    op.create_table(
        "access",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("external_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_access"),
        sa.UniqueConstraint("channel", "external_id", name="uq_access_channel_external_id"),
    )
    waits = sa.text("code <> ''")
    op.create_index("ix_access_code", "access", ["code"], unique=True, sqlite_where=waits, postgresql_where=waits)
    op.create_table(
        "usage",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("external_id", sa.String(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("messages", sa.Integer(), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_usage"),
        sa.UniqueConstraint("channel", "external_id", "day", name="uq_usage_channel_external_id_day"),
    )
    op.create_table(
        "place",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("external_id", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("persona", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_place"),
        sa.UniqueConstraint("channel", "external_id", name="uq_place_channel_external_id"),
    )
    op.create_table(
        "trained_on",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("adapter_id", sa.Integer(), nullable=False),
        sa.Column("conversation_id", sa.Integer(), nullable=False),
        sa.Column("person_id", sa.Integer(), nullable=True),
        sa.Column("forgotten_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["adapter_id"], ["adapter.id"], name="fk_trained_on_adapter_id_adapter", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_trained_on"),
        sa.UniqueConstraint("adapter_id", "conversation_id", name="uq_trained_on_adapter_id_conversation_id"),
    )
    op.create_index("ix_trained_on_adapter_id", "trained_on", ["adapter_id"])
    op.create_index("ix_trained_on_conversation_id", "trained_on", ["conversation_id"])
    op.create_index("ix_trained_on_person_id", "trained_on", ["person_id"])
