"""The request log: rows in, rows and figures out.

Belongs here: every statement about `request_log` and `log_drops`.
Does not belong here: when rows are written and what happens when they cannot be (`sinks`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

from sqlalchemy import ColumnElement, Select, case, delete, func, insert, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from ollama_router_core.records import RequestRecord
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.schema import log_drops, request_log

__all__ = ["IS_ERROR", "LogFilter", "LogStats", "Percentiles", "RequestLog", "UsageRow", "select_records"]

_FIELDS = tuple(field.name for field in fields(RequestRecord))
_COLUMNS = tuple(request_log.c[name] for name in _FIELDS)
_values = attrgetter(*_FIELDS)

IS_ERROR: ColumnElement[bool] = or_(request_log.c.status >= 400, request_log.c.error.is_not(None))
"""What counts as an error: the client got one, or something went wrong after its answer had begun."""

_MODEL: ColumnElement[str | None] = func.coalesce(request_log.c.model_served, request_log.c.model_asked)


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


class RequestLog:
    """The request log of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        dialect = sqlite if database.backend == "sqlite" else postgresql
        # A retry after a commit whose answer was lost must not write a row twice.
        self._insert = dialect.insert(request_log).on_conflict_do_nothing(index_elements=["id"])

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
                rows = [dict(zip(_FIELDS, _values(record), strict=True)) for record in records]
                await connection.execute(self._insert, rows)
            if dropped:
                note = {"recorded_at": now, "dropped": dropped}
                await connection.execute(insert(log_drops).values(note))

    async def list(self, chosen: LogFilter, *, limit: int = 50) -> tuple[RequestRecord, ...]:
        """The newest rows first, at most `limit`."""
        async with self._database.read() as connection:
            return await select_records(connection, chosen, limit=limit)

    async def stats(self, chosen: LogFilter) -> LogStats:
        """Figures over all rows of a filter; the rows themselves stay in the database."""
        async with self._database.read() as connection:
            groups = (await connection.execute(_grouped(chosen))).all()
            return LogStats(
                requests=sum(row.requests for row in groups),
                errors=sum(row.errors for row in groups),
                prompt_tokens=sum(row.prompt_tokens for row in groups),
                completion_tokens=sum(row.completion_tokens for row in groups),
                dropped=await _dropped(connection, chosen),
                ttft_ms=await _percentiles(connection, chosen, request_log.c.ttft_ms),
                total_ms=await _percentiles(connection, chosen, request_log.c.total_ms),
                by_user=_sum_by("user", groups),
                by_model=_sum_by("model", groups),
                by_server=_sum_by("server", groups),
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
                result = await connection.execute(delete(request_log).where(columns.seq.in_(oldest)))
            gone += result.rowcount
            if result.rowcount < batch:
                return gone
            await asyncio.sleep(0)


async def select_records(connection: AsyncConnection, chosen: LogFilter, *, limit: int) -> tuple[RequestRecord, ...]:
    """As `RequestLog.list`, within a transaction that is open already."""
    newest = select(*_COLUMNS).order_by(request_log.c.started_at.desc(), request_log.c.seq.desc()).limit(limit)
    rows = (await connection.execute(_narrow(newest, chosen))).all()
    return tuple(RequestRecord(**dict(zip(_FIELDS, row, strict=True))) for row in rows)


def _narrow(query: Select[Any], chosen: LogFilter) -> Select[Any]:
    columns = request_log.c
    if chosen.user is not None:
        query = query.where(columns.user == chosen.user)
    if chosen.model is not None:
        query = query.where(or_(columns.model_asked == chosen.model, columns.model_served == chosen.model))
    if chosen.server is not None:
        query = query.where(columns.server == chosen.server)
    if chosen.errors:
        query = query.where(IS_ERROR)
    if chosen.since is not None:
        query = query.where(columns.started_at >= chosen.since)
    if chosen.before is not None:
        query = query.where(columns.started_at < chosen.before)
    return query


def _grouped(chosen: LogFilter) -> Select[Any]:
    """One pass over the rows for all three lists and the totals."""
    columns = request_log.c
    query = select(
        columns.user,
        _MODEL.label("model"),
        columns.server,
        func.count().label("requests"),
        func.sum(case((IS_ERROR, 1), else_=0)).label("errors"),
        func.coalesce(func.sum(columns.prompt_tokens), 0).label("prompt_tokens"),
        func.coalesce(func.sum(columns.completion_tokens), 0).label("completion_tokens"),
    )
    return _narrow(query, chosen).group_by(columns.user, _MODEL, columns.server)


def _sum_by(key: str, groups: Sequence[Any]) -> tuple[UsageRow, ...]:
    sums: dict[str | None, list[int]] = {}
    for row in groups:
        entry = sums.setdefault(getattr(row, key), [0, 0, 0, 0])
        figures = (row.requests, row.errors, row.prompt_tokens, row.completion_tokens)
        for index, figure in enumerate(figures):
            entry[index] += int(figure)
    rows = [
        UsageRow(name=name, requests=n, errors=e, prompt_tokens=p, completion_tokens=c)
        for name, (n, e, p, c) in sums.items()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.requests, row.name or "")))


async def _percentiles(
    connection: AsyncConnection, chosen: LogFilter, column: ColumnElement[float | None]
) -> Percentiles:
    """Nearest rank: the value at position ceil(p * n) of the sorted ones, counted from 1."""
    present = _narrow(select(column.label("value")).where(column.is_not(None)), chosen)
    count = (await connection.execute(select(func.count()).select_from(present.subquery()))).scalar_one()
    if not count:
        return Percentiles(p50=None, p95=None, p99=None)
    p50, p95, p99 = (-(-count * percent // 100) for percent in (50, 95, 99))
    position = func.row_number().over(order_by=column).label("position")
    ranked = present.add_columns(position).subquery()
    query = select(ranked.c.position, ranked.c.value).where(ranked.c.position.in_({p50, p95, p99}))
    found = {position: float(value) for position, value in await connection.execute(query)}
    return Percentiles(p50=found[p50], p95=found[p95], p99=found[p99])


async def _dropped(connection: AsyncConnection, chosen: LogFilter) -> int:
    query = select(func.coalesce(func.sum(log_drops.c.dropped), 0))
    if chosen.since is not None:
        query = query.where(log_drops.c.recorded_at >= chosen.since)
    if chosen.before is not None:
        query = query.where(log_drops.c.recorded_at < chosen.before)
    return int((await connection.execute(query)).scalar_one())
