"""The table of sums over the request log by hour and by day: figures over millions of rows come at once.

Whoever writes or deletes rows writes what they add to the sums of their hours in the same transaction, as a row of
its own: the sums are those of the rows at every moment, whoever writes. `merge` makes one row of many, and of the
hours of a past day that day's row. An hour that is part of its day's row stays, for spans of time that cut the day.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ollama_router_server.storage.database import Database
from ollama_router_server.storage.log_counting import COUNTED, Waiting, count_rows, read, rows_of
from ollama_router_server.storage.log_figures import DAY, HOUR, row_of
from ollama_router_server.storage.schema import log_sums, request_log

__all__ = ["add_to_sums", "forget", "merge"]

_AT_ONCE = 800  # rows merged at once: each may hold the columns of a few hundred rows of the log


async def add_to_sums(connection: AsyncConnection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Write rows of `rows_of`."""
    names = ("start", "span", "in_day", "requests", "totals", "users")
    if rows:
        await connection.execute(insert(log_sums), [dict(zip(names, row, strict=True)) for row in rows])


async def forget(connection: AsyncConnection, condition: ColumnElement[bool]) -> None:
    """Take rows out of the sums; to be called before they are deleted, in the same transaction."""
    query = select(*(request_log.c[name] for name in COUNTED)).where(condition)
    columns = list(zip(*(await connection.execute(query)).all(), strict=True))
    await add_to_sums(connection, await asyncio.to_thread(lambda: rows_of(count_rows(columns), -1)))


async def merge(database: Database, *, now: float) -> None:
    """Make one row of an hour's rows, and one of each day that ended an hour ago or earlier (seconds since 1970).

    Each hour and each day is a transaction of its own, and what takes long is done before it: the log's writer has to
    wait for none of it.

    Raises:
        StorageUnavailable: the database cannot take it; what was merged before stays.
    """
    await _merge_hours(database)
    columns = log_sums.c
    last = int(now - HOUR) // DAY * DAY
    day = (columns.start - columns.start % DAY).label("day")
    fresh = (columns.span == HOUR) & columns.in_day.is_(False)
    async with database.read() as connection:
        days = (await connection.execute(select(day).where(fresh, columns.start < last).distinct())).scalars().all()
    for start in days:
        await _merge_day(database, int(start))
    if days:
        await _merge_hours(database)  # of late rows, that are part of their day only now


async def _merge_hours(database: Database) -> None:
    columns = log_sums.c
    hours = select(columns.start, columns.in_day).where(columns.span == HOUR)
    several = hours.group_by(columns.start, columns.in_day).having(func.count() > 1)
    async with database.read() as connection:
        split = (await connection.execute(several)).all()
    for start, in_day in split:
        which = (columns.start == start) & (columns.span == HOUR) & columns.in_day.is_(in_day)
        more = True
        while more:
            rows = await _rows(database, which)
            row = await _merged(rows, start, HOUR, in_day=in_day)
            await _replace(database, rows, row)
            more = len(rows) == _AT_ONCE


async def _merge_day(database: Database, start: int) -> None:
    columns = log_sums.c
    of_day = (columns.start >= start) & (columns.start < start + DAY)
    hours = await _rows(database, of_day & (columns.span == HOUR) & columns.in_day.is_(False))
    before = await _rows(database, of_day & (columns.span == DAY))
    row = await _merged([*before, *hours], start, DAY)
    await _replace(database, before, row, folded=hours)


async def _rows(database: Database, which: ColumnElement[bool]) -> Sequence[Any]:
    columns = log_sums.c
    query = select(columns.id, columns.totals, columns.users).where(which).order_by(columns.id)
    async with database.read() as connection:
        return (await connection.execute(query.limit(_AT_ONCE))).all()


async def _merged(rows: Iterable[Any], start: int, span: int, *, in_day: bool = False) -> tuple[Any, ...] | None:
    """One row for many; None if nothing is left of them.

    Rows of the log are counted here, a slice at a time: another thread would keep the interpreter from every stream for
    milliseconds again and again until all are counted. What is left for one takes as long as there are users.
    """
    waiting, counted = Waiting(), []
    for row in rows:
        if waiting.take(row.totals):
            await asyncio.sleep(0)
        else:
            counted.append((row.totals, row.users))
    return await asyncio.to_thread(_together, waiting, counted, start, span, in_day=in_day)


def _together(
    waiting: Waiting, counted: Iterable[tuple[str, str]], start: int, span: int, *, in_day: bool
) -> tuple[Any, ...] | None:
    sums = read(counted)
    sums.add(waiting.counted())
    return row_of(start, span, sums, in_day=in_day) if sums.user or sums.total else None


class _OvertakenError(Exception):
    """Another process merged the same rows."""


async def _replace(
    database: Database, rows: Sequence[Any], row: tuple[Any, ...] | None, *, folded: Sequence[Any] = ()
) -> None:
    """Put one row in the place of others, if all of them are still there; the lock is held for that alone."""
    ids = log_sums.c.id
    with suppress(_OvertakenError):
        async with database.write() as connection:
            gone = await connection.execute(delete(log_sums).where(ids.in_([one.id for one in rows])))
            fresh = ids.in_([one.id for one in folded]) & log_sums.c.in_day.is_(False)
            marked = await connection.execute(update(log_sums).where(fresh).values(in_day=True))
            if (gone.rowcount, marked.rowcount) != (len(rows), len(folded)):
                raise _OvertakenError
            await add_to_sums(connection, [row] if row else [])
