"""Figures over the request log: from its rows where they are few, else from the sums by hour and day.

Belongs here: which rows and which sums make up a span of time, and putting the parts together.
Does not belong here: keeping sums up to date (`log_summaries`), how figures look (the command line).

A span is cut so that nothing counts twice: whole days and whole hours of what was summed up; rows for the rest at
both ends; and every row that was written since the sums were last brought up to date.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, String, and_, case, cast, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ollama_router_server.storage.dialect import whole
from ollama_router_server.storage.log_summaries import DAY, HOUR, IS_ERROR, MODEL, band_of, counted_to, fine_span
from ollama_router_server.storage.schema import log_summaries, request_log

__all__ = ["Figures", "figures_of", "hours_of", "percentile_of_bands", "requests_by_user", "requests_in"]

_KINDS = ("user", "model", "server", "total", "ttft")
_NO_END = 2**60


@dataclass(slots=True)
class Figures:
    """Requests, errors, tokens in and out by name, for each kind of name; times are by band."""

    by_kind: dict[str, dict[str, list[int]]] = field(
        default_factory=lambda: {kind: defaultdict(lambda: [0, 0, 0, 0]) for kind in _KINDS}
    )

    def add(self, kind: str, rows: Iterable[Any]) -> None:
        """Add rows of a name and four figures."""
        names = self.by_kind[kind]
        for name, *figures in rows:
            sums = names[name]
            for place, figure in enumerate(figures):
                sums[place] += int(figure)

    def bands(self, kind: str) -> list[tuple[int, int]]:
        """Least milliseconds and number of requests of each band, the shortest first."""
        return sorted((int(name), sums[0]) for name, sums in self.by_kind[kind].items())


async def figures_of(
    connection: AsyncConnection, backend: str, since: float | None, before: float | None, kinds: Sequence[str] = _KINDS
) -> Figures:
    """All figures of a span of time (seconds since 1970)."""
    figures = Figures()
    done = await counted_to(connection)
    for kind in kinds:
        figures.add(kind, await connection.execute(_from_sums(kind, since, before)))
        for condition in _row_conditions(kind, done, since, before):
            figures.add(kind, await connection.execute(_from_rows(backend, kind, condition)))
    return figures


async def requests_in(connection: AsyncConnection, since: float | None, before: float | None) -> int:
    """How many requests a span of time holds."""
    figures = await figures_of(connection, connection.dialect.name, since, before, ("server",))
    return sum(sums[0] for sums in figures.by_kind["server"].values())


async def requests_by_user(connection: AsyncConnection) -> Mapping[str, int]:
    """How many requests each user made, over the whole log."""
    figures = await figures_of(connection, connection.dialect.name, None, None, ("user",))
    return {name: sums[0] for name, sums in figures.by_kind["user"].items()}


async def hours_of(
    connection: AsyncConnection, backend: str, condition: ColumnElement[bool], *, by_sums: bool, since: float | None
) -> dict[int, int]:
    """Requests by the hour's start; `by_sums` if `condition` says nothing but `since`, which is a whole hour."""
    hours: dict[int, int] = defaultdict(int)
    columns, sums = request_log.c, log_summaries.c
    if by_sums:
        from_sums = select(sums.start, func.sum(sums.requests)).where(sums.kind == "server", sums.span == HOUR)
        from_sums = from_sums.where(sums.start >= (since or 0)).group_by(sums.start)
        for start, count in await connection.execute(from_sums):
            hours[int(start)] += int(count)
        condition = and_(columns.seq > await counted_to(connection), columns.started_at + 0 >= (since or 0))
    second = whole(backend, columns.started_at)
    hour = (second - second % HOUR).label("hour")
    for start, count in await connection.execute(select(hour, func.count()).where(condition).group_by("hour")):
        hours[int(start)] += int(count)
    return hours


def percentile_of_bands(bands: Sequence[tuple[int, int]], percent: int) -> float | None:
    """The band that holds the nearest rank: at most 1 ms, from 100 ms on at most 1 in 100, below the true value."""
    rank = -(-sum(count for _, count in bands) * percent // 100)
    before = 0
    for least, count in bands:
        before += count
        if before >= rank:
            return float(least)
    return None


def _whole_spans(kind: str, since: float | None, before: float | None) -> tuple[int, int]:
    """Where the first whole hour (users: six hours) of a span of time begins, and where the last one ends."""
    fine = fine_span(kind)
    first = 0 if since is None else -int(-since // fine) * fine
    end = _NO_END if before is None else int(before // fine) * fine
    return first, max(first, end)


def _from_sums(kind: str, since: float | None, before: float | None) -> Any:
    sums = log_summaries.c
    first, end = _whole_spans(kind, since, before)
    first_day = -(-first // DAY) * DAY
    end_day = max(first_day, end // DAY * DAY)
    days = and_(sums.span == DAY, sums.start >= first_day, sums.start < end_day)
    hours = or_(
        and_(sums.start >= first, sums.start < min(first_day, end)),
        and_(sums.start >= end_day, sums.start < end),
    )
    figures = (sums.requests, sums.errors, sums.prompt_tokens, sums.completion_tokens)
    return (
        select(sums.name, *(func.sum(figure) for figure in figures))
        .where(sums.kind == kind, or_(days, and_(sums.span == fine_span(kind), hours)))
        .group_by(sums.name)
    )


def _row_conditions(kind: str, done: int, since: float | None, before: float | None) -> list[ColumnElement[bool]]:
    """The rows that no sum stands for: written since, and those of the rest at both ends."""
    columns = request_log.c
    first, end = _whole_spans(kind, since, before)
    # `+ 0` keeps the planner from the index over time: the rows written last are few and lie together.
    started = columns.started_at + 0
    written_since = [columns.seq > done]
    if since is not None:
        written_since.append(started >= since)
    if before is not None:
        written_since.append(started < before)
    counted = columns.seq + 0 <= done
    conditions = [and_(*written_since)]
    if since is not None and before is not None and before <= first:
        return [*conditions, and_(counted, columns.started_at >= since, columns.started_at < before)]
    if since is not None and since < first:
        conditions.append(and_(counted, columns.started_at >= since, columns.started_at < first))
    if before is not None and end < before:
        conditions.append(and_(counted, columns.started_at >= end, columns.started_at < before))
    return conditions


def _from_rows(backend: str, kind: str, condition: ColumnElement[bool]) -> Any:
    columns = request_log.c
    names: dict[str, ColumnElement[Any]] = {
        "user": func.coalesce(columns.user, ""),
        "model": func.coalesce(MODEL, ""),
        "server": func.coalesce(columns.server, ""),
        "total": cast(band_of(backend, columns.total_ms), String),
        "ttft": cast(band_of(backend, columns.ttft_ms), String),
    }
    name = names[kind].label("label")
    query = select(
        name,
        func.count(),
        func.sum(case((IS_ERROR, 1), else_=0)),
        func.coalesce(func.sum(columns.prompt_tokens), 0),
        func.coalesce(func.sum(columns.completion_tokens), 0),
    ).where(condition)
    if kind == "ttft":
        query = query.where(columns.ttft_ms.is_not(None))
    return query.group_by("label")
