"""Sums of the request log are written with its rows; the log keeps the one index that grows at its end."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from ollama_router_server.storage.log_counting import COUNTED, count_rows, rows_of
from ollama_router_server.storage.log_figures import Sums

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_ROWS_AT_ONCE = 20_000


def upgrade() -> None:
    """Count every row anew: some 10 microseconds a row."""
    op.drop_index("ix_request_log_user_started_at", "request_log")
    with op.batch_alter_table("request_log") as table:
        table.drop_constraint("uq_request_log_id", type_="unique")
    op.drop_table("log_summaries")
    op.drop_table("log_progress")
    sums = op.create_table(
        "log_sums",
        sa.Column("id", _SERIAL, nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("span", sa.Integer(), nullable=False),
        sa.Column("in_day", sa.Boolean(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("totals", sa.Text(), nullable=False),
        sa.Column("users", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_log_sums"),
    )
    op.create_index("ix_log_sums_start", "log_sums", ["start"])
    names = ("start", "span", "in_day", "requests", "totals", "users")
    rows = rows_of(_count())
    if rows:
        op.bulk_insert(sums, [dict(zip(names, row, strict=True)) for row in rows])


def _count() -> dict[int, Sums]:
    log = sa.table("request_log", *(sa.column(name) for name in ("seq", *COUNTED)))
    query = sa.select(log.c.seq, *(log.c[name] for name in COUNTED)).order_by(log.c.seq).limit(_ROWS_AT_ONCE)
    connection = op.get_bind()
    hours: dict[int, Sums] = {}
    seq = 0
    while rows := connection.execute(query.where(log.c.seq > seq)).all():
        seq = rows[-1].seq
        for start, sums in count_rows(list(zip(*rows, strict=True))[1:]).items():
            hours.setdefault(start, Sums()).add(sums)
    return hours


def downgrade() -> None:
    """Go back to sums that are counted later, all of them anew."""
    op.drop_table("log_sums")
    with op.batch_alter_table("request_log") as table:
        table.create_unique_constraint("uq_request_log_id", ["id"])
    op.create_index("ix_request_log_user_started_at", "request_log", ["user", "started_at"])
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
