"""The request log of one database: rows in, rows and figures out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from msgspec.structs import asdict, astuple
from sqlalchemy import ColumnElement, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ollama_router_core.errors import StorageUnavailable
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.storage.database import ROWS_AT_ONCE, Database
from ollama_router_server.storage.log_filter import LogFilter
from ollama_router_server.storage.log_stats import HourRow, LogStats, read_history, read_stats
from ollama_router_server.storage.log_totals import COUNTED, add_rows, subtract_rows
from ollama_router_server.storage.schema import log_drops, request_log

__all__ = ["RequestLog", "delete_rows_of_user", "select_records"]

_FIELDS = RequestRecord.__struct_fields__
_COLUMNS = tuple(request_log.c[name] for name in _FIELDS)
_DELETED_AT_ONCE = 2_000
_LATELY = 100_000  # rows that other processes may have written while one batch was tried again


class RequestLog:
    """The request log of one database.

    Args:
        database: where it is kept.
        few_rows: up to so many rows are counted one by one, for exact percentiles.
    """

    def __init__(self, database: Database, *, few_rows: int = 100_000) -> None:
        self._database = database
        self._few_rows = few_rows
        self._in_doubt = False

    async def insert(self, records: Sequence[RequestRecord], *, dropped: int = 0, now: float = 0.0) -> None:
        """Write all rows, and what they add to the totals, or nothing.

        Args:
            records: the rows. After a failure, rows that were written all the same (the commit's answer was lost)
                are left out.
            dropped: rows that were lost since the last call; noted in the same transaction.
            now: seconds since 1970, for that note.

        Raises:
            StorageUnavailable: the database cannot take them now.
            DBAPIError, OverflowError, UnicodeError: a value that the database never takes.
        """
        try:
            async with self._database.write() as connection:
                if self._in_doubt:
                    written = await _ids_written_lately(connection)
                    records = [record for record in records if record.id not in written]
                await _insert(connection, records)
                await add_rows(connection, records)
                if dropped:
                    await connection.execute(insert(log_drops).values(recorded_at=now, dropped=dropped))
        except StorageUnavailable:
            self._in_doubt = True
            raise
        self._in_doubt = False

    async def list(self, chosen: LogFilter, *, limit: int = 50) -> tuple[RequestRecord, ...]:
        """The newest rows first, at most `limit`."""
        async with self._database.read() as connection:
            return await select_records(connection, chosen, limit=limit)

    async def stats(self, chosen: LogFilter) -> LogStats:
        """Figures over all rows of a filter; the rows themselves stay in the database.

        With a filter by time alone that matches more than `few_rows`, percentiles are those of bands: at most 1 ms,
        from 100 ms on at most 1 in 100, below the true value.
        """
        async with self._database.read() as connection:
            return await read_stats(connection, chosen, few_rows=self._few_rows)

    async def history(self, chosen: LogFilter) -> tuple[HourRow, ...]:
        """Requests by hour, oldest first; the first hour is whole, hours without requests are left out."""
        async with self._database.read() as connection:
            return await read_history(connection, chosen)

    async def cleanup(self, *, before: float, batch: int = _DELETED_AT_ONCE) -> int:
        """Delete rows older than `before` (seconds since 1970); returns how many.

        Each batch is a transaction of its own, so that the log's writer gets its turn between them.
        """
        gone, more = 0, True
        while more:
            async with self._database.write() as connection:
                deleted = await _delete_oldest(connection, request_log.c.started_at < before, batch)
            gone += deleted
            more = deleted == batch
            await asyncio.sleep(0)
        return gone

    async def start_of_newest(self, count: int) -> float | None:
        """When the oldest of the newest `count` rows began; None if there are no more than that."""
        columns = request_log.c
        newest = select(columns.started_at).order_by(columns.started_at.desc(), columns.seq.desc())
        async with self._database.read() as connection:
            starts = (await connection.execute(newest.offset(max(0, count - 1)).limit(2))).scalars().all()
        return starts[0] if len(starts) > 1 else None

    async def newer_than(
        self, seq: int, chosen: LogFilter, *, limit: int = 1_000
    ) -> tuple[int, tuple[RequestRecord, ...]]:
        """Rows written after the row with this number, in that order, and the number to ask with next."""
        columns = request_log.c
        query = select(columns.seq, *_COLUMNS).where(columns.seq > seq, *chosen.conditions())
        async with self._database.read() as connection:
            rows = (await connection.execute(query.order_by(columns.seq).limit(limit))).all()
        return (rows[-1].seq if rows else seq), tuple(_record(row[1:]) for row in rows)

    async def last_number(self) -> int:
        """The number of the row written last, 0 if there is none."""
        async with self._database.read() as connection:
            return await _last_number(connection)


async def delete_rows_of_user(connection: AsyncConnection, user: str) -> int:
    """Delete a user's rows, and what they added to the totals; returns how many."""
    gone = 0
    while deleted := await _delete_oldest(connection, request_log.c.user == user, _DELETED_AT_ONCE):
        gone += deleted
    return gone


async def select_records(connection: AsyncConnection, chosen: LogFilter, *, limit: int) -> tuple[RequestRecord, ...]:
    """As `RequestLog.list`, within a transaction that is open already."""
    columns = request_log.c
    newest = select(*_COLUMNS).order_by(columns.started_at.desc(), columns.seq.desc())
    rows = await connection.execute(newest.where(*chosen.conditions()).limit(limit))
    return tuple(_record(row) for row in rows)


async def _insert(connection: AsyncConnection, records: Sequence[RequestRecord]) -> None:
    """Insert rows, some at a time, as they are prepared on the event loop's thread.

    The driver takes the values as they are: SQLAlchemy's processing of 30 columns costs 11 of 23 us a row.
    """
    statement = str(insert(request_log).compile(dialect=connection.dialect, column_keys=_FIELDS))
    for start in range(0, len(records), ROWS_AT_ONCE):
        some = records[start : start + ROWS_AT_ONCE]
        if connection.dialect.positional:
            await connection.exec_driver_sql(statement, [astuple(record) for record in some])
        else:
            await connection.exec_driver_sql(statement, [asdict(record) for record in some])


async def _delete_oldest(connection: AsyncConnection, condition: ColumnElement[bool], count: int) -> int:
    """Delete at most `count` rows; what is subtracted are those that this transaction deleted, and no other."""
    columns = request_log.c
    oldest = select(columns.seq).where(condition).order_by(columns.started_at).limit(count)
    deletion = delete(request_log).where(columns.seq.in_(oldest)).returning(*(columns[name] for name in COUNTED))
    rows = (await connection.execute(deletion)).all()
    await subtract_rows(connection, rows)
    return len(rows)


async def _ids_written_lately(connection: AsyncConnection) -> set[str]:
    last = await _last_number(connection)
    rows = await connection.execute(select(request_log.c.id).where(request_log.c.seq > last - _LATELY))
    return set(rows.scalars())


async def _last_number(connection: AsyncConnection) -> int:
    return int((await connection.execute(select(func.coalesce(func.max(request_log.c.seq), 0)))).scalar_one())


def _record(row: Sequence[Any]) -> RequestRecord:
    return RequestRecord(**dict(zip(_FIELDS, row, strict=True)))
