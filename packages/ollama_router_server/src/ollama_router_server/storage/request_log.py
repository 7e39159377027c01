"""The request log: rows in, rows and figures out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from ollama_router_core.errors import StorageUnavailable
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.log_figures import HOUR, Sums
from ollama_router_server.storage.log_packing import FIELDS
from ollama_router_server.storage.log_stats import (
    hours_of,
    hours_with_user,
    percentile_of_bands,
    requests_in,
    sums_in,
    sums_of_rows,
)
from ollama_router_server.storage.log_sums import forget, merge
from ollama_router_server.storage.log_writing import write_batch
from ollama_router_server.storage.schema import log_drops, request_log

__all__ = [
    "IS_ERROR",
    "HourRow",
    "LogFilter",
    "LogStats",
    "Percentiles",
    "RequestLog",
    "UsageRow",
    "delete_rows_of_user",
    "select_records",
    "sums_of_user",
]

IS_ERROR: ColumnElement[bool] = or_(request_log.c.status >= 400, request_log.c.error.is_not(None))
"""What counts as an error: the client got one, or something went wrong after its answer had begun."""

_COLUMNS = tuple(request_log.c[name] for name in FIELDS)
_LATELY = 100_000  # rows that others may have written while one batch was tried again


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
        self._in_doubt = False

    async def insert(self, records: Sequence[RequestRecord], *, dropped: int = 0, now: float = 0.0) -> None:
        """Write all rows or none, with what they add to the sums.

        Args:
            records: the rows. After a failure, rows that were written all the same (the commit's answer was lost)
                are left out.
            dropped: rows that were lost since the last call; noted in the same transaction.
            now: seconds since 1970, for that note.

        Raises:
            StorageUnavailable: the database cannot take them now.
            DBAPIError, sqlite3.Error, OverflowError, UnicodeError: a value that the database never takes.
        """
        if self._in_doubt:
            there = await self._ids_written_lately()
            records = [record for record in records if record.id not in there]
        try:
            await write_batch(self._database, records, dropped=dropped, now=now)
        except StorageUnavailable:
            self._in_doubt = True
            raise
        self._in_doubt = False

    async def _ids_written_lately(self) -> set[str]:
        columns = request_log.c
        async with self._database.read() as connection:
            last = (await connection.execute(select(func.coalesce(func.max(columns.seq), 0)))).scalar_one()
            rows = await connection.execute(select(columns.id).where(columns.seq > last - _LATELY))
            return set(rows.scalars())

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
                sums = await sums_in(connection, chosen.since, chosen.before)
                totals, ttfts = _of_bands(sums.total), _of_bands(sums.ttft)
            else:
                times: list[list[float]] = [[], []]
                sums = await _sums_of(connection, chosen, times)
                totals, ttfts = [await asyncio.to_thread(_of_values, values) for values in times]
            return _stats_of(sums, totals, ttfts, await _dropped(connection, chosen))

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

    async def merge(self, *, now: float) -> None:
        """Make fewer rows of the sums that `stats` reads; `now` is seconds since 1970.

        Raises:
            StorageUnavailable: the database cannot take it now.
        """
        await merge(self._database, now=now)

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
                await _delete_rows(connection, columns.seq.in_(seqs))
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
        records = tuple(_record(row[1:]) for row in rows)
        return (rows[-1].seq if rows else seq), records

    async def last_number(self) -> int:
        """The number of the row written last, 0 if there is none."""
        async with self._database.read() as connection:
            return int((await connection.execute(select(func.coalesce(func.max(request_log.c.seq), 0)))).scalar_one())


async def delete_rows_of_user(connection: AsyncConnection, user: str) -> int:
    """Delete a user's rows with what they added to the sums; returns how many."""
    gone = 0
    for span in await _spans(connection, LogFilter(user=user)):
        gone += await _delete_rows(connection, and_(*_conditions(span)))
    return gone


async def _delete_rows(connection: AsyncConnection, condition: ColumnElement[bool]) -> int:
    await forget(connection, condition)
    return (await connection.execute(delete(request_log).where(condition))).rowcount


async def sums_of_user(connection: AsyncConnection, user: str) -> tuple[Sums, float | None]:
    """Figures over all of a user's rows, and the mean of their times in milliseconds."""
    times: list[list[float]] = [[], []]
    sums = await _sums_of(connection, LogFilter(user=user), times)
    return sums, sum(times[0]) / len(times[0]) if times[0] else None


async def select_records(connection: AsyncConnection, chosen: LogFilter, *, limit: int) -> tuple[RequestRecord, ...]:
    """As `RequestLog.list`, within a transaction that is open already."""
    columns = request_log.c
    newest = select(*_COLUMNS).order_by(columns.started_at.desc(), columns.seq.desc())
    found: list[RequestRecord] = []
    for span in reversed(await _spans(connection, chosen)):
        rows = await connection.execute(newest.where(*_conditions(span)).limit(limit - len(found)))
        found += [_record(row) for row in rows]
        if len(found) >= limit:
            break
    return tuple(found)


def _record(row: Sequence[Any]) -> RequestRecord:
    return RequestRecord(**dict(zip(FIELDS, row, strict=True)))


async def _sums_of(connection: AsyncConnection, chosen: LogFilter, times: list[list[float]]) -> Sums:
    sums = Sums()
    for span in await _spans(connection, chosen):
        sums.add(await sums_of_rows(connection, _conditions(span), times))
    return sums


async def _spans(connection: AsyncConnection, chosen: LogFilter) -> list[LogFilter]:
    """A filter cut into spans of time, oldest first: a user's rows are only where the sums know of the user."""
    if chosen.user is None:
        return [chosen]
    hours = await hours_with_user(connection, chosen.user)
    since, before = chosen.since or 0, float("inf") if chosen.before is None else chosen.before
    spans = ((max(since, start), min(before, end)) for start, end in _runs(hours))
    return [replace(chosen, since=start, before=end) for start, end in spans if start < end]


def _runs(hours: Iterable[int]) -> Iterable[tuple[int, int]]:
    """Hours that follow each other, as spans."""
    first = last = None
    for hour in hours:
        if first is not None and last is not None and hour != last + HOUR:
            yield first, last + HOUR
            first = None
        first, last = hour if first is None else first, hour
    if first is not None and last is not None:
        yield first, last + HOUR


def _stats_of(sums: Sums, totals: Percentiles, ttfts: Percentiles, dropped: int) -> LogStats:
    servers = sums.server.values()
    requests, errors, prompt, completion = (sum(figures[place] for figures in servers) for place in range(4))
    return LogStats(
        requests=requests,
        errors=errors,
        prompt_tokens=prompt,
        completion_tokens=completion,
        dropped=dropped,
        ttft_ms=ttfts,
        total_ms=totals,
        by_user=_usage_of(sums.user),
        by_model=_usage_of(sums.model),
        by_server=_usage_of(sums.server),
    )


def _of_bands(bands: Mapping[int, int]) -> Percentiles:
    return Percentiles(**{f"p{percent}": percentile_of_bands(bands, percent) for percent in (50, 95, 99)})


def _of_values(values: list[float]) -> Percentiles:
    """Nearest rank: the value at position ceil(p * n) of the sorted ones, counted from 1."""
    values.sort()
    ranks = {f"p{percent}": -(-len(values) * percent // 100) for percent in (50, 95, 99)}
    return Percentiles(**{name: values[rank - 1] if values else None for name, rank in ranks.items()})


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
        conditions.append((columns.model_asked == chosen.model) | (columns.model_served == chosen.model))
    if chosen.server is not None:
        conditions.append(columns.server == chosen.server)
    if chosen.errors:
        conditions.append(IS_ERROR)
    if chosen.since is not None:
        conditions.append(columns.started_at >= chosen.since)
    if chosen.before is not None:
        conditions.append(columns.started_at < chosen.before)
    return conditions


async def _dropped(connection: AsyncConnection, chosen: LogFilter) -> int:
    query = select(func.coalesce(func.sum(log_drops.c.dropped), 0))
    if chosen.since is not None:
        query = query.where(log_drops.c.recorded_at >= chosen.since)
    if chosen.before is not None:
        query = query.where(log_drops.c.recorded_at < chosen.before)
    return int((await connection.execute(query)).scalar_one())
