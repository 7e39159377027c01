"""What went wrong and when, and configs that were taken up: new tables, which the release before does not look at.

A release has one revision that adds: the release before works with the next one, and no other.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002_incidents_expand"
down_revision = "0001_first_release"
branch_labels = None
depends_on = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_OPEN = sa.text("ended_at IS NULL")


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "incidents",
        sa.Column("id", _SERIAL, nullable=False),
        sa.Column("scope", sa.String(100), nullable=False),
        sa.Column("router", sa.String(100), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("server", sa.String(100), nullable=False),
        sa.Column("model", sa.String(512), nullable=False),
        sa.Column("began_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double()),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_incidents"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_incidents_began_at", "incidents", ["began_at"])
    op.create_index(
        "ix_incidents_under_way",
        "incidents",
        ["scope", "kind", "server", "model"],
        unique=True,
        sqlite_where=_OPEN,
        postgresql_where=_OPEN,
    )
    op.create_table(
        "config_versions",
        sa.Column("path", sa.String(512), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("taken_up_at", sa.Double(), nullable=False),
        sa.Column("router", sa.String(100), nullable=False),
        sa.Column("cause", sa.String(16), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("path", "number", name="pk_config_versions"),
    )


def downgrade() -> None:
    """Forget every incident and every version."""
    op.drop_table("config_versions")
    op.drop_table("incidents")
