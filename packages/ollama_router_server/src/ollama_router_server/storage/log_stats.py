"""Figures over the request log: whole hours and days from the totals, the rest from the rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import get_args

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ollama_router_server.storage.dialect import whole
from ollama_router_server.storage.log_filter import IS_ERROR, LogFilter
from ollama_router_server.storage.log_totals import DAY, FIGURES, HOUR, Dimension, Measure, Usage, band_of
from ollama_router_server.storage.schema import log_drops, log_latencies, log_totals, request_log

__all__ = [
    "HourRow",
    "LogStats",
    "Percentiles",
    "UsageRow",
    "read_history",
    "read_stats",
    "requests_by_user",
    "tokens_by_day",
    "usage_of_user",
]

_NO_END = 2**53
_PERCENTS = (50, 95, 99)
_MEASURED: Mapping[Measure, ColumnElement[float]] = {"ttft": request_log.c.ttft_ms, "total": request_log.c.total_ms}


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
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStats:
    """Figures over the rows of a filter; each list has its busiest first.

    The tokens of `estimated` requests were not all counted by a server. `dropped` rows were never written.
    """

    requests: int
    errors: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    estimated: int
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


UsageByName = Mapping[Dimension, dict[str, Usage]]


async def read_stats(connection: AsyncConnection, chosen: LogFilter, *, few_rows: int) -> LogStats:
    """Figures over all rows of a filter, with exact percentiles unless only totals can tell in time."""
    conditions = chosen.conditions()
    usage = await (_usage_of_totals(connection, chosen) if chosen.only_time else _usage_of_rows(connection, conditions))
    total = Usage()
    for one in usage["server"].values():
        total.add(one)
    if chosen.only_time and total.requests > few_rows:
        bands = await _bands(connection, chosen)
        times = {measure: _percentiles_of_bands(bands[measure]) for measure in _MEASURED}
    else:
        times = await _percentiles_of_rows(connection, conditions)
    return LogStats(
        **asdict(total),
        dropped=await _dropped(connection, chosen),
        ttft_ms=times["ttft"],
        total_ms=times["total"],
        by_user=_busiest_first(usage["user"]),
        by_model=_busiest_first(usage["model"]),
        by_server=_busiest_first(usage["server"]),
    )


async def read_history(connection: AsyncConnection, chosen: LogFilter) -> tuple[HourRow, ...]:
    """Requests by hour, oldest first; the first hour is whole, hours without requests are left out."""
    since = None if chosen.since is None else int(chosen.since // HOUR) * HOUR
    if chosen.only_time and chosen.before is None:
        columns = log_totals.c
        ours = and_(columns.span == HOUR, columns.start >= (since or 0), columns.dimension == "server")
        query = select(columns.start, func.sum(columns.requests)).where(ours).group_by(columns.start)
        rows = (await connection.execute(query.order_by(columns.start))).all()
    else:
        second = whole(connection.dialect.name, request_log.c.started_at)
        hour = (second - second % HOUR).label("hour")
        query = select(hour, func.count()).where(*replace(chosen, since=since).conditions())
        rows = (await connection.execute(query.group_by("hour").order_by("hour"))).all()
    return tuple(HourRow(start=int(start), requests=int(requests)) for start, requests in rows)


async def requests_by_user(connection: AsyncConnection) -> Mapping[str, int]:
    """How many requests each user made, over the whole log."""
    columns = log_totals.c
    query = select(columns.name, func.sum(columns.requests)).where(columns.span == DAY, columns.dimension == "user")
    return {name: int(requests) for name, requests in await connection.execute(query.group_by(columns.name))}


async def usage_of_user(connection: AsyncConnection, user: str) -> tuple[Usage, float | None]:
    """Figures over all of a user's rows, and the mean of their times in milliseconds."""
    conditions = LogFilter(user=user).conditions()
    usage = await _usage_of_rows(connection, conditions)
    mean = select(func.avg(request_log.c.total_ms)).where(*conditions)
    return usage["user"].get(user, Usage()), (await connection.execute(mean)).scalar_one()


async def tokens_by_day(connection: AsyncConnection, user: str, *, since: int) -> dict[int, int]:
    """A user's tokens by the day's start, from a day's start on (seconds since 1970)."""
    columns = request_log.c
    second = whole(connection.dialect.name, columns.started_at)
    day = (second - second % DAY).label("day")
    tokens = func.sum(func.coalesce(columns.prompt_tokens, 0) + func.coalesce(columns.completion_tokens, 0))
    query = select(day, tokens).where(columns.user == user, columns.started_at >= since).group_by("day")
    return {int(start): int(total) for start, total in await connection.execute(query)}


async def _usage_of_rows(connection: AsyncConnection, conditions: Sequence[ColumnElement[bool]]) -> UsageByName:
    columns = request_log.c
    model = func.coalesce(columns.model_served, columns.model_asked).label("model")
    query = (
        select(
            columns.user,
            model,
            columns.server,
            func.count(),
            func.count().filter(IS_ERROR),
            func.coalesce(func.sum(columns.prompt_tokens), 0),
            func.coalesce(func.sum(columns.completion_tokens), 0),
            func.coalesce(func.sum(columns.cached_tokens), 0),
            func.coalesce(func.sum(columns.cache_write_tokens), 0),
            func.coalesce(func.sum(columns.reasoning_tokens), 0),
            func.count().filter(columns.tokens_estimated),
        )
        .where(*conditions)
        .group_by(columns.user, model, columns.server)
    )
    usage = _no_usage()
    for user, model_name, server, *figures in await connection.execute(query):
        one = Usage(*map(int, figures))
        usage["user"][user or ""].add(one)
        usage["model"][model_name or ""].add(one)
        usage["server"][server or ""].add(one)
    return usage


async def _usage_of_totals(connection: AsyncConnection, chosen: LogFilter) -> UsageByName:
    columns = log_totals.c
    figures = (columns[name] for name in FIGURES)
    query = select(columns.dimension, columns.name, *map(func.sum, figures)).where(_whole_spans(chosen))
    usage = _no_usage()
    for dimension, name, *sums in await connection.execute(query.group_by(columns.dimension, columns.name)):
        usage[dimension][name].add(Usage(*map(int, sums)))
    for end in _ends(chosen):
        for dimension, by_name in (await _usage_of_rows(connection, [end])).items():
            for name, one in by_name.items():
                usage[dimension][name].add(one)
    return usage


def _no_usage() -> UsageByName:
    return {dimension: defaultdict(Usage) for dimension in get_args(Dimension)}


async def _bands(connection: AsyncConnection, chosen: LogFilter) -> Mapping[Measure, Counter[int]]:
    """How many requests took how long, by measure and band."""
    columns = log_latencies.c
    first, last = _whole_hours(chosen)
    query = select(columns.measure, columns.least_ms, func.sum(columns.requests))
    query = query.where(columns.start >= first, columns.start < last).group_by(columns.measure, columns.least_ms)
    bands: dict[Measure, Counter[int]] = {measure: Counter() for measure in get_args(Measure)}
    for measure, least, requests in await connection.execute(query):
        bands[measure][least] += int(requests)
    for end in _ends(chosen):
        for measure, column in _MEASURED.items():
            time = whole(connection.dialect.name, column).label("time")
            rows = select(time, func.count()).where(end, column.is_not(None)).group_by("time")
            for milliseconds, requests in await connection.execute(rows):
                bands[measure][band_of(milliseconds)] += requests
    return bands


def _percentiles_of_bands(bands: Mapping[int, int]) -> Percentiles:
    """By nearest rank; each at most 1 ms, from 100 ms on at most 1 in 100, below the true value."""
    total, values = sum(bands.values()), list[float | None]()
    for percent in _PERCENTS:
        rank, so_far = _rank(percent, total), 0
        for least, requests in sorted(bands.items()):
            so_far += requests
            if so_far >= rank:
                values.append(float(least))
                break
    return _percentiles(values or [None] * len(_PERCENTS))


def _percentiles(values: Sequence[float | None]) -> Percentiles:
    return Percentiles(**dict(zip(("p50", "p95", "p99"), values, strict=True)))


def _rank(percent: int, total: int) -> int:
    return -(-total * percent // 100)


async def _percentiles_of_rows(
    connection: AsyncConnection, conditions: Sequence[ColumnElement[bool]]
) -> dict[Measure, Percentiles]:
    """By nearest rank, exactly: rows are ranked by the database, and those of the wanted ranks are read."""
    counts = select(*(func.count(column).label(measure) for measure, column in _MEASURED.items())).where(*conditions)
    totals = (await connection.execute(counts)).one()
    ranks = {
        measure: [_rank(percent, total) for percent in _PERCENTS]
        for measure, total in zip(_MEASURED, totals, strict=True)
    }
    positions = {
        measure: func.row_number().over(order_by=column.asc().nulls_last()).label(f"{measure}_rank")
        for measure, column in _MEASURED.items()
    }
    values = [column.label(measure) for measure, column in _MEASURED.items()]
    ranked = select(*values, *positions.values()).where(*conditions).subquery()
    wanted = or_(*(ranked.c[f"{measure}_rank"].in_(set(ranks[measure])) for measure in ranks))
    rows = (await connection.execute(select(ranked).where(wanted))).mappings().all()
    found = {measure: {row[f"{measure}_rank"]: row[measure] for row in rows} for measure in ranks}
    return {measure: _percentiles([found[measure].get(rank) for rank in ranks[measure]]) for measure in ranks}


async def _dropped(connection: AsyncConnection, chosen: LogFilter) -> int:
    query = select(func.coalesce(func.sum(log_drops.c.dropped), 0))
    if chosen.since is not None:
        query = query.where(log_drops.c.recorded_at >= chosen.since)
    if chosen.before is not None:
        query = query.where(log_drops.c.recorded_at < chosen.before)
    return int((await connection.execute(query)).scalar_one())


def _busiest_first(by_name: Mapping[str, Usage]) -> tuple[UsageRow, ...]:
    rows = (UsageRow(name=name or None, **asdict(usage)) for name, usage in by_name.items())
    return tuple(sorted(rows, key=lambda row: (-row.requests, row.name or "")))


def _whole_hours(chosen: LogFilter) -> tuple[int, int]:
    """Where the first whole hour of a filter begins, and where the last one ends."""
    first = 0 if chosen.since is None else int(-(-chosen.since // HOUR)) * HOUR
    end = _NO_END if chosen.before is None else int(chosen.before // HOUR) * HOUR
    return first, max(first, end)


def _whole_spans(chosen: LogFilter) -> ColumnElement[bool]:
    """The days, and the hours before and after them, that make up the whole hours of a filter."""
    first, end = _whole_hours(chosen)
    first_day = -(-first // DAY) * DAY
    end_day = max(first_day, end // DAY * DAY)
    spans = ((DAY, first_day, end_day), (HOUR, first, min(first_day, end)), (HOUR, end_day, end))
    columns = log_totals.c
    return or_(*(and_(columns.span == span, columns.start >= a, columns.start < b) for span, a, b in spans))


def _ends(chosen: LogFilter) -> list[ColumnElement[bool]]:
    """The rows that no whole hour holds."""
    first, end = _whole_hours(chosen)
    since, before = chosen.since, chosen.before
    if since is not None and before is not None and before <= first:
        return [and_(*chosen.conditions())]
    ends = []
    if since is not None and since < first:
        ends.append(and_(*LogFilter(since=since, before=first).conditions()))
    if before is not None and end < before:
        ends.append(and_(*LogFilter(since=end, before=before).conditions()))
    return ends
