"""A database's status: its revision, size and rows."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.engine import Connection

from ollama_router_server.storage.database import Database
from ollama_router_server.storage.table_copies import COPIED, count_rows
from ollama_router_server.storage.upgrade import SchemaState, read_state

__all__ = ["DatabaseStatus", "database_status"]


class DatabaseStatus(Struct, frozen=True, kw_only=True):
    """A database's schema, its size in bytes, and rows by table (empty if not at this release's revision)."""

    schema: SchemaState
    size_bytes: int
    rows: Mapping[str, int]


async def database_status(url: str) -> DatabaseStatus:
    """Read a database's status without changing anything.

    Raises:
        ConfigError: the URL's database is not supported.
        StorageUnavailable: the database does not exist or cannot answer.
    """
    database = Database(url)
    try:
        return await database.read(_status, database.path)
    finally:
        await database.aclose()


def _status(connection: Connection, path: Path | None) -> DatabaseStatus:
    schema = read_state(connection)
    if path is None:
        size = int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())
    else:
        size = sum(_size(part) for part in (path, path.with_name(f"{path.name}-wal")))
    counted = COPIED if schema.up_to_date else ()
    return DatabaseStatus(
        schema=schema, size_bytes=size, rows={table.name: count_rows(connection, table) for table in counted}
    )


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0
