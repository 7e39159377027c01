"""How long servers computed and what hosts cost, by request and in the totals.

Rows from before have no figures: nobody noted then which server a request that broke off was at. The release before
writes rows without them, and takes nothing from the totals' figures when it deletes rows: they are too high for those
hours until all rows of the hour are gone.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003_usage_expand"
down_revision = "0002_incidents_expand"
branch_labels = None
depends_on = None

_OF_ROWS = ("gpu_ms", "cost_micros")
_OF_TOTALS = ("gpu_ms", "wasted_ms", "cost_micros")


def upgrade() -> None:
    """Add the columns, which neither database rewrites its tables for."""
    for name in _OF_ROWS:
        op.add_column("request_log", sa.Column(name, sa.BigInteger()))
    for name in _OF_TOTALS:
        op.add_column("log_totals", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Forget the figures."""
    for name in _OF_TOTALS:
        op.drop_column("log_totals", name)
    for name in _OF_ROWS:
        op.drop_column("request_log", name)
