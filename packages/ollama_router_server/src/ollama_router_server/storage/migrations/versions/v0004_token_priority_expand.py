"""Whether requests with a token are of batch priority.

Tokens from before are not. The release before makes tokens without the column and takes every token's requests for
interactive, unless a rule, a grant or the client says otherwise.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004_token_priority_expand"
down_revision = "0003_usage_expand"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, which neither database rewrites its table for."""
    op.add_column("tokens", sa.Column("batch", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    """Forget it: these tokens ask as others do."""
    op.drop_column("tokens", "batch")
