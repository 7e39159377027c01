"""Rows into the request log, as cheaply as each database takes them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from msgspec.structs import astuple
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from ollama_router_core.errors import StorageUnavailable
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.log_packing import FIELDS, Bound, pack, to_count
from ollama_router_server.storage.log_sums import add_to_sums
from ollama_router_server.storage.schema import log_drops

__all__ = ["write_batch"]

_INSERT_DROPS = "INSERT INTO log_drops (recorded_at, dropped) VALUES (?, ?)"
_COLUMNS = ", ".join(f'"{name}"' for name in FIELDS)
_COPY = f"COPY request_log ({_COLUMNS}) FROM STDIN"


async def write_batch(database: Database, records: Sequence[RequestRecord], *, dropped: int, now: float) -> None:
    """Write everything or nothing.

    Raises:
        StorageUnavailable: the database cannot take them now.
        DBAPIError, sqlite3.Error, OverflowError, UnicodeError: a value that the database never takes.
    """
    if database.backend == "sqlite":
        bound = await pack(records) if records else []
        if dropped:
            bound.append(Bound(_INSERT_DROPS, [now, dropped]))
        await database.write_sqlite(lambda connection: _write_sqlite(connection, bound))
        return
    sums = await to_count(records)
    async with database.write() as connection:
        if records:
            await _copy(connection, records)
            await add_to_sums(connection, sums)
        if dropped:
            await connection.execute(insert(log_drops).values(recorded_at=now, dropped=dropped))


def _write_sqlite(connection: sqlite3.Connection, bound: Sequence[Bound]) -> None:
    for statement, values in bound:
        connection.executemany(statement, (values,))  # `execute` would also ask for the last row's number


async def _copy(connection: AsyncConnection, records: Sequence[RequestRecord]) -> None:
    """PostgreSQL's own way for many rows."""
    import psycopg  # noqa: PLC0415 - an extra

    driver: Any = (await connection.get_raw_connection()).driver_connection
    try:
        async with driver.cursor() as cursor, cursor.copy(_COPY) as copy:
            for row in map(astuple, records):
                await copy.write_row(row)
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise StorageUnavailable(f"the database cannot answer: {type(error).__name__}") from error
