"""Figures over the request log: whole hours and days from the totals, the rest from the rows."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import get_args

from sqlalchemy import (
    ColumnElement,
    Double,
    Executable,
    and_,
    case,
    cast,
    func,
    literal,
    null,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.engine import Connection

from ollama_router_server.storage.dialect import give_room, whole
from ollama_router_server.storage.log_filter import LogFilter
from ollama_router_server.storage.log_totals import DAY, FIGURES, HOUR, Dimension, Measure, band, rows_where, sums_of
from ollama_router_server.storage.schema import log_drops, log_latencies, log_totals, request_log

__all__ = [
    "HourRow",
    "LogStats",
    "Percentiles",
    "Usage",
    "UsageRow",
    "read_history",
    "read_stats",
    "requests_by_user",
    "tokens_by_day",
    "usage_of_user",
]

_NO_END = 2**53

_UsageByName = Mapping[Dimension, defaultdict[str, Counter[str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Milliseconds that 50, 95 and 99 of 100 requests stay within (nearest rank); None without requests."""

    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What requests add up to; the tokens of `estimated` of them were not all counted by a server."""

    requests: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow(Usage):
    """Sums over the requests of one user, model or server; `name` is None where the log has none."""

    name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStats(Usage):
    """Figures over the rows of a filter; each list has its busiest first. `dropped` rows were never written."""

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


def read_stats(connection: Connection, chosen: LogFilter, *, few_rows: int) -> LogStats:
    """Figures over all rows of a filter, with exact percentiles unless there are more than `few_rows`."""
    give_room(connection)
    if chosen.only_time:
        usage = _usage(connection, chosen)
        total = sum(usage["server"].values(), Counter())
        times = _times(connection, chosen, exact=total["requests"] <= few_rows)
    else:
        usage, times = _all_of_rows(connection, _condition(chosen), few_rows=few_rows)
        total = sum(usage["server"].values(), Counter())
    return LogStats(
        **total,
        dropped=_dropped(connection, chosen),
        ttft_ms=_percentiles(times["ttft"]),
        total_ms=_percentiles(times["total"]),
        by_user=_busiest_first(usage["user"]),
        by_model=_busiest_first(usage["model"]),
        by_server=_busiest_first(usage["server"]),
    )


def read_history(connection: Connection, chosen: LogFilter) -> tuple[HourRow, ...]:
    """Requests by hour, oldest first; the first hour is whole, hours without requests are left out."""
    since = None if chosen.since is None else int(chosen.since // HOUR) * HOUR
    if chosen.only_time and chosen.before is None:
        columns = log_totals.c
        ours = and_(columns.span == HOUR, columns.start >= (since or 0), columns.dimension == "server")
        query = select(columns.start.label("hour"), func.sum(columns.requests)).where(ours)
    else:
        second = whole(connection.dialect.name, request_log.c.started_at)
        hour = (second - second % HOUR).label("hour")
        query = select(hour, func.count()).where(*replace(chosen, since=since).conditions())
    rows = connection.execute(query.group_by("hour").order_by("hour"))
    return tuple(HourRow(start=int(start), requests=int(requests)) for start, requests in rows if requests)


def requests_by_user(connection: Connection, names: Sequence[str] | None = None) -> Mapping[str, int]:
    """How many requests each user made, or some did, over the whole log."""
    columns = log_totals.c
    query = select(columns.name, func.sum(columns.requests)).where(columns.span == DAY, columns.dimension == "user")
    if names is not None:  # by day and name, as the key has them: else all users' rows of all days are read
        days = connection.execute(
            select(func.min(columns.start), func.max(columns.start)).where(columns.span == DAY)
        ).one()
        starts = [] if days[0] is None else list(range(days[0], days[1] + DAY, DAY))
        query = query.where(columns.start.in_(starts), columns.name.in_(names))
    return {name: int(requests) for name, requests in connection.execute(query.group_by(columns.name))}


def usage_of_user(connection: Connection, user: str) -> tuple[UsageRow, float | None]:
    """Figures over all of a user's rows, and the mean of their times in milliseconds."""
    chosen = LogFilter(user=user)
    usage, _ = _all_of_rows(connection, _condition(chosen), few_rows=0)
    sums = usage["user"][user]
    mean = select(func.avg(request_log.c.total_ms)).where(*chosen.conditions())
    return UsageRow(name=user, **sums), connection.execute(mean).scalar_one()


def tokens_by_day(connection: Connection, user: str, *, since: int) -> dict[int, int]:
    """A user's tokens by the day's start, from a day's start on (seconds since 1970)."""
    columns = request_log.c
    second = whole(connection.dialect.name, columns.started_at)
    day = (second - second % DAY).label("day")
    tokens = func.sum(func.coalesce(columns.prompt_tokens, 0) + func.coalesce(columns.completion_tokens, 0))
    query = select(day, tokens).where(columns.user == user, columns.started_at >= since).group_by("day")
    return {int(start): int(total) for start, total in connection.execute(query)}


def _no_usage() -> _UsageByName:
    return {dimension: defaultdict(Counter) for dimension in get_args(Dimension)}


def _all_of_rows(
    connection: Connection, condition: ColumnElement[bool], *, few_rows: int
) -> tuple[_UsageByName, Mapping[Measure, Counter[float]]]:
    """Usage and times of rows that one statement chooses once: to look at millions of them is what takes long."""
    rows = rows_where(condition)
    exact = select(func.count()).select_from(rows).scalar_subquery() <= few_rows
    nothing = [literal(0) for _ in FIGURES[1:]]
    parts = [
        select(literal(one).label("kind"), rows.c[one], *sums_of(rows), cast(null(), Double)).group_by(rows.c[one])
        for one in get_args(Dimension)
    ]
    for measure in get_args(Measure):
        time = rows.c[measure]
        shown = case((exact, time), else_=cast(band(connection.dialect.name, time), Double)).label("ms")
        counted = select(literal(measure).label("kind"), literal(""), func.count(), *nothing, shown)
        parts.append(counted.where(time.is_not(None)).group_by("ms"))
    usage, times = _no_usage(), {measure: Counter[float]() for measure in get_args(Measure)}
    for kind, name, *figures, milliseconds in connection.execute(union_all(*parts)):
        if kind in usage:
            usage[kind][name].update(dict(zip(FIGURES, map(int, figures), strict=True)))
        else:
            times[kind][float(milliseconds)] += int(figures[0])
    return usage, times


def _usage(connection: Connection, chosen: LogFilter) -> _UsageByName:
    columns = log_totals.c
    sums = [func.sum(columns[name]) for name in FIGURES]
    totals = select(columns.dimension, columns.name, *sums).group_by(columns.dimension, columns.name)
    usage = _no_usage()
    for query in _queries(chosen, totals.where(_whole_spans(chosen)), _usage_of_rows):
        for dimension, name, *more in connection.execute(query):
            usage[dimension][name].update({figure: int(value) for figure, value in zip(FIGURES, more, strict=True)})
    return usage


def _usage_of_rows(condition: ColumnElement[bool]) -> Executable:
    rows = rows_where(condition)
    names = {dimension: rows.c[dimension] for dimension in get_args(Dimension)}
    return union_all(*(select(literal(one), name, *sums_of(rows)).group_by(name) for one, name in names.items()))


def _times(connection: Connection, chosen: LogFilter, *, exact: bool) -> Mapping[Measure, Counter[float]]:
    """How many requests took how many milliseconds: as they are, or rounded down to the bounds of bands."""

    def of_rows(condition: ColumnElement[bool]) -> Executable:
        rows = rows_where(condition)
        times = {name: rows.c[name] for name in get_args(Measure)}
        shown = {name: time if exact else band(connection.dialect.name, time) for name, time in times.items()}
        grouped = (select(literal(name), shown[name].label("ms"), func.count()).group_by("ms") for name in shown)
        return union_all(*(query.where(time.is_not(None)) for query, time in zip(grouped, times.values(), strict=True)))

    columns = log_latencies.c
    first, last = _whole_hours(chosen)
    totals = select(columns.measure, columns.least_ms, func.sum(columns.requests))
    totals = totals.where(columns.start >= first, columns.start < last).group_by(columns.measure, columns.least_ms)
    counts: dict[Measure, Counter[float]] = {measure: Counter() for measure in get_args(Measure)}
    for query in [of_rows(_condition(chosen))] if exact else _queries(chosen, totals, of_rows):
        for measure, milliseconds, requests in connection.execute(query):
            counts[measure][float(milliseconds)] += int(requests)
    return counts


def _percentiles(times: Counter[float]) -> Percentiles:
    """By nearest rank; of bands each is at most 1 ms, from 100 ms on at most 1 in 100, below the true value."""
    values = sorted(times.items())
    passed = list(accumulate(requests for _, requests in values))
    found = [values[bisect_left(passed, -(-passed[-1] * each // 100))][0] if passed else None for each in (50, 95, 99)]
    return Percentiles(p50=found[0], p95=found[1], p99=found[2])


def _dropped(connection: Connection, chosen: LogFilter) -> int:
    query = select(func.coalesce(func.sum(log_drops.c.dropped), 0))
    if chosen.since is not None:
        query = query.where(log_drops.c.recorded_at >= chosen.since)
    if chosen.before is not None:
        query = query.where(log_drops.c.recorded_at < chosen.before)
    return int(connection.execute(query).scalar_one())


def _busiest_first(by_name: Mapping[str, Counter[str]]) -> tuple[UsageRow, ...]:
    rows = (UsageRow(name=name or None, **sums) for name, sums in by_name.items() if sums["requests"])
    return tuple(sorted(rows, key=lambda row: (-row.requests, row.name or "")))


def _queries(
    chosen: LogFilter, totals: Executable, of_rows: Callable[[ColumnElement[bool]], Executable]
) -> list[Executable]:
    """What to add up where only the time is restricted: totals of whole hours and the rows beside them."""
    return [totals, *map(of_rows, _ends(chosen))]


def _condition(chosen: LogFilter) -> ColumnElement[bool]:
    return and_(true(), *chosen.conditions())


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
        return [_condition(chosen)]
    ends = []
    if since is not None and since < first:
        ends.append(_condition(LogFilter(since=since, before=first)))
    if before is not None and end < before:
        ends.append(_condition(LogFilter(since=end, before=before)))
    return ends
