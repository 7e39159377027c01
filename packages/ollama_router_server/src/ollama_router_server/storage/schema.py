"""The tables, in SQL that SQLite and PostgreSQL both take.

Belongs here: tables and indexes as they are now.
Does not belong here: how a database gets there (`migrations`), statements (`users`, `request_log`).

Times are seconds since 1970 (UTC) as double precision, as `RequestRecord` has them.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

__all__ = ["auth_epoch", "log_drops", "metadata", "request_log", "tokens", "users"]

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only in a column whose type is exactly INTEGER.
_Serial = BigInteger().with_variant(Integer, "sqlite")

users = Table(
    "users",
    metadata,
    Column("id", _Serial, primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("active", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    CheckConstraint("role IN ('admin', 'user', 'viewer')", name="role"),
    sqlite_autoincrement=True,  # the id of a deleted user is never given to another
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", _Serial, primary_key=True),
    Column("user_id", _Serial, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("name", String(100), nullable=False),
    Column("lookup", String(8), nullable=False, index=True),
    Column("digest", String(60), nullable=False),
    # Tokens of the Rails application have another format: their checksum must not be asked for.
    Column("imported", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("last_used_at", Double),
    UniqueConstraint("user_id", "name"),
    sqlite_autoincrement=True,  # a live stream remembers its token's id
)

auth_epoch = Table(
    "auth_epoch",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),
    CheckConstraint("id = 1", name="single_row"),
)

request_log = Table(
    "request_log",
    metadata,
    Column("seq", _Serial, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("started_at", Double, nullable=False),
    Column("user", String(100)),
    Column("client", Text),
    Column("method", String(16), nullable=False),
    Column("path", Text, nullable=False),
    Column("model_asked", Text),
    Column("model_served", Text),
    Column("server", Text),
    Column("status", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("streamed", Boolean, nullable=False),
    Column("queue_ms", Double),
    Column("queue_position", Integer),
    Column("expected_wait_ms", Double),
    Column("ttft_ms", Double),
    Column("total_ms", Double, nullable=False),
    Column("load_ms", Double),
    Column("prompt_tokens", BigInteger),
    Column("completion_tokens", BigInteger),
    Column("num_ctx", BigInteger),
    Column("bytes_in", BigInteger, nullable=False),
    Column("bytes_out", BigInteger, nullable=False),
    Column("reason", Text),
    Column("error_code", String(64)),
    Column("error", Text),
    Index(None, "started_at"),
    # Every other filter walks one of these two in time order; each further index would slow the one writer.
    Index(None, "user", "started_at"),
)

log_drops = Table(
    "log_drops",
    metadata,
    Column("id", _Serial, primary_key=True),
    Column("recorded_at", Double, nullable=False, index=True),
    Column("dropped", BigInteger, nullable=False),
)
