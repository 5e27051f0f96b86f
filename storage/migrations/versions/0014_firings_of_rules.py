"""Firings of rules by themselves; codes of rewards"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rule_firings",
        sa.Column("rule", sa.String(length=100), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("run", sa.String(length=30), nullable=False),
        sa.Column("shares", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("told", sa.JSON(), nullable=True),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("claimed", sa.BigInteger(), nullable=False),
        sa.Column("ended", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("rule", "at", name=op.f("pk_rule_firings")),
    )
    for name in ("day", "run", "state"):
        op.create_index(op.f(f"ix_rule_firings_{name}"), "rule_firings", [name])
    op.create_table(
        "rule_clock",
        sa.Column("name", sa.String(length=10), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_rule_clock")),
    )
    op.add_column("activity_rewards", sa.Column("code", sa.String(length=64), nullable=True))


def downgrade() -> None:
    op.drop_column("activity_rewards", "code")
    for table in ("rule_clock", "rule_firings"):
        op.drop_table(table)
