"""The tables, in SQL that SQLite and PostgreSQL both support.

Times are seconds since 1970 (UTC) as double precision, as in `RequestRecord`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    event,
    false,
    text,
)

__all__ = [
    "LONGEST_TOTALS_NAME",
    "activity",
    "audit_log",
    "auth_epoch",
    "config_versions",
    "console_claims",
    "console_sessions",
    "drains",
    "groups",
    "incidents",
    "log_drops",
    "log_latencies",
    "log_totals",
    "memberships",
    "metadata",
    "operations",
    "request_log",
    "stored_responses",
    "token_proofs",
    "token_usage",
    "tokens",
    "users",
]

LONGEST_TOTALS_NAME = 200

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite assigns numbers only in a column whose type is exactly INTEGER.
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
    Column("grants", Text, nullable=False, server_default="{}"),  # JSON in the format of the core's `access`
    CheckConstraint("role IN ('admin', 'user', 'viewer')", name="role"),
    sqlite_autoincrement=True,  # ids of deleted users are never reused
)

groups = Table(
    "groups",
    metadata,
    Column("id", _Serial, primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("grants", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
)

# A user is in at most one group; a group with members cannot be deleted, since its limits would be lost.
memberships = Table(
    "memberships",
    metadata,
    Column("user_id", _Serial, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("group_id", _Serial, ForeignKey("groups.id"), nullable=False, index=True),
)

# Tokens by user and day (UTC), for users with a token limit; requests in flight are included.
token_usage = Table(
    "token_usage",
    metadata,
    Column("user", String(100), primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("tokens", BigInteger, nullable=False),
)

# A process's recent admissions of a user with limits; `seconds` is JSON. See `activity`.
activity = Table(
    "activity",
    metadata,
    Column("router", String(32), primary_key=True),
    Column("worker", Integer, primary_key=True, autoincrement=False),
    Column("user", String(100), primary_key=True),
    Column("in_flight", Integer, nullable=False),
    Column("seconds", Text, nullable=False),
    Column("seen_at", Double, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", _Serial, primary_key=True),
    Column("user_id", _Serial, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("name", String(100), nullable=False),
    Column("lookup", String(8), nullable=False, index=True),
    Column("digest", String(60), nullable=False),
    # Tokens of the Rails application have another format, without a checksum.
    Column("imported", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("last_used_at", Double),
    Column("batch", Boolean, nullable=False, server_default=false()),  # its requests have batch priority
    UniqueConstraint("user_id", "name"),
    sqlite_autoincrement=True,  # a live stream remembers its token's id
)

# The credential that matches a digest, by keyed hash; one row per key, since routers may differ. See `TokenProver`.
token_proofs = Table(
    "token_proofs",
    metadata,
    Column("token_id", _Serial, ForeignKey("tokens.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("key_id", String(16), primary_key=True),
    Column("digest", String(60), nullable=False),  # at the time of the proof: an edited digest voids it
    Column("proof", String(64), nullable=False),
)

# Servers drained or put back into service at run time, with a change counter; the config decides about all others.
drains = Table(
    "drains",
    metadata,
    Column("server", String(100), primary_key=True),
    Column("on", Boolean, nullable=False),
    Column("version", Integer, nullable=False),
)

# Sessions of the console, by digest of the cookie; a session ends with the token that opened it.
console_sessions = Table(
    "console_sessions",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("user_id", _Serial, ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("token_id", _Serial, ForeignKey("tokens.id", ondelete="CASCADE"), nullable=False),
    Column("role", String(16), nullable=False),  # at sign-in: a role change ends the session
    Column("method", String(16), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
)

# Sign-in links, each for one session, by digest of the secret.
console_claims = Table(
    "console_claims",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("user_id", _Serial, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("expires_at", Double, nullable=False),
)

# Responses of `/v1/responses` that later requests may continue; both texts are JSON. See `response_store`.
stored_responses = Table(
    "stored_responses",
    metadata,
    Column("user_id", _Serial, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("id", String(200), primary_key=True),
    Column("created_at", Double, nullable=False, index=True),
    Column("response", Text, nullable=False),
    Column("items", Text, nullable=False),
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
    Column("id", String(64), nullable=False),
    Column("started_at", Double, nullable=False),
    Column("user", String(100)),
    Column("client", Text),
    Column("method", String(16), nullable=False),
    Column("path", Text, nullable=False),
    Column("speaker", String(100)),
    Column("model_asked", Text),
    Column("model_served", Text),
    Column("server", Text),
    Column("status", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("streamed", Boolean, nullable=False),
    Column("queue_ms", Double),
    Column("queue_position", Integer),
    Column("expected_wait_ms", Double),
    Column("connect_ms", Double),
    Column("ttft_ms", Double),
    Column("total_ms", Double, nullable=False),
    Column("load_ms", Double),
    Column("prefill_ms", Double),
    Column("decode_ms", Double),
    Column("prompt_tokens", BigInteger),
    Column("completion_tokens", BigInteger),
    Column("cached_tokens", BigInteger),
    Column("cache_write_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("tokens_estimated", Boolean, nullable=False),
    Column("gpu_ms", BigInteger),
    Column("cost_micros", BigInteger),
    Column("num_ctx", BigInteger),
    Column("bytes_in", BigInteger, nullable=False),
    Column("bytes_out", BigInteger, nullable=False),
    Column("reason", Text),
    Column("error_code", String(64)),
    Column("error", Text),
    Column("decision", Text),  # JSON, see `routing.kept_decisions`; last, since it is long and rarely read
    Index(None, "started_at"),
    Index(None, "user", "started_at"),
)

# The audit trail; `detail` is JSON. See `audit_log`.
audit_log = Table(
    "audit_log",
    metadata,
    Column("id", _Serial, primary_key=True),
    Column("at", Double, nullable=False, index=True),
    Column("actor", String(100), nullable=False),
    Column("via", String(8), nullable=False),
    Column("address", Text),
    Column("action", String(32), nullable=False),
    Column("subject", Text),
    Column("detail", Text, nullable=False),
    sqlite_autoincrement=True,
)

# Operations on a model across servers; `targets` is JSON, one entry per server. See `operation_store`.
operations = Table(
    "operations",
    metadata,
    Column("id", String(28), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("model", Text, nullable=False),
    Column("destination", Text),
    Column("context", Integer),
    Column("actor", String(100), nullable=False),
    Column("created_at", Double, nullable=False, index=True),
    Column("seen_at", Double, nullable=False),  # last heartbeat of the process that runs it
    Column("finished_at", Double),
    Column("cancelled", Boolean, nullable=False),
    Column("targets", Text, nullable=False),
)

# Texts of configs without secrets, by path, which routers share; `cause` is start, file or signal.
config_versions = Table(
    "config_versions",
    metadata,
    Column("path", String(512), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("taken_up_at", Double, nullable=False),
    Column("router", String(100), nullable=False),
    Column("cause", String(16), nullable=False),
    Column("text", Text, nullable=False),
)

_OPEN = text("ended_at IS NULL")

# Incidents, one row for all processes of a `scope`: a router, or a fleet of routers. See `incident_store`.
incidents = Table(
    "incidents",
    metadata,
    Column("id", _Serial, primary_key=True),
    Column("scope", String(100), nullable=False),
    Column("router", String(100), nullable=False),  # the one that reported it
    Column("kind", String(32), nullable=False),
    Column("server", String(100), nullable=False),  # empty if none; NULL would not be unique
    Column("model", String(512), nullable=False),
    Column("began_at", Double, nullable=False, index=True),
    Column("ended_at", Double),
    Column("seen_at", Double, nullable=False),  # last confirmation by the reporting router
    Column("cause", Text, nullable=False),
    Index("ix_incidents_under_way", "scope", "kind", "server", "model", unique=True, sqlite_where=_OPEN),
    sqlite_autoincrement=True,
)


@event.listens_for(incidents, "before_create")
def _limit_index_to_open(table: Table, connection: Connection, **_options: object) -> None:
    """Set it for PostgreSQL only when it is in use: `postgresql_where` imports its dialects, 5 MB at every start."""
    if connection.dialect.name == "postgresql":
        (under_way,) = (index for index in table.indexes if index.unique)
        under_way.dialect_options["postgresql"]["where"] = _OPEN


log_drops = Table(
    "log_drops",
    metadata,
    Column("id", _Serial, primary_key=True),
    Column("recorded_at", Double, nullable=False, index=True),
    Column("dropped", BigInteger, nullable=False),
)

# Totals of the log: `span` seconds (an hour or a day) from `start`, by user, by model and by server.
# The empty name stands for none.
log_totals = Table(
    "log_totals",
    metadata,
    Column("span", Integer, primary_key=True, autoincrement=False),
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    Column("dimension", String(8), primary_key=True),
    Column("name", String(LONGEST_TOTALS_NAME), primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("estimated", BigInteger, nullable=False),
    Column("gpu_ms", BigInteger, nullable=False, server_default="0"),
    Column("wasted_ms", BigInteger, nullable=False, server_default="0"),
    Column("cost_micros", BigInteger, nullable=False, server_default="0"),
    sqlite_with_rowid=False,
)

# Counts of an hour's rows by measure (`ttft` or `total`) and lower bound of a band of milliseconds.
log_latencies = Table(
    "log_latencies",
    metadata,
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    Column("measure", String(8), primary_key=True),
    Column("least_ms", Integer, primary_key=True, autoincrement=False),
    Column("requests", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
