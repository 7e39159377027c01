"""Statistics of the request log: whole hours and days from the totals, the rest from the rows."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, get_args

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import ColumnElement, Double, Select, and_, case, cast, func, literal, null, select, union_all
from sqlalchemy.engine import Connection

from ollama_router_server.storage.dialect import give_room
from ollama_router_server.storage.log_filter import LogFilter
from ollama_router_server.storage.log_totals import (
    DAY,
    FIGURES,
    HOUR,
    NO_END,
    Dimension,
    Measure,
    Usage,
    band,
    by_name,
    ends_of,
    rows_where,
    spans_between,
    start_of,
    starts_between,
    sums_of,
)
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


class Percentiles(Struct, frozen=True, kw_only=True):
    """Percentiles 50, 95 and 99 in milliseconds (nearest rank); None without requests."""

    p50: float | None
    p95: float | None
    p99: float | None


class UsageRow(Usage, frozen=True, kw_only=True):
    """Sums over the requests of one user, model or server; `name` is None for rows without one."""

    name: str | None


class LogStats(Usage, frozen=True, kw_only=True):
    """Statistics of a filter's rows; lists are sorted by requests, most first. `dropped` rows were never written."""

    dropped: int
    ttft_ms: Percentiles
    total_ms: Percentiles
    by_user: tuple[UsageRow, ...]
    by_model: tuple[UsageRow, ...]
    by_server: tuple[UsageRow, ...]


class HourRow(Usage, frozen=True, kw_only=True):
    """The totals of the requests that began within one hour; `start` is seconds since 1970."""

    start: int


def read_stats(connection: Connection, chosen: LogFilter, *, few_rows: int) -> LogStats:
    """Return statistics of all rows of a filter, with exact percentiles up to `few_rows` rows."""
    give_room(connection)
    figures = _of_totals(connection, chosen) if chosen.only_time else _Figures()
    if figures.requests <= few_rows:
        figures = _Figures()
        figures.add_rows(connection, chosen.conditions(), few_rows=few_rows)
    return LogStats(
        **sum(figures.usage["server"].values(), Counter()),
        dropped=_dropped(connection, chosen),
        ttft_ms=_percentiles(figures.times["ttft"]),
        total_ms=_percentiles(figures.times["total"]),
        by_user=_busiest_first(figures.usage["user"]),
        by_model=_busiest_first(figures.usage["model"]),
        by_server=_busiest_first(figures.usage["server"]),
    )


def read_history(connection: Connection, chosen: LogFilter) -> tuple[HourRow, ...]:
    """Return totals by hour, oldest first; the first hour is whole, hours without requests are omitted."""
    first = 0 if chosen.since is None else int(chosen.since // HOUR) * HOUR
    end = first
    hours: dict[int, Counter[str]] = defaultdict(Counter)
    if chosen.only_time:
        end = NO_END if chosen.before is None else max(first, int(chosen.before // HOUR) * HOUR)
        columns = log_totals.c
        ours = and_(
            columns.span == HOUR,
            starts_between(connection, columns.start, HOUR, first, end),
            columns.dimension == "server",
        )
        query = select(columns.start, *(func.sum(columns[name]) for name in FIGURES)).where(ours)
        for start, *sums in connection.execute(query.group_by(columns.start)):
            hours[int(start)].update(by_name(sums))
    if end != NO_END:
        rows = rows_where(*replace(chosen, since=end).conditions())
        hour = start_of(HOUR, connection.dialect.name, rows.c.started_at).label("hour")
        for start, *sums in connection.execute(select(hour, *sums_of(rows)).group_by("hour")):
            hours[int(start)].update(by_name(sums))
    return tuple(HourRow(start=start, **sums) for start, sums in sorted(hours.items()) if sums["requests"])


def requests_by_user(connection: Connection, names: Sequence[str] | None = None) -> Mapping[str, int]:
    """Count the requests of each user, or of some users, over the whole log."""
    columns = log_totals.c
    query = select(columns.name, func.sum(columns.requests)).where(columns.span == DAY, columns.dimension == "user")
    if names is not None:  # by day and name, as in the key: else all users' rows of all days are read
        days = range(*ends_of(connection, DAY), DAY)
        query = query.where(columns.start.in_(days), columns.name.in_(names))
    return {name: int(requests) for name, requests in connection.execute(query.group_by(columns.name))}


def usage_of_user(connection: Connection, user: str) -> tuple[UsageRow, float | None]:
    """Return sums over all of a user's rows, and their mean duration in milliseconds."""
    rows = rows_where(request_log.c.user == user)
    *sums, mean = connection.execute(select(*sums_of(rows), func.avg(rows.c.total))).one()
    return UsageRow(name=user, **by_name(sums)), mean


def tokens_by_day(connection: Connection, user: str, *, since: int) -> dict[int, int]:
    """Sum a user's tokens by the start of each day since `since`, a day's start (seconds since 1970)."""
    columns = request_log.c
    day = start_of(DAY, connection.dialect.name, columns.started_at).label("day")
    tokens = func.sum(func.coalesce(columns.prompt_tokens, 0) + func.coalesce(columns.completion_tokens, 0))
    query = select(day, tokens).where(columns.user == user, columns.started_at >= since).group_by("day")
    return {int(start): int(total) for start, total in connection.execute(query)}


class _Figures:
    """Usage by name, and counts of requests by milliseconds; both may come from rows or totals."""

    def __init__(self) -> None:
        self.usage: dict[str, defaultdict[str, Counter[str]]] = {
            dimension: defaultdict(Counter) for dimension in get_args(Dimension)
        }
        self.times: dict[str, Counter[float]] = {measure: Counter() for measure in get_args(Measure)}

    @property
    def requests(self) -> int:
        return sum(usage["requests"] for usage in self.usage["server"].values())

    def add_rows(self, connection: Connection, conditions: Sequence[ColumnElement[bool]], *, few_rows: int) -> None:
        """Add rows, read once by one statement: reading millions of them is what takes long.

        Times are exact up to `few_rows` rows, else rounded down to the bounds of bands.
        """
        rows = rows_where(*conditions)
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
        for kind, name, *sums, milliseconds in connection.execute(union_all(*parts)):
            if kind in self.usage:
                self.usage[kind][name].update(by_name(sums))
            else:
                self.times[kind][float(milliseconds)] += int(sums[0])

    def add_totals(self, connection: Connection, first: int, end: int) -> None:
        """Add all rows of the hours between two times (seconds since 1970).

        Group each dimension and measure separately: sorting by one column instead of two takes SQLite two thirds of the
        time.
        """
        spans = list(_spans(connection, first, end))
        usage = union_all(*(_summed(dimension, spans) for dimension in get_args(Dimension)))
        for dimension, name, *more in connection.execute(usage):
            self.usage[dimension][name].update(by_name(more))
        bands, hours = log_latencies.c, starts_between(connection, log_latencies.c.start, HOUR, first, end)
        for measure in get_args(Measure):
            times = select(bands.least_ms, func.sum(bands.requests)).where(hours, bands.measure == measure)
            for milliseconds, requests in connection.execute(times.group_by(bands.least_ms)):
                self.times[measure][float(milliseconds)] += int(requests)


def _of_totals(connection: Connection, chosen: LogFilter) -> _Figures:
    """Return statistics of a filter on time alone: whole hours from the totals, the remainder from the rows.

    They are empty if no row lies in a whole hour.
    """
    first = 0 if chosen.since is None else int(-(-chosen.since // HOUR)) * HOUR
    end = NO_END if chosen.before is None else int(chosen.before // HOUR) * HOUR
    figures = _Figures()
    figures.add_totals(connection, first, max(first, end))
    if figures.requests and chosen.since is not None and chosen.since < first:
        figures.add_rows(connection, LogFilter(since=chosen.since, before=first).conditions(), few_rows=-1)
    if figures.requests and chosen.before is not None and end < chosen.before:
        figures.add_rows(connection, LogFilter(since=end, before=chosen.before).conditions(), few_rows=-1)
    return figures


def _percentiles(times: Counter[float]) -> Percentiles:
    """Return percentiles by nearest rank; bands round down by at most 1 ms, or 1 in 100 from 100 ms on."""
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


def _summed(dimension: Dimension, spans: Iterable[ColumnElement[bool]]) -> Select[Any]:
    columns = log_totals.c
    of_spans = (
        select(columns.name, *(columns[name] for name in FIGURES)).where(each, columns.dimension == dimension)
        for each in spans
    )
    rows = union_all(*of_spans).subquery().c
    sums = (func.sum(rows[name]) for name in FIGURES)
    return select(literal(dimension), rows.name, *sums).group_by(rows.name)


def _busiest_first(usage: Mapping[str, Counter[str]]) -> tuple[UsageRow, ...]:
    rows = (UsageRow(name=name or None, **sums) for name, sums in usage.items() if sums["requests"])
    return tuple(sorted(rows, key=lambda row: (-row.requests, row.name or "")))


def _spans(connection: Connection, first: int, end: int) -> Iterator[ColumnElement[bool]]:
    """Yield conditions on the days, and the hours before and after them, that cover the hours between two times.

    They use the key. A statement contains each once per dimension.
    """
    columns, times = log_totals.c, len(get_args(Dimension))
    for span, starts in spans_between(first, end):
        known = starts_between(connection, columns.start, span, starts.start, starts.stop, times=times)
        yield and_(columns.span == span, known)
