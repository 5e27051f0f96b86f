"""Coupons"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "coupon_codes",
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("pool", sa.String(length=100), nullable=False),
        sa.Column("added_us", sa.BigInteger(), nullable=False),
        sa.Column("issued_us", sa.BigInteger(), nullable=True),
        sa.Column("task", sa.String(length=200), nullable=True),
        sa.Column("run", sa.String(length=200), nullable=True),
        sa.Column("user_mark", sa.String(length=64), nullable=True),
        sa.Column("from_us", sa.BigInteger(), nullable=True),
        sa.Column("until_us", sa.BigInteger(), nullable=True),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_coupon_codes")),
        sa.UniqueConstraint(
            "pool", "task", "run", "user_mark", name=op.f("uq_coupon_codes_pool_task_run_user_mark")
        ),
    )
    op.create_index(op.f("ix_coupon_codes_pool_issued_us"), "coupon_codes", ["pool", "issued_us"])
    op.create_table(
        "coupon_uses",
        sa.Column("redemption_id", sa.String(length=200), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("pool", sa.String(length=100), nullable=False),
        sa.Column("user_mark", sa.String(length=64), nullable=True),
        sa.Column("order_id", sa.String(length=200), nullable=True),
        sa.Column("amount", sa.Float(), nullable=True),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("reversed_us", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["code"], ["coupon_codes.code"], name=op.f("fk_coupon_uses_code_coupon_codes")
        ),
        sa.PrimaryKeyConstraint("redemption_id", name=op.f("pk_coupon_uses")),
    )
    op.create_index(op.f("ix_coupon_uses_code"), "coupon_uses", ["code"])
    op.create_index(op.f("ix_coupon_uses_pool_user_mark"), "coupon_uses", ["pool", "user_mark"])


def downgrade() -> None:
    op.drop_table("coupon_uses")
    op.drop_table("coupon_codes")
