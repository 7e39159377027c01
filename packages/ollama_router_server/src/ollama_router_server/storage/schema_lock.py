"""Limits how long a change of PostgreSQL's schema blocks other sessions.

A session that waits for a table lock blocks all later sessions on that table: an upgrade behind a long query would stop
every router. So a change waits with a short timeout, pauses between attempts, and reports the sessions that hold the
locks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from ollama_router_core.errors import StorageUnavailable
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.schema import metadata

__all__ = ["LockPatience", "change_schema", "lock_schema"]

T = TypeVar("T")
P = ParamSpec("P")

_LOCK = 0x6F726F75  # an arbitrary number that no other lock on the server uses
_NOT_AVAILABLE = "55P03"


class LockPatience(Struct, frozen=True, kw_only=True):
    """How long a change waits for locks: at most `wait` seconds each, in `tries` attempts, `pause` seconds apart."""

    wait: float = 3.0
    pause: float = 5.0
    tries: int = 15


def lock_schema(connection: Connection) -> None:
    """Prevent other processes from changing the schema until the transaction ends; SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


async def change_schema(
    database: Database,
    tell: Callable[[str], None],
    patience: LockPatience,
    work: Callable[Concatenate[Connection, P], T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Return what `work(connection, ...)` returns, in a transaction that holds the schema lock.

    Args:
        database: the database to change.
        tell: called with a sentence before each pause.
        patience: the limits on PostgreSQL; SQLite has no table locks.
        work: called anew after each pause.
        args: passed to `work`.
        kwargs: passed to `work`.

    Raises:
        StorageUnavailable: the locks are still held, with their holders; or the database is unavailable.
    """

    def locked(connection: Connection) -> T:
        lock_schema(connection)
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SET LOCAL lock_timeout = {round(patience.wait * 1000)}"))
        return work(connection, *args, **kwargs)

    for left in range(patience.tries - 1, -1, -1):
        try:
            return await database.write(locked)
        except StorageUnavailable as error:
            if not _is_held_up(error):
                raise
            held = f"the tables are in use{await database.read(_holders)}"
            if not left:
                raise StorageUnavailable(
                    f"{held}; nothing was changed: run the same command again once that has ended"
                ) from error
        tell(f"{held}; tries again in {patience.pause:g} s, {left} more times")
        await asyncio.sleep(patience.pause)
    raise AssertionError("a patience without a try")


def _is_held_up(error: StorageUnavailable) -> bool:
    cause = error.__cause__
    return isinstance(cause, DBAPIError) and getattr(cause.orig, "sqlstate", None) == _NOT_AVAILABLE


def _holders(connection: Connection) -> str:
    """Describe the oldest sessions that hold locks on our tables, without their queries, which may contain any data.

    PostgreSQL shows the transaction start of other roles to privileged roles only.
    """
    found = connection.execute(
        text(
            "SELECT pid, usename, application_name, extract(epoch FROM now() - xact_start)::int FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND pid IN (SELECT pid FROM pg_locks"
            " WHERE granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND relation IN (SELECT to_regclass(name) FROM unnest(CAST(:tables AS text[])) AS name))"
            " ORDER BY xact_start LIMIT 3"
        ),
        {"tables": [table.name for table in metadata.sorted_tables]},
    )
    holders = [_session(*row) for row in found]
    return f" by {', '.join(holders)}" if holders else ""


def _session(pid: int, user: str | None, program: str | None, seconds: int | None) -> str:
    since = "" if seconds is None else f" for {seconds} s"
    return f"process {pid} of {user or 'PostgreSQL itself'} ({program or 'no name'}){since}"
