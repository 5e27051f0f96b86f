"""The outbox, receipts and who is suppressed"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "outbox_dispatchers",
        sa.Column("owner", sa.String(length=100), nullable=False),
        sa.Column("host", sa.String(length=200), nullable=False),
        sa.Column("beat_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner", name=op.f("pk_outbox_dispatchers")),
    )
    op.create_table(
        "outbox_rates",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("tokens", sa.Float(precision=53), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_outbox_rates")),
    )
    op.create_table(
        "outbox_tasks",
        sa.Column(
            "number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("run", sa.String(length=200), nullable=False),
        sa.Column("task", sa.String(length=400), nullable=False),
        sa.Column("goal", sa.String(length=100), nullable=False),
        sa.Column("benefit", sa.String(length=100), nullable=False),
        sa.Column("touchpoint", sa.String(length=100), nullable=False),
        sa.Column("channel", sa.String(length=100), nullable=False),
        sa.Column("content", sa.String(length=100), nullable=False),
        sa.Column("message_class", sa.String(length=20), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("loading", sa.Boolean(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("parts", sa.Integer(), nullable=False),
        sa.Column("done_us", sa.BigInteger(), nullable=True),
        sa.Column("changed_us", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state IN ('running', 'paused', 'cancelled')", name=op.f("ck_outbox_tasks_state")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_outbox_tasks")),
        sa.UniqueConstraint("run", "task", name=op.f("uq_outbox_tasks_run_task")),
    )
    op.create_table(
        "suppression_names",
        sa.Column("mark", sa.String(length=32), nullable=False),
        sa.Column("user_id", sa.String(length=200), nullable=False),
        sa.Column("address", sa.String(length=320), nullable=True),
        sa.PrimaryKeyConstraint("mark", name=op.f("pk_suppression_names")),
    )
    op.create_index(op.f("ix_suppression_names_user_id"), "suppression_names", ["user_id"], unique=False)
    op.create_table(
        "suppressions",
        sa.Column("mark", sa.String(length=32), nullable=False),
        sa.Column("channel", sa.String(length=100), nullable=False),
        sa.Column("reason", sa.String(length=20), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("said_by", sa.String(length=100), nullable=False),
        sa.PrimaryKeyConstraint("mark", "channel", name=op.f("pk_suppressions")),
    )
    op.create_table(
        "touch_receipts",
        sa.Column("provider", sa.String(length=100), nullable=False),
        sa.Column("receipt_id", sa.String(length=200), nullable=False),
        sa.Column("touch_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("hard", sa.Boolean(), nullable=False),
        sa.Column("occurred_us", sa.BigInteger(), nullable=False),
        sa.Column("received_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("provider", "receipt_id", name=op.f("pk_touch_receipts")),
    )
    op.create_index(op.f("ix_touch_receipts_touch_id"), "touch_receipts", ["touch_id"], unique=False)
    op.create_index(op.f("ix_touch_receipts_user_id"), "touch_receipts", ["user_id"], unique=False)
    op.create_table(
        "outbox_touches",
        sa.Column(
            "number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("touch_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=200), nullable=False),
        sa.Column("task_number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("send_us", sa.BigInteger(), nullable=False),
        sa.Column("due_us", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("owner", sa.String(length=100), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("rule", sa.String(length=100), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("code", sa.String(length=100), nullable=False),
        sa.Column("address", sa.String(length=32), nullable=False),
        sa.Column("provider_id", sa.String(length=200), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("owes", sa.String(length=10), nullable=False),
        sa.Column("changed_us", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "state IN ('queued', 'leased', 'handing', 'accepted', 'refused', 'failed', 'in_doubt',"
            " 'cancelled')",
            name=op.f("ck_outbox_touches_state"),
        ),
        sa.ForeignKeyConstraint(
            ["task_number"], ["outbox_tasks.number"], name=op.f("fk_outbox_touches_task_number_outbox_tasks")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_outbox_touches")),
        sa.UniqueConstraint("touch_id", name=op.f("uq_outbox_touches_touch_id")),
        sa.UniqueConstraint("user_id", "task_number", name=op.f("uq_outbox_touches_user_id_task_number")),
    )
    op.create_index(
        "ix_outbox_touches_due",
        "outbox_touches",
        ["task_number", "due_us"],
        unique=False,
        sqlite_where=sa.text("state = 'queued'"),
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index(
        "ix_outbox_touches_owed",
        "outbox_touches",
        ["number"],
        unique=False,
        sqlite_where=sa.text("owes <> ''"),
        postgresql_where=sa.text("owes <> ''"),
    )
    op.create_index(
        "ix_outbox_touches_owner",
        "outbox_touches",
        ["owner"],
        unique=False,
        sqlite_where=sa.text("owner IS NOT NULL"),
        postgresql_where=sa.text("owner IS NOT NULL"),
    )


def downgrade() -> None:
    for name in (
        "touch_receipts", "suppressions", "suppression_names", "outbox_touches", "outbox_tasks",
        "outbox_rates", "outbox_dispatchers",
    ):  # fmt: skip
        op.drop_table(name)
