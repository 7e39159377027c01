"""A row of the sums may hold rows of the log that are still to be counted; older releases cannot read it.

The tables stay as they are: the number of this step keeps those releases away.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ollama_router_server.storage.log_counting import read
from ollama_router_server.storage.log_figures import row_of

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """What older releases wrote is counted already."""


def downgrade() -> None:
    """Count what waits."""
    names = ("id", "start", "span", "in_day", "totals", "users")
    sums = sa.table("log_sums", *(sa.column(name) for name in names))
    connection = op.get_bind()
    waiting = connection.execute(sa.select(sums).where(sums.c.users == "")).all()
    for row in waiting:
        _, _, _, _, totals, users = row_of(row.start, row.span, read([(row.totals, row.users)]))
        connection.execute(sa.update(sums).where(sums.c.id == row.id).values(totals=totals, users=users))
