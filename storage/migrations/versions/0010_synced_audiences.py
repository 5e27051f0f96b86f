"""What ad platforms hold of ours"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "synced_keys",
        sa.Column("sync", sa.String(length=100), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("sure", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("sync", "key", name=op.f("pk_synced_keys")),
    )
    op.create_table(
        "sync_runs",
        sa.Column(
            "number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("sync", sa.String(length=100), nullable=False),
        sa.Column("begun_us", sa.BigInteger(), nullable=False),
        sa.Column("ended_us", sa.BigInteger(), nullable=True),
        sa.Column("wanted", sa.BigInteger(), nullable=False),
        sa.Column("added", sa.BigInteger(), nullable=False),
        sa.Column("removed", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_sync_runs")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_sync_runs_sync"), "sync_runs", ["sync"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_sync_runs_sync"), table_name="sync_runs")
    op.drop_table("sync_runs")
    op.drop_table("synced_keys")
