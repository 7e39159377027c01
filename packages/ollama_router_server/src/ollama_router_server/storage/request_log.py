"""The request log: rows in, rows and figures out.

Belongs here: every statement about `request_log` and `log_drops`.
Does not belong here: when rows are written and what happens when they cannot be (`sinks`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Select, and_, case, cast, delete, func, insert, or_, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from ollama_router_core.records import RequestRecord
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.dialect import driver_sql, insert_into
from ollama_router_server.storage.log_stats import Figures, figures_of, hours_of, percentile_of_bands, requests_in
from ollama_router_server.storage.log_summaries import (
    HOUR,
    IS_ERROR,
    MODEL,
    WRITER_LOCK,
    catch_up,
    forget,
    step_back,
    uncounted,
)
from ollama_router_server.storage.schema import log_drops, request_log

__all__ = [
    "IS_ERROR",
    "HourRow",
    "LogFilter",
    "LogStats",
    "Percentiles",
    "RequestLog",
    "UsageRow",
    "delete_rows",
    "select_records",
]

_FIELDS = tuple(field.name for field in fields(RequestRecord))
_COLUMNS = tuple(request_log.c[name] for name in _FIELDS)
_values = attrgetter(*_FIELDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilter:
    """Which rows; None leaves a field open. `since` and `before` are seconds since 1970 (UTC).

    `model` is compared with the model asked for and with the one served.
    """

    user: str | None = None
    model: str | None = None
    server: str | None = None
    errors: bool = False
    since: float | None = None
    before: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Milliseconds that 50, 95 and 99 of 100 requests stay within (nearest rank); None without requests."""

    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """Sums over the requests of one user, model or server; `name` is None where the log has none."""

    name: str | None
    requests: int
    errors: int
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStats:
    """Figures over the rows of a filter; each list has its busiest first. `dropped` rows were never written."""

    requests: int
    errors: int
    prompt_tokens: int
    completion_tokens: int
    dropped: int
    ttft_ms: Percentiles
    total_ms: Percentiles
    by_user: tuple[UsageRow, ...]
    by_model: tuple[UsageRow, ...]
    by_server: tuple[UsageRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HourRow:
    """Requests that began within one hour; `start` is seconds since 1970."""

    start: int
    requests: int


class RequestLog:
    """The request log of one database.

    Args:
        database: where it is kept.
        few_rows: so many rows are counted one by one, for exact percentiles.
    """

    def __init__(self, database: Database, *, few_rows: int = 100_000) -> None:
        self._database = database
        self._few_rows = few_rows
        self._insert = _insert_statement(database.backend)

    async def insert(self, records: Sequence[RequestRecord], *, dropped: int = 0, now: float = 0.0) -> None:
        """Write all rows or none.

        Args:
            records: a row with a known id is left out.
            dropped: rows that were lost since the last call; noted in the same transaction.
            now: seconds since 1970, for that note.

        Raises:
            StorageUnavailable: the database cannot take them now.
            DBAPIError, UnicodeError: a value that the database never takes.
        """
        async with self._database.write() as connection:
            if records:
                if self._database.backend == "postgresql":
                    await connection.execute(WRITER_LOCK)
                await connection.exec_driver_sql(self._insert, [_values(record) for record in records])
            if dropped:
                note = {"recorded_at": now, "dropped": dropped}
                await connection.execute(insert(log_drops).values(note))

    async def list(self, chosen: LogFilter, *, limit: int = 50) -> tuple[RequestRecord, ...]:
        """The newest rows first, at most `limit`."""
        async with self._database.read() as connection:
            return await select_records(connection, chosen, limit=limit)

    async def stats(self, chosen: LogFilter) -> LogStats:
        """Figures over all rows of a filter; the rows themselves stay in the database.

        Over more rows than can be counted at once the percentiles are those of bands: at most 1 ms, from 100 ms on
        at most 1 in 100, below the true value. That needs a filter by time alone.
        """
        async with self._database.read() as connection:
            only_time = replace(chosen, since=None, before=None) == LogFilter()
            if only_time and await requests_in(connection, chosen.since, chosen.before) > self._few_rows:
                figures = await figures_of(connection, self._database.backend, chosen.since, chosen.before)
                return _from_figures(figures, await _dropped(connection, chosen))
            return await self._exact(connection, chosen)

    async def history(self, chosen: LogFilter) -> tuple[HourRow, ...]:
        """Requests by hour, oldest first; the first hour is whole, hours without requests are left out."""
        floor = None if chosen.since is None else chosen.since // HOUR * HOUR
        span = replace(chosen, since=floor)
        async with self._database.read() as connection:
            only_time = replace(chosen, since=None, before=None) == LogFilter()
            condition = and_(true(), *_conditions(span))
            hours = await hours_of(
                connection, self._database.backend, condition, by_sums=only_time and chosen.before is None, since=floor
            )
        return tuple(HourRow(start=start, requests=hours[start]) for start in sorted(hours))

    async def uncounted(self) -> int:
        """How many rows were written since the sums were brought up to date."""
        async with self._database.read() as connection:
            return await uncounted(connection)

    async def catch_up(self) -> int:
        """Bring the sums that `stats` reads up to date; returns how many rows were new.

        Raises:
            StorageUnavailable: the database cannot take them now.
        """
        return await catch_up(self._database)

    async def _exact(self, connection: AsyncConnection, chosen: LogFilter) -> LogStats:
        columns = request_log.c
        requests, errors, prompt, completion = (await connection.execute(_totals(chosen))).one()
        return LogStats(
            requests=requests,
            errors=int(errors),
            prompt_tokens=int(prompt),
            completion_tokens=int(completion),
            dropped=await _dropped(connection, chosen),
            ttft_ms=await _percentiles(connection, chosen, columns.ttft_ms),
            total_ms=await _percentiles(connection, chosen, columns.total_ms),
            by_user=await _usage_by(connection, chosen, columns.user),
            by_model=await _usage_by(connection, chosen, MODEL),
            by_server=await _usage_by(connection, chosen, columns.server),
        )

    async def cleanup(self, *, before: float, batch: int = 2_000) -> int:
        """Delete rows older than `before` (seconds since 1970); returns how many.

        Each batch is a transaction of its own, so that the log's writer gets its turn between them.
        """
        gone = 0
        columns = request_log.c
        oldest = select(columns.seq).where(columns.started_at < before).order_by(columns.started_at).limit(batch)
        while True:
            async with self._database.write() as connection:
                seqs = (await connection.execute(oldest)).scalars().all()
                await delete_rows(connection, self._database.backend, columns.seq.in_(seqs))
            gone += len(seqs)
            if len(seqs) < batch:
                return gone
            await asyncio.sleep(0)

    async def start_of_newest(self, count: int) -> float | None:
        """When the oldest of the newest `count` rows began; None if there are no more than that."""
        columns = request_log.c
        newest = select(columns.started_at).order_by(columns.started_at.desc(), columns.seq.desc())
        async with self._database.read() as connection:
            moments = (await connection.execute(newest.offset(max(0, count - 1)).limit(2))).scalars().all()
        return moments[0] if len(moments) > 1 else None

    async def newer_than(
        self, seq: int, chosen: LogFilter, *, limit: int = 1_000
    ) -> tuple[int, tuple[RequestRecord, ...]]:
        """Rows written after the row with this number, in that order, and the number to ask with next."""
        columns = request_log.c
        query = select(columns.seq, *_COLUMNS).where(columns.seq > seq, *_conditions(chosen))
        async with self._database.read() as connection:
            rows = (await connection.execute(query.order_by(columns.seq).limit(limit))).all()
        records = tuple(RequestRecord(**dict(zip(_FIELDS, row[1:], strict=True))) for row in rows)
        return (rows[-1].seq if rows else seq), records

    async def last_number(self) -> int:
        """The number of the row written last, 0 if there is none."""
        async with self._database.read() as connection:
            return int((await connection.execute(select(func.coalesce(func.max(request_log.c.seq), 0)))).scalar_one())


async def delete_rows(connection: AsyncConnection, backend: str, condition: ColumnElement[bool]) -> int:
    """Delete rows with what they added to the sums; returns how many."""
    await forget(connection, backend, condition)
    result = await connection.execute(delete(request_log).where(condition))
    await step_back(connection, backend)
    return result.rowcount


def _insert_statement(backend: str) -> str:
    """A retry after a commit whose answer was lost must not write a row twice, hence ON CONFLICT."""
    statement = insert_into(backend, request_log).on_conflict_do_nothing(index_elements=["id"])
    return driver_sql(backend, statement, _FIELDS)


async def select_records(connection: AsyncConnection, chosen: LogFilter, *, limit: int) -> tuple[RequestRecord, ...]:
    """As `RequestLog.list`, within a transaction that is open already."""
    newest = select(*_COLUMNS).order_by(request_log.c.started_at.desc(), request_log.c.seq.desc()).limit(limit)
    rows = (await connection.execute(newest.where(*_conditions(chosen)))).all()
    return tuple(RequestRecord(**dict(zip(_FIELDS, row, strict=True))) for row in rows)


def _from_figures(figures: Figures, dropped: int) -> LogStats:
    servers = figures.by_kind["server"].values()
    requests, errors, prompt, completion = (sum(sums[place] for sums in servers) for place in range(4))
    return LogStats(
        requests=requests,
        errors=errors,
        prompt_tokens=prompt,
        completion_tokens=completion,
        dropped=dropped,
        ttft_ms=_percentiles_of(figures.bands("ttft")),
        total_ms=_percentiles_of(figures.bands("total")),
        by_user=_usage_of(figures.by_kind["user"]),
        by_model=_usage_of(figures.by_kind["model"]),
        by_server=_usage_of(figures.by_kind["server"]),
    )


def _percentiles_of(bands: Sequence[tuple[int, int]]) -> Percentiles:
    return Percentiles(**{f"p{percent}": percentile_of_bands(bands, percent) for percent in (50, 95, 99)})


def _usage_of(by_name: Mapping[str, Sequence[int]]) -> tuple[UsageRow, ...]:
    rows = (
        UsageRow(name=name or None, requests=sums[0], errors=sums[1], prompt_tokens=sums[2], completion_tokens=sums[3])
        for name, sums in by_name.items()
    )
    return tuple(sorted(rows, key=lambda row: (-row.requests, row.name or "")))


def _conditions(chosen: LogFilter) -> list[ColumnElement[bool]]:
    columns = request_log.c
    conditions: list[ColumnElement[bool]] = []
    if chosen.user is not None:
        conditions.append(columns.user == chosen.user)
    if chosen.model is not None:
        conditions.append(or_(columns.model_asked == chosen.model, columns.model_served == chosen.model))
    if chosen.server is not None:
        conditions.append(columns.server == chosen.server)
    if chosen.errors:
        conditions.append(IS_ERROR)
    if chosen.since is not None:
        conditions.append(columns.started_at >= chosen.since)
    if chosen.before is not None:
        conditions.append(columns.started_at < chosen.before)
    return conditions


def _totals(chosen: LogFilter, *keys: ColumnElement[Any]) -> Select[Any]:
    columns = request_log.c
    query = select(
        *keys,
        func.count(),
        func.coalesce(func.sum(case((IS_ERROR, 1), else_=0)), 0),
        func.coalesce(func.sum(columns.prompt_tokens), 0),
        func.coalesce(func.sum(columns.completion_tokens), 0),
    )
    return query.where(*_conditions(chosen))


async def _usage_by(
    connection: AsyncConnection, chosen: LogFilter, key: ColumnElement[str | None]
) -> tuple[UsageRow, ...]:
    rows = await connection.execute(_totals(chosen, key).group_by(key))
    usage = [
        UsageRow(
            name=name,
            requests=requests,
            errors=int(errors),
            prompt_tokens=int(prompt),
            completion_tokens=int(completion),
        )
        for name, requests, errors, prompt, completion in rows
    ]
    return tuple(sorted(usage, key=lambda row: (-row.requests, row.name or "")))


async def _percentiles(connection: AsyncConnection, chosen: LogFilter, column: ColumnElement[Any]) -> Percentiles:
    """Nearest rank: the value at position ceil(p * n) of the sorted ones, counted from 1.

    Sorting millions of rows takes many times as long as counting them by whole milliseconds; after that only
    the rows of the three milliseconds that hold the ranks need sorting.
    """
    bucket = cast(column, BigInteger)
    present = [*_conditions(chosen), column.is_not(None)]
    counting = select(bucket, func.count()).where(*present).group_by(bucket)
    counts = sorted((int(key), int(count)) for key, count in await connection.execute(counting))
    total = sum(count for _, count in counts)
    if not total:
        return Percentiles(p50=None, p95=None, p99=None)
    places = [_place(counts, -(-total * percent // 100)) for percent in (50, 95, 99)]
    holding = {key for key, _ in places}
    query = select(bucket, column).where(*present, bucket.in_(holding)).order_by(column)
    values: dict[int, list[float]] = {key: [] for key in holding}
    for key, value in await connection.execute(query):
        values[int(key)].append(float(value))
    p50, p95, p99 = (values[key][offset] for key, offset in places)
    return Percentiles(p50=p50, p95=p95, p99=p99)


def _place(counts: Sequence[tuple[int, int]], rank: int) -> tuple[int, int]:
    """Which bucket holds the value of this rank (from 1), and how many of the bucket's values come before it."""
    before = 0
    for key, count in counts:
        if before + count >= rank:
            return key, rank - before - 1
        before += count
    raise ValueError("a rank cannot exceed the number of values")


async def _dropped(connection: AsyncConnection, chosen: LogFilter) -> int:
    query = select(func.coalesce(func.sum(log_drops.c.dropped), 0))
    if chosen.since is not None:
        query = query.where(log_drops.c.recorded_at >= chosen.since)
    if chosen.before is not None:
        query = query.where(log_drops.c.recorded_at < chosen.before)
    return int((await connection.execute(query)).scalar_one())
