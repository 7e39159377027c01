"""Whose token asked for a request's user, in the request log.

Rows from before have it in their reason alone. The release before writes rows without it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005_speakers_expand"
down_revision = "0004_token_priority_expand"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, which neither database rewrites its table for."""
    op.add_column("request_log", sa.Column("speaker", sa.String(100)))


def downgrade() -> None:
    """Forget it: reasons say so still."""
    op.drop_column("request_log", "speaker")
