"""Activities"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "activities",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("end", sa.BigInteger(), nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=False),
        sa.Column("anew", sa.Integer(), nullable=False),
        sa.Column("closed", sa.Boolean(), nullable=False),
        sa.Column("fired", sa.JSON(), nullable=False),
        sa.Column("switched", sa.JSON(), nullable=False),
        sa.Column("settled", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_activities")),
    )
    op.create_table(
        "activity_moves",
        sa.Column("number", _BIG, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("who", sa.String(length=100), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_activity_moves")),
    )
    op.create_index(op.f("ix_activity_moves_name"), "activity_moves", ["name"])
    op.create_table(
        "activity_participants",
        sa.Column("number", _BIG, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("user_id", sa.String(length=200), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("end", sa.BigInteger(), nullable=False),
        sa.Column("answers", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_activity_participants")),
        sa.UniqueConstraint("name", "user_id", name=op.f("uq_activity_participants_name_user_id")),
    )
    op.create_index(op.f("ix_activity_participants_user_id"), "activity_participants", ["user_id"])
    op.create_table(
        "activity_scores",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("metric", sa.String(length=100), nullable=False),
        sa.Column("period", sa.String(length=10), nullable=False),
        sa.Column("user_id", sa.String(length=200), nullable=False),
        sa.Column("value", sa.Float(precision=53), nullable=False),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", "metric", "period", "user_id", name=op.f("pk_activity_scores")),
    )
    op.create_index(op.f("ix_activity_scores_user_id"), "activity_scores", ["user_id"])
    op.create_table(
        "activity_seen",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("metric", sa.String(length=100), nullable=False),
        sa.Column("period", sa.String(length=10), nullable=False),
        sa.Column("user_id", sa.String(length=200), nullable=False),
        sa.Column("what", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("name", "metric", "period", "user_id", "what", name=op.f("pk_activity_seen")),
    )
    op.create_index(op.f("ix_activity_seen_user_id"), "activity_seen", ["user_id"])
    op.create_table(
        "activity_rewards",
        sa.Column("number", _BIG, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("reward", sa.String(length=100), nullable=False),
        sa.Column("user_id", sa.String(length=200), nullable=False),
        sa.Column("period", sa.String(length=10), nullable=False),
        sa.Column("given", sa.String(length=100), nullable=True),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_activity_rewards")),
        sa.UniqueConstraint(
            "name",
            "reward",
            "user_id",
            "period",
            name=op.f("uq_activity_rewards_name_reward_user_id_period"),
        ),
    )
    op.create_index(op.f("ix_activity_rewards_user_id"), "activity_rewards", ["user_id"])


def downgrade() -> None:
    for table in (
        "activity_rewards",
        "activity_seen",
        "activity_scores",
        "activity_participants",
        "activity_moves",
        "activities",
    ):
        op.drop_table(table)
