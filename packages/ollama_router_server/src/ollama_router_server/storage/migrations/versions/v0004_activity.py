"""What each process has admitted of late, so that limits hold for all of them together."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "activity",
        sa.Column("router", sa.String(32), nullable=False),
        sa.Column("worker", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("user", sa.String(100), nullable=False),
        sa.Column("in_flight", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("router", "worker", "user", name="pk_activity"),
    )


def downgrade() -> None:
    """Take it away again."""
    op.drop_table("activity")
