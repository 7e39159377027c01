"""Groups, grants, token usage, summaries of the request log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add what is new; no existing table is rebuilt."""
    op.add_column("users", sa.Column("grants", sa.Text(), nullable=False, server_default="{}"))
    _create_groups()
    op.create_table(
        "token_usage",
        sa.Column("user", sa.String(100), nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user", "day", name="pk_token_usage"),
    )
    _create_summaries()


def downgrade() -> None:
    """Take it away again."""
    for table in ("log_progress", "log_summaries", "token_usage", "memberships", "groups"):
        op.drop_table(table)
    op.drop_column("users", "grants")


def _create_groups() -> None:
    op.create_table(
        "groups",
        sa.Column("id", _SERIAL, nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("grants", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_groups"),
        sa.UniqueConstraint("name", name="uq_groups_name"),
    )
    op.create_table(
        "memberships",
        sa.Column("user_id", _SERIAL, autoincrement=False, nullable=False),
        sa.Column("group_id", _SERIAL, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_memberships_user_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name="fk_memberships_group_id"),
        sa.PrimaryKeyConstraint("user_id", name="pk_memberships"),
    )
    op.create_index("ix_memberships_group_id", "memberships", ["group_id"])


def _create_summaries() -> None:
    op.create_table(
        "log_summaries",
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("span", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("start", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("errors", sa.BigInteger(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "span", "start", "name", name="pk_log_summaries"),
        sqlite_with_rowid=False,
    )
    progress = op.create_table(
        "log_progress",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_log_progress_single_row")),
        sa.PrimaryKeyConstraint("id", name="pk_log_progress"),
    )
    op.bulk_insert(progress, [{"id": 1, "seq": 0}])
