"""The tables of the first release."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001_initial"
down_revision = None
branch_labels = None
depends_on = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_OPEN = sa.text("ended_at IS NULL")


def upgrade() -> None:
    """Create every table and the single row of the epoch."""
    _create_users()
    _create_groups()
    _create_tokens()
    _create_limits()
    _create_console()
    _create_stored_responses()
    _create_request_log()
    _create_audit_log()
    _create_operations()
    _create_incidents()
    _create_config_versions()
    _create_log_figures()
    epoch = op.create_table(
        "auth_epoch",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_auth_epoch_single_row")),
        sa.PrimaryKeyConstraint("id", name="pk_auth_epoch"),
    )
    op.bulk_insert(epoch, [{"id": 1, "epoch": 1}])


def _create_users() -> None:
    op.create_table(
        "users",
        sa.Column("id", _SERIAL, nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("grants", sa.Text(), nullable=False, server_default="{}"),
        sa.CheckConstraint("role IN ('admin', 'user', 'viewer')", name=op.f("ck_users_role")),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("name", name="uq_users_name"),
        sqlite_autoincrement=True,
    )


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


def _create_tokens() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", _SERIAL, nullable=False),
        sa.Column("user_id", _SERIAL, nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("lookup", sa.String(8), nullable=False),
        sa.Column("digest", sa.String(60), nullable=False),
        sa.Column("imported", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("last_used_at", sa.Double()),
        sa.Column("batch", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_tokens_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
        sa.UniqueConstraint("user_id", "name", name="uq_tokens_user_id_name"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_tokens_lookup", "tokens", ["lookup"])
    op.create_table(
        "token_proofs",
        sa.Column("token_id", _SERIAL, autoincrement=False, nullable=False),
        sa.Column("key_id", sa.String(16), nullable=False),
        sa.Column("digest", sa.String(60), nullable=False),
        sa.Column("proof", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(["token_id"], ["tokens.id"], name="fk_token_proofs_token_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("token_id", "key_id", name="pk_token_proofs"),
    )


def _create_limits() -> None:
    op.create_table(
        "token_usage",
        sa.Column("user", sa.String(100), nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user", "day", name="pk_token_usage"),
    )
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


def _create_console() -> None:
    op.create_table(
        "console_sessions",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("user_id", _SERIAL, nullable=False),
        sa.Column("token_id", _SERIAL, nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("method", sa.String(16), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_console_sessions"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_console_sessions_user_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["token_id"], ["tokens.id"], name="fk_console_sessions_token_id", ondelete="CASCADE"),
    )
    op.create_index("ix_console_sessions_user_id", "console_sessions", ["user_id"])
    op.create_table(
        "drains",
        sa.Column("server", sa.String(100), nullable=False),
        sa.Column("on", sa.Boolean(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("server", name="pk_drains"),
    )
    op.create_table(
        "console_claims",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("user_id", _SERIAL, nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_console_claims"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_console_claims_user_id", ondelete="CASCADE"),
    )


def _create_stored_responses() -> None:
    op.create_table(
        "stored_responses",
        sa.Column("user_id", _SERIAL, nullable=False),
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("response", sa.Text(), nullable=False),
        sa.Column("items", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "id", name="pk_stored_responses"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_stored_responses_user_id", ondelete="CASCADE"),
    )
    op.create_index("ix_stored_responses_created_at", "stored_responses", ["created_at"])


def _create_request_log() -> None:
    op.create_table(
        "request_log",
        sa.Column("seq", _SERIAL, nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("user", sa.String(100)),
        sa.Column("client", sa.Text()),
        sa.Column("method", sa.String(16), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("speaker", sa.String(100)),
        sa.Column("model_asked", sa.Text()),
        sa.Column("model_served", sa.Text()),
        sa.Column("server", sa.Text()),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("streamed", sa.Boolean(), nullable=False),
        sa.Column("queue_ms", sa.Double()),
        sa.Column("queue_position", sa.Integer()),
        sa.Column("expected_wait_ms", sa.Double()),
        sa.Column("connect_ms", sa.Double()),
        sa.Column("ttft_ms", sa.Double()),
        sa.Column("total_ms", sa.Double(), nullable=False),
        sa.Column("load_ms", sa.Double()),
        sa.Column("prefill_ms", sa.Double()),
        sa.Column("decode_ms", sa.Double()),
        sa.Column("prompt_tokens", sa.BigInteger()),
        sa.Column("completion_tokens", sa.BigInteger()),
        sa.Column("cached_tokens", sa.BigInteger()),
        sa.Column("cache_write_tokens", sa.BigInteger()),
        sa.Column("reasoning_tokens", sa.BigInteger()),
        sa.Column("tokens_estimated", sa.Boolean(), nullable=False),
        sa.Column("gpu_ms", sa.BigInteger()),
        sa.Column("cost_micros", sa.BigInteger()),
        sa.Column("num_ctx", sa.BigInteger()),
        sa.Column("bytes_in", sa.BigInteger(), nullable=False),
        sa.Column("bytes_out", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("error_code", sa.String(64)),
        sa.Column("error", sa.Text()),
        sa.Column("decision", sa.Text()),
        sa.PrimaryKeyConstraint("seq", name="pk_request_log"),
    )
    op.create_index("ix_request_log_started_at", "request_log", ["started_at"])
    op.create_index("ix_request_log_user_started_at", "request_log", ["user", "started_at"])


def _create_audit_log() -> None:
    op.create_table(
        "audit_log",
        sa.Column("id", _SERIAL, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor", sa.String(100), nullable=False),
        sa.Column("via", sa.String(8), nullable=False),
        sa.Column("address", sa.Text()),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("subject", sa.Text()),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_log"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_log_at", "audit_log", ["at"])


def _create_operations() -> None:
    op.create_table(
        "operations",
        sa.Column("id", sa.String(28), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text()),
        sa.Column("context", sa.Integer()),
        sa.Column("actor", sa.String(100), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double()),
        sa.Column("cancelled", sa.Boolean(), nullable=False),
        sa.Column("targets", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_operations"),
    )
    op.create_index("ix_operations_created_at", "operations", ["created_at"])


def _create_incidents() -> None:
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


def _create_config_versions() -> None:
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


def _create_log_figures() -> None:
    op.create_table(
        "log_totals",
        sa.Column("span", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("start", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("dimension", sa.String(8), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("errors", sa.BigInteger(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger(), nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=False),
        sa.Column("estimated", sa.BigInteger(), nullable=False),
        sa.Column("gpu_ms", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("wasted_ms", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("cost_micros", sa.BigInteger(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("span", "start", "dimension", "name", name="pk_log_totals"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "log_latencies",
        sa.Column("start", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("measure", sa.String(8), nullable=False),
        sa.Column("least_ms", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("start", "measure", "least_ms", name="pk_log_latencies"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "log_drops",
        sa.Column("id", _SERIAL, primary_key=True),
        sa.Column("recorded_at", sa.Double(), nullable=False),
        sa.Column("dropped", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_log_drops"),
    )
    op.create_index("ix_log_drops_recorded_at", "log_drops", ["recorded_at"])
