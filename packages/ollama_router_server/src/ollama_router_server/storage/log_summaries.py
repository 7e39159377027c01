"""Sums over the request log by hour (users: six hours) and by day: figures over millions of rows come at once.

Belongs here: every statement about `log_summaries` and `log_progress`.
Does not belong here: rows of the log themselves (`request_log`), when sums are brought up to date (`keeper`).

Rows are counted once, in the order in which they were written: `log_progress.seq` is the last one counted. Whoever
deletes rows calls `forget` in the same transaction, so the sums are always those of the counted rows that are there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import cache
from operator import add
from typing import Any

from sqlalchemy import ColumnElement, case, delete, func, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ollama_router_server.storage.database import Database
from ollama_router_server.storage.dialect import driver_sql, insert_into, whole
from ollama_router_server.storage.schema import log_progress, log_summaries, request_log

__all__ = [
    "DAY",
    "HOUR",
    "IS_ERROR",
    "MODEL",
    "WRITER_LOCK",
    "band_of",
    "catch_up",
    "counted_to",
    "fine_span",
    "forget",
    "step_back",
    "uncounted",
]

HOUR = 3_600
QUARTER = 6 * HOUR
DAY = 86_400

_LONGEST_BAND = 10**7  # ms; nearly three hours and everything beyond

WRITER_LOCK = text(f"SELECT pg_advisory_xact_lock_shared({0x6F726C67})")
"""What a transaction on PostgreSQL takes before it writes rows: numbers of rows are given before they are seen."""

_SUMS = ("requests", "errors", "prompt_tokens", "completion_tokens")
_COUNTER_LOCK = text(f"SELECT pg_advisory_xact_lock({0x6F726C67})")

IS_ERROR: ColumnElement[bool] = or_(request_log.c.status >= 400, request_log.c.error.is_not(None))
"""What counts as an error: the client got one, or something went wrong after its answer had begun."""

MODEL: ColumnElement[str | None] = func.coalesce(request_log.c.model_served, request_log.c.model_asked)
"""What a row is listed under."""


def fine_span(kind: str) -> int:
    """Seconds of the shorter of a kind's two spans: thousands of users by the hour would be as many sums as rows."""
    return QUARTER if kind == "user" else HOUR


def band_of(backend: str, milliseconds: ColumnElement[Any]) -> ColumnElement[int]:
    """The least value of the band that a time falls into: a millisecond wide, from 100 ms on at most a hundredth."""
    ms = whole(backend, milliseconds)
    bands = [(ms < 1_000 * 10**power, ms - ms % 10**power if power else ms) for power in range(5)]
    return case(*bands, else_=_LONGEST_BAND)


async def counted_to(connection: AsyncConnection) -> int:
    """The number of the last row that is part of the sums."""
    return int((await connection.execute(select(log_progress.c.seq))).scalar_one())


async def uncounted(connection: AsyncConnection) -> int:
    """How many rows were written since the sums were brought up to date."""
    later = select(func.count()).where(request_log.c.seq > await counted_to(connection))
    return int((await connection.execute(later)).scalar_one())


async def catch_up(database: Database, *, batch: int = 5_000) -> int:
    """Count the rows that were written since; returns how many.

    Each batch is a transaction of its own, so that the log's writer gets its turn between them.

    Raises:
        StorageUnavailable: the database cannot take it; what was counted before stays.
    """
    total = 0
    while counted := await _count_batch(database, batch):
        total += counted
        if counted < batch:
            break
        await asyncio.sleep(0)
    return total


async def _count_batch(database: Database, batch: int) -> int:
    columns = request_log.c
    async with database.write() as connection:
        if database.backend == "postgresql":
            await connection.execute(_COUNTER_LOCK)
        done = await counted_to(connection)
        some = select(columns.seq).where(columns.seq > done).order_by(columns.seq).limit(batch).subquery()
        upto, rows = (await connection.execute(select(func.max(some.c.seq), func.count()).select_from(some))).one()
        if rows:
            await _add(connection, database.backend, (columns.seq > done) & (columns.seq <= upto), sign=1)
            await connection.execute(update(log_progress).values(seq=upto))
    return int(rows)


async def forget(connection: AsyncConnection, backend: str, condition: ColumnElement[bool]) -> None:
    """Take rows out of the sums; to be called before they are deleted, in the same transaction."""
    columns, sums = request_log.c, log_summaries.c
    await _add(connection, backend, condition & (columns.seq <= await counted_to(connection)), sign=-1)
    await connection.execute(delete(log_summaries).where(sums.requests <= 0))


async def step_back(connection: AsyncConnection, backend: str) -> None:
    """After a deletion: SQLite gives the numbers of deleted rows at the end to new ones, which count anew."""
    if backend == "sqlite":
        last = (await connection.execute(select(func.coalesce(func.max(request_log.c.seq), 0)))).scalar_one()
        await connection.execute(update(log_progress).where(log_progress.c.seq > last).values(seq=last))


async def _add(connection: AsyncConnection, backend: str, condition: ColumnElement[bool], *, sign: int) -> None:
    """Add rows to the sums, or take them out.

    One pass in Python, off the event loop, takes a third of what a GROUP BY for each kind and span takes in SQL.
    """
    rows = (await connection.execute(_rows_to_add(condition))).all()
    additions = await asyncio.to_thread(_additions, rows, sign)
    if additions:
        await connection.exec_driver_sql(_upsert(backend), additions)


def _rows_to_add(condition: ColumnElement[bool]) -> Any:
    columns = request_log.c
    return select(
        columns.started_at,
        func.coalesce(columns.user, ""),
        func.coalesce(MODEL, ""),
        func.coalesce(columns.server, ""),
        case((IS_ERROR, 1), else_=0),
        func.coalesce(columns.prompt_tokens, 0),
        func.coalesce(columns.completion_tokens, 0),
        columns.total_ms,
        columns.ttft_ms,
    ).where(condition)


def _additions(rows: Sequence[Any], sign: int) -> list[tuple[Any, ...]]:
    """What rows add to the sums of every kind and span."""
    fine: dict[tuple[str, int, str], list[int]] = {}
    for started_at, user, model, server, error, prompt, completion, total_ms, ttft_ms in rows:
        second = int(started_at)
        hour = second - second % HOUR
        names = [("user", second - second % QUARTER, user), ("model", hour, model), ("server", hour, server)]
        names.append(("total", hour, str(_band(total_ms))))
        if ttft_ms is not None:
            names.append(("ttft", hour, str(_band(ttft_ms))))
        for key in names:
            sums = fine.get(key)
            if sums is None:
                sums = fine[key] = [0, 0, 0, 0]
            sums[0] += 1
            sums[1] += error
            sums[2] += prompt
            sums[3] += completion
    return _with_days(fine, sign)


def _with_days(fine: Mapping[tuple[str, int, str], Sequence[int]], sign: int) -> list[tuple[Any, ...]]:
    days: dict[tuple[str, int, str], list[int]] = {}
    for (kind, start, name), sums in fine.items():
        of_day = days.setdefault((kind, start - start % DAY, name), [0, 0, 0, 0])
        of_day[:] = map(add, of_day, sums)
    spans = [(fine_span(key[0]), key, sums) for key, sums in fine.items()]
    spans += [(DAY, key, sums) for key, sums in days.items()]
    return [(kind, span, start, name, *(sign * value for value in sums)) for span, (kind, start, name), sums in spans]


def _band(milliseconds: float) -> int:
    """As `band_of`, for one time."""
    whole_ms = int(milliseconds)
    if whole_ms < 1_000:
        return whole_ms
    if whole_ms >= _LONGEST_BAND:
        return _LONGEST_BAND
    step: int = 10 ** (len(str(whole_ms)) - 3)
    return whole_ms - whole_ms % step


@cache
def _upsert(backend: str) -> str:
    """The driver's own SQL: SQLAlchemy's binding would take longer than the rest."""
    insert = insert_into(backend, log_summaries)
    added = {label: log_summaries.c[label] + insert.excluded[label] for label in _SUMS}
    statement = insert.on_conflict_do_update(index_elements=["kind", "span", "start", "name"], set_=added)
    return driver_sql(backend, statement, tuple(column.name for column in log_summaries.c))
