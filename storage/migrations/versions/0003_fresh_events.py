"""Fresh events"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "fresh_events",
        sa.Column(
            "number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("event_id", sa.String(length=200), nullable=False),
        sa.Column("user_id", sa.String(length=200), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("occurred_at", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("lines", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_fresh_events")),
        sa.UniqueConstraint("event_id", name=op.f("uq_fresh_events_event_id")),
        sqlite_autoincrement=True,
    )
    for column in ("user_id", "occurred_at", "received_at"):
        op.create_index(op.f(f"ix_fresh_events_{column}"), "fresh_events", [column])


def downgrade() -> None:
    op.drop_table("fresh_events")
