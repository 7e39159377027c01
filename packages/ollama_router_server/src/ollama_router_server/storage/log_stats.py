"""Figures over the request log: whole hours and days from the sums, the rest at both ends from the rows."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ollama_router_server.storage.dialect import whole
from ollama_router_server.storage.log_counting import COUNTED, count_all, figures_of_user, read
from ollama_router_server.storage.log_figures import DAY, HOUR, Figures, Sums, dumps, key_of
from ollama_router_server.storage.schema import log_sums, request_log

__all__ = [
    "hours_of",
    "hours_with_user",
    "percentile_of_bands",
    "requests_by_user",
    "requests_in",
    "sums_in",
    "sums_of_rows",
    "tokens_by_day",
]

_NO_END = 2**60
_ROWS_AT_ONCE = 20_000


async def sums_in(connection: AsyncConnection, since: float | None, before: float | None) -> Sums:
    """All figures of a span of time (seconds since 1970)."""
    columns = log_sums.c
    query = select(columns.totals, columns.users).where(_whole_spans(since, before))
    rows = (await connection.execute(query)).all()
    sums = await asyncio.to_thread(read, [(row.totals, row.users) for row in rows])
    for condition in _ends(since, before):
        sums.add((await sums_of_rows(connection, [condition])).in_bands())
    return sums


async def sums_of_rows(
    connection: AsyncConnection, conditions: Iterable[ColumnElement[bool]], times: list[list[float]] | None = None
) -> Sums:
    """All figures over rows, read once; `times` gets every total and every time to the first byte, if given."""
    query = select(*(request_log.c[name] for name in COUNTED)).where(*conditions)
    sums = Sums()
    async with connection.stream(query) as rows:
        async for some in rows.partitions(_ROWS_AT_ONCE):
            await asyncio.to_thread(_count_into, sums, some, times)
    return sums


def _count_into(sums: Sums, rows: Sequence[Any], times: list[list[float]] | None) -> None:
    columns = list(zip(*rows, strict=True))
    if times is not None:
        times[0] += columns[-1]
        times[1] += [value for value in columns[-2] if value is not None]
    sums.add(count_all(columns))


async def requests_in(connection: AsyncConnection, since: float | None, before: float | None) -> int:
    """How many requests a span of time holds."""
    summed = select(func.coalesce(func.sum(log_sums.c.requests), 0)).where(_whole_spans(since, before))
    found = int((await connection.execute(summed)).scalar_one())
    for condition in _ends(since, before):
        counted = select(func.count()).select_from(request_log).where(condition)
        found += int((await connection.execute(counted)).scalar_one())
    return found


async def requests_by_user(connection: AsyncConnection) -> Mapping[str, int]:
    """How many requests each user made, over the whole log."""
    columns = log_sums.c
    query = select(case((columns.users == "", columns.totals)), columns.users).where(_whole_spans(None, None))
    rows = (await connection.execute(query)).all()
    sums = await asyncio.to_thread(read, [(totals, users) for totals, users in rows])
    return {name: figures[0] for name, figures in sums.user.items()}


async def hours_with_user(connection: AsyncConnection, user: str) -> list[int]:
    """The starts of the hours in which a user's requests began, oldest first."""
    found = await _of_user(connection, user, log_sums.c.span == HOUR)
    return sorted({int(start) for start, _ in found})


async def tokens_by_day(connection: AsyncConnection, user: str, *, since: int) -> dict[int, int]:
    """A user's tokens by the day's start, from a day's start on (seconds since 1970)."""
    columns = log_sums.c
    fresh = or_(columns.span == DAY, and_(columns.span == HOUR, columns.in_day.is_(False)))
    days: dict[int, int] = defaultdict(int)
    for start, figures in await _of_user(connection, user, and_(columns.start >= since, fresh)):
        days[start - start % DAY] += figures[2] + figures[3]
    return days


async def _of_user(connection: AsyncConnection, user: str, condition: ColumnElement[bool]) -> list[tuple[int, Figures]]:
    """A user's figures in rows of the sums, found by the database; only rows not counted yet are taken apart."""
    columns = log_sums.c
    find: Callable[..., Any] = func.instr if connection.dialect.name == "sqlite" else func.strpos
    key = key_of(user)
    place = find(columns.users, key)
    query = select(columns.start, func.substr(columns.users, place + len(key), 100)).where(condition, place > 0)
    counted = [
        (int(start), json.loads(f"[{text.partition(']')[0]}]")) for start, text in await connection.execute(query)
    ]
    waiting = and_(columns.users == "", find(columns.totals, dumps(user)) > 0)
    rows = (await connection.execute(select(columns.start, columns.totals).where(condition, waiting))).all()
    more = await asyncio.to_thread(lambda: [(int(start), figures_of_user(totals, user)) for start, totals in rows])
    return counted + [(start, figures) for start, figures in more if figures is not None]


async def hours_of(
    connection: AsyncConnection, backend: str, condition: ColumnElement[bool], *, by_sums: bool, since: float | None
) -> dict[int, int]:
    """Requests by the hour's start; `by_sums` if `condition` says nothing but `since`, which is a whole hour."""
    if by_sums:
        columns = log_sums.c
        query = select(columns.start, func.sum(columns.requests)).where(columns.span == HOUR)
        query = query.where(columns.start >= (since or 0)).group_by(columns.start)
        rows = (await connection.execute(query.having(func.sum(columns.requests) > 0))).all()
    else:
        second = whole(backend, request_log.c.started_at)
        hour = (second - second % HOUR).label("hour")
        rows = (await connection.execute(select(hour, func.count()).where(condition).group_by("hour"))).all()
    return {int(start): int(count) for start, count in rows}


def percentile_of_bands(bands: Mapping[int, int], percent: int) -> float | None:
    """The band that holds the nearest rank: at most 1 ms, from 100 ms on at most 1 in 100, below the true value."""
    rank = -(-sum(bands.values()) * percent // 100)
    before = 0
    for least, count in sorted(bands.items()):
        before += count
        if before >= rank:
            return float(least)
    return None


def _hours(since: float | None, before: float | None) -> tuple[int, int]:
    """Where the first whole hour of a span of time begins, and where the last one ends."""
    first = 0 if since is None else -int(-since // HOUR) * HOUR
    end = _NO_END if before is None else int(before // HOUR) * HOUR
    return first, max(first, end)


def _whole_spans(since: float | None, before: float | None) -> ColumnElement[bool]:
    """The sums that make up the whole hours of a span of time."""
    columns = log_sums.c
    first, end = _hours(since, before)
    first_day = -(-first // DAY) * DAY
    end_day = max(first_day, end // DAY * DAY)
    within_days = and_(columns.start >= first_day, columns.start < end_day)
    hours = or_(
        and_(columns.start >= first, columns.start < min(first_day, end)),
        and_(columns.start >= end_day, columns.start < end),
    )
    fresh = and_(columns.span == HOUR, columns.in_day.is_(False))
    return or_(and_(within_days, or_(columns.span == DAY, fresh)), and_(hours, columns.span == HOUR))


def _ends(since: float | None, before: float | None) -> list[ColumnElement[bool]]:
    """The rows that no sum of a whole hour stands for."""
    started = request_log.c.started_at
    first, end = _hours(since, before)
    if since is not None and before is not None and before <= first:
        return [and_(started >= since, started < before)]
    conditions: list[ColumnElement[bool]] = []
    if since is not None and since < first:
        conditions.append(and_(started >= since, started < first))
    if before is not None and end < before:
        conditions.append(and_(started >= end, started < before))
    return conditions
