"""Rows into the request log, as cheaply as each database takes them.

Belongs here: the one transaction that writes a batch: rows, what they add to the sums, how many were lost.
Does not belong here: when batches are written (`sinks`), reading (`request_log`).

SQLite gets several rows with each statement: a step of a statement lets go of the interpreter and has to get it back
from the event loop, so one step for each row would be thousands of changes of threads a second.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from msgspec.structs import astuple
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from ollama_router_core.errors import StorageUnavailable
from ollama_router_core.records import RequestRecord
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.log_counting import COUNTED, rows_to_count
from ollama_router_server.storage.log_sums import add_to_sums
from ollama_router_server.storage.schema import log_drops

__all__ = ["FIELDS", "write_batch"]

FIELDS = RequestRecord.__struct_fields__
"""The fields of a row, in the order of the table's columns."""

_COUNTED = [FIELDS.index(name) for name in COUNTED]

_TOGETHER = (50, 10, 1)  # rows in one statement of SQLite; few sizes, so that statements need not be compiled anew
_COLUMNS = ", ".join(f'"{name}"' for name in FIELDS)
_INSERT_SUMS = "INSERT INTO log_sums (start, span, in_day, requests, totals, users) VALUES (?, ?, ?, ?, ?, ?)"
_INSERT_DROPS = "INSERT INTO log_drops (recorded_at, dropped) VALUES (?, ?)"
_COPY = f"COPY request_log ({_COLUMNS}) FROM STDIN"


async def write_batch(database: Database, records: Sequence[RequestRecord], *, dropped: int, now: float) -> None:
    """Write everything or nothing.

    Raises:
        StorageUnavailable: the database cannot take them now.
        DBAPIError, sqlite3.Error, OverflowError, UnicodeError: a value that the database never takes.
    """
    if database.backend == "sqlite":
        await database.write_sqlite(lambda connection: _write_sqlite(connection, records, dropped, now))
        return
    async with database.write() as connection:
        if records:
            await _copy(connection, records)
            await add_to_sums(connection, _sums_of(_columns(records)))
        if dropped:
            await connection.execute(insert(log_drops).values(recorded_at=now, dropped=dropped))


def _write_sqlite(connection: sqlite3.Connection, records: Sequence[RequestRecord], dropped: int, now: float) -> None:
    if records:
        columns = _columns(records)
        _insert_rows(connection, columns)
        connection.executemany(_INSERT_SUMS, _sums_of(columns))
    if dropped:
        connection.execute(_INSERT_DROPS, (now, dropped))


def _insert_rows(connection: sqlite3.Connection, columns: Sequence[list[Any]]) -> None:
    """Half of a row is NULL or what the other rows say, too: the one need not be bound, the other once a statement."""
    count = len(columns[0])
    single, several, once = [], [], []
    for place, column in enumerate(columns):
        value = column[0]
        if value != column[-1] or column.count(value) != count:
            several.append(place)
        elif value is not None:
            single.append(place)
            once.append(value)
    width = len(several)
    values = list(chain.from_iterable(zip(*[columns[place] for place in several], strict=True)))
    start = 0
    for together in _TOGETHER:
        statement = _insert(tuple(single), tuple(several), together)
        while count - start >= together:
            connection.execute(statement, once + values[start * width : (start + together) * width])
            start += together


def _columns(records: Sequence[RequestRecord]) -> list[list[Any]]:
    """As flat as can be: a tuple kept for each row would set the garbage collector to work."""
    values = list(chain.from_iterable(map(astuple, records)))
    width = len(FIELDS)
    return [values[place::width] for place in range(width)]


def _sums_of(columns: Sequence[list[Any]]) -> list[tuple[Any, ...]]:
    return rows_to_count([columns[place] for place in _COUNTED])


@lru_cache(maxsize=128)
def _insert(single: tuple[int, ...], several: tuple[int, ...], rows: int) -> str:
    """A statement for values that are the same in each row, and after them those that are not, row by row."""
    columns = ", ".join(f'"{FIELDS[place]}"' for place in (*single, *several))
    first = [f"?{number}" for number in range(1, len(single) + 1)]
    row = f"({', '.join(first + ['?'] * len(several))})"
    return f"INSERT INTO request_log ({columns}) VALUES {', '.join([row] * rows)}"  # noqa: S608 - our own names


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
