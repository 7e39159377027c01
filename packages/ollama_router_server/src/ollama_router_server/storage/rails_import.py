"""Imports the database of the Rails application that this project replaces.

Users keep their bcrypt digests, so their tokens keep working. Existing users and rows stay unchanged: a second import
adds only what is new.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from msgspec import Struct
from sqlalchemy import insert, select
from sqlalchemy.engine import Connection

from ollama_router_core.access.redaction import redact
from ollama_router_core.access.tokens import is_digest, lookup_of
from ollama_router_core.errors import ConfigError
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.storage.audit_log import Actor, AuditEntry, insert_entry
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.identity_rows import next_epoch
from ollama_router_server.storage.request_log import RequestLog
from ollama_router_server.storage.schema import request_log, tokens, users
from ollama_router_server.system import Clock

__all__ = ["RailsReport", "RailsUser", "import_rails"]

TOKEN_NAME = "rails"  # noqa: S105 - the name of a token, not a token
_ROWS_AT_ONCE = 1_000
_LONGEST_ERROR = 500
_WORD = re.compile(r"[0-9A-Za-z_-]{8,}")
_COLUMNS = {
    "users": ("id", "name", "api_token", "token_digest", "active", "created_at"),
    "request_logs": ("id", "user_id", "http_method", "path", "ollama_model", "server_used", "response_status",
                     "response_time_ms", "error_message", "created_at"),
}  # fmt: skip


class RailsUser(Struct, frozen=True, kw_only=True):
    """The outcome for one user: `created`, `token added`, `unchanged`, or `skipped` with a `reason`."""

    name: str
    outcome: str
    reason: str | None = None


class RailsReport(Struct, frozen=True, kw_only=True):
    """The outcome of an import or a dry run: users, and counts of log rows, new (`log_rows`) and present before."""

    users: tuple[RailsUser, ...]
    log_rows: int
    log_rows_known: int


async def import_rails(path: Path, database: Database, *, clock: Clock, actor: Actor, dry_run: bool) -> RailsReport:
    """Import users and the log; with `dry_run`, only report what an import would do.

    Args:
        path: `production.sqlite3` of the Rails application, opened read-only.
        database: the database to import into.
        clock: provides the time of the audit entry.
        actor: the author of the audit entry.
        dry_run: whether to write nothing.

    Raises:
        ConfigError: the file is missing, or is not that application's database.
        StorageUnavailable: the database cannot write; imported rows stay, and another run continues.
    """

    def look(connection: Connection) -> tuple[RailsUser, ...]:
        return tuple(_take_user(connection, row, dry_run=dry_run) for row in found)

    def take(connection: Connection) -> tuple[RailsUser, ...]:
        next_epoch(connection)
        report = look(connection)
        counts = Counter(user.outcome for user in report)
        entry = AuditEntry(at=clock.wall(), actor=actor, action="user.import", subject=path.name, detail=counts)
        insert_entry(connection, entry)
        return report

    with closing(_open(path)) as source:
        found = _rows(source, "users")
        report = await (database.read(look) if dry_run else database.write(take))
        owners = {row["id"]: (_text(row["name"]).strip(), _text(row["api_token"])) for row in found}
        new, known = await _import_log(source, database, owners, dry_run=dry_run)
    return RailsReport(users=report, log_rows=new, log_rows_known=known)


async def _import_log(
    source: sqlite3.Connection, database: Database, owners: Mapping[int, tuple[str, str]], *, dry_run: bool
) -> tuple[int, int]:
    log, total, known = RequestLog(database), 0, 0
    for records in _batches(source, owners):
        there = await database.read(_ids_there, [record.id for record in records])
        if not dry_run:
            await log.insert([record for record in records if record.id not in there])
        total += len(records)
        known += len(there)
    return total - known, known


def _ids_there(connection: Connection, ids: Sequence[str]) -> set[str]:
    return set(connection.execute(select(request_log.c.id).where(request_log.c.id.in_(ids))).scalars())


def _open(path: Path) -> sqlite3.Connection:
    if not path.is_file():
        raise ConfigError(f"there is no file {path}")
    source = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)
    source.row_factory = sqlite3.Row
    try:
        _check_tables(source, path)
    except ConfigError:
        source.close()
        raise
    return source


def _check_tables(source: sqlite3.Connection, path: Path) -> None:
    for table, wanted in _COLUMNS.items():
        try:
            there = {row[1] for row in source.execute(f"PRAGMA table_info({table})")}
        except sqlite3.DatabaseError as error:
            raise ConfigError(f"{path} cannot be read: {error}") from None
        missing = [name for name in wanted if name not in there]
        if missing:
            raise ConfigError(f"{path} is no database of the Rails application: {table} lacks {', '.join(missing)}")


def _rows(source: sqlite3.Connection, table: str) -> list[sqlite3.Row]:
    columns = ", ".join(_COLUMNS[table])
    return source.execute(f"SELECT {columns} FROM {table} ORDER BY id").fetchall()  # noqa: S608 - our own names


def _take_user(connection: Connection, row: sqlite3.Row, *, dry_run: bool) -> RailsUser:
    name = _text(row["name"]).strip()
    digest, secret = _text(row["token_digest"]), _text(row["api_token"])
    has_token = is_digest(digest) and bool(secret)
    if not 0 < len(name) <= 100 or not name.isprintable():
        return RailsUser(name=name[:100], outcome="skipped", reason="the name cannot be used here")
    known = connection.execute(select(users.c.id).where(users.c.name == name)).scalar_one_or_none()
    if known is not None:
        there = _tokens_of(connection, known)
        if not has_token or digest in there.values():
            return RailsUser(name=name, outcome="unchanged")
        if TOKEN_NAME in there:
            return RailsUser(name=name, outcome="skipped", reason=f"has another token named {TOKEN_NAME}")
    if not dry_run:
        created_at = _moment(row["created_at"])
        user_id = known or _insert_user(connection, name, row, created_at)
        if has_token:
            _insert_token(connection, user_id, digest, secret, created_at)
    reason = None if has_token else "without a token: its digest is missing or is not bcrypt"
    return RailsUser(name=name, outcome="created" if known is None else "token added", reason=reason)


def _tokens_of(connection: Connection, user_id: int) -> dict[str, str]:
    rows = connection.execute(select(tokens.c.name, tokens.c.digest).where(tokens.c.user_id == user_id))
    return {row.name: row.digest for row in rows}


def _insert_user(connection: Connection, name: str, row: sqlite3.Row, created_at: float) -> int:
    values = {
        "name": name,
        "role": "user",
        "active": bool(row["active"]),
        "created_at": created_at,
        "updated_at": created_at,
    }
    return int(connection.execute(insert(users).values(values).returning(users.c.id)).scalar_one())


def _insert_token(connection: Connection, user_id: int, digest: str, secret: str, created_at: float) -> None:
    values = {
        "user_id": user_id,
        "name": TOKEN_NAME,
        "lookup": lookup_of(secret),
        "digest": digest,
        "imported": True,
        "created_at": created_at,
    }
    connection.execute(insert(tokens).values(values))


def _batches(source: sqlite3.Connection, owners: Mapping[int, tuple[str, str]]) -> Iterator[list[RequestRecord]]:
    columns = ", ".join(_COLUMNS["request_logs"])
    rows = source.execute(f"SELECT {columns} FROM request_logs ORDER BY id")  # noqa: S608 - our own names
    secrets = {secret for _, secret in owners.values() if secret}
    while batch := rows.fetchmany(_ROWS_AT_ONCE):
        yield [_record(row, owners, secrets) for row in batch]


def _record(row: sqlite3.Row, owners: Mapping[int, tuple[str, str]], secrets: AbstractSet[str]) -> RequestRecord:
    model = _text(row["ollama_model"]) or None
    name, secret = owners.get(row["user_id"], (None, ""))
    text = _text(row["error_message"])
    text = text.replace(secret, "***") if secret else text
    text = _WORD.sub(lambda word: "***" if word[0] in secrets else word[0], text)  # another user's token
    error = redact(text)[:_LONGEST_ERROR] or None
    return RequestRecord(
        id=f"rails-{row['id']}",
        started_at=_moment(row["created_at"]),
        user=name,
        client=None,
        method=_text(row["http_method"])[:16] or "GET",
        path=_text(row["path"]).partition("?")[0],
        model_asked=model,
        model_served=model if row["server_used"] else None,
        server=_text(row["server_used"]) or None,
        status=int(row["response_status"] or 0),
        attempts=1 if row["server_used"] else 0,
        total_ms=float(row["response_time_ms"] or 0.0),
        error=error,
    )


def _text(value: Any) -> str:
    """Return a value as text without NULs, which PostgreSQL rejects."""
    return "" if value is None else str(value).replace("\0", "")


def _moment(value: Any) -> float:
    """Return seconds since 1970; Rails writes UTC without an offset: `2025-01-31 12:00:00.123456`."""
    try:
        moment = datetime.fromisoformat(_text(value))
    except ValueError:
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
