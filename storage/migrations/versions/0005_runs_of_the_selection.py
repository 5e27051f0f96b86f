"""Runs of the selection"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "selection_runs",
        sa.Column("run", sa.String(length=100), nullable=False),
        sa.Column("as_of", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("patience_until", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("definitions", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("run", name=op.f("pk_selection_runs")),
    )
    op.create_table(
        "selection_jobs",
        sa.Column("run", sa.String(length=100), nullable=False),
        sa.Column("key", sa.String(length=110), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=True),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("count", sa.BigInteger(), nullable=True),
        sa.Column("seconds", sa.Float(precision=53), nullable=True),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run", "key", name=op.f("pk_selection_jobs")),
    )
    op.create_index(op.f("ix_selection_jobs_key"), "selection_jobs", ["key"])
    op.create_table(
        "selection_leases",
        sa.Column("key", sa.String(length=110), nullable=False),
        sa.Column("run", sa.String(length=100), nullable=False),
        sa.Column("taken_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_selection_leases")),
    )
    op.create_index(op.f("ix_selection_leases_run"), "selection_leases", ["run"])
    op.create_table(
        "schedule_marks",
        sa.Column("schedule", sa.String(length=300), nullable=False),
        sa.Column("fired_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("schedule", name=op.f("pk_schedule_marks")),
    )
    op.create_table(
        "group_exports",
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("address", sa.String(length=1000), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("exported_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", "address", name=op.f("pk_group_exports")),
    )


def downgrade() -> None:
    for table in ("group_exports", "schedule_marks", "selection_leases", "selection_jobs", "selection_runs"):
        op.drop_table(table)
