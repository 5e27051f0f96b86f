"""Published groups"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "group_versions",
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.String(length=16), nullable=False),
        sa.Column("as_of", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("universe", sa.BigInteger(), nullable=False),
        sa.Column("sources", sa.JSON(), nullable=False),
        sa.Column("members", sa.String(length=32), nullable=False),
        sa.Column("calculated_at", sa.BigInteger(), nullable=False),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("name", "version", name=op.f("pk_group_versions")),
    )
    op.create_index(op.f("ix_group_versions_members"), "group_versions", ["members"])
    op.create_index(
        op.f("ix_group_versions_name_as_of_version"), "group_versions", ["name", "as_of", "version"]
    )
    op.create_table(
        "group_holds",
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("holder", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("name", "version", "holder", name=op.f("pk_group_holds")),
        sa.ForeignKeyConstraint(
            ["name", "version"],
            ["group_versions.name", "group_versions.version"],
            name=op.f("fk_group_holds_name_version_group_versions"),
        ),
    )


def downgrade() -> None:
    op.drop_table("group_holds")
    op.drop_table("group_versions")
