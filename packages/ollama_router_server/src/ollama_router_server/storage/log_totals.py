"""Totals over rows of the request log, shared by the tables that `log_writer` maintains and by `log_stats`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

from msgspec import Struct
from sqlalchemy import CTE, ColumnElement, and_, case, func, select
from sqlalchemy.engine import Connection

from ollama_router_server.storage.dialect import whole
from ollama_router_server.storage.log_filter import HAS_LEFT, IS_ERROR
from ollama_router_server.storage.schema import LONGEST_TOTALS_NAME, log_totals, request_log

__all__ = [
    "DAY",
    "FIGURES",
    "HOUR",
    "NO_END",
    "Dimension",
    "Measure",
    "Usage",
    "band",
    "by_name",
    "ends_of",
    "rows_where",
    "spans_between",
    "start_of",
    "starts_between",
    "sums_of",
    "week_of_users",
]

HOUR = 3_600
DAY = 86_400
_WEEK_DAYS = 7
NO_END = 2**53
"""A time later than any other, in seconds since 1970, that SQLite and JSON can represent."""

Dimension = Literal["user", "model", "server"]
Measure = Literal["ttft", "total"]


class Usage(Struct, frozen=True, kw_only=True):
    """Totals of requests; of `estimated` requests, some token counts do not come from a server.

    `gpu_ms` is compute time of servers in milliseconds; `wasted_ms` is the part spent on clients that disconnected.
    """

    requests: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: int = 0
    gpu_ms: int = 0
    wasted_ms: int = 0
    cost_micros: int = 0


FIGURES = Usage.__struct_fields__
"""The summed columns of the totals."""

_MOST_NAMED = 20_000  # values per statement: SQLite allows 32,766
_LONGEST_BAND = 10**7  # ms, nearly three hours; longer times share this band
_BANDS = [
    (most * 10**power, width * 10**power) for power in range(5) for most, width in ((200, 1), (500, 2), (1000, 5))
]


def rows_where(*conditions: ColumnElement[bool]) -> CTE:
    """Select rows of the log, with a column per dimension and measure; the empty name stands for none."""
    columns = request_log.c
    model = func.coalesce(columns.model_served, columns.model_asked)
    names = {"user": columns.user, "model": model, "server": columns.server}
    return (
        select(
            columns.started_at,
            case((IS_ERROR, 1), else_=0).label("errors"),
            case((columns.tokens_estimated, 1), else_=0).label("estimated"),
            *(columns[name] for name in FIGURES if name.endswith("_tokens")),
            columns.gpu_ms,
            case((HAS_LEFT, columns.gpu_ms), else_=0).label("wasted_ms"),
            columns.cost_micros,
            columns.ttft_ms.label("ttft"),
            columns.total_ms.label("total"),
            *(func.substr(func.coalesce(of, ""), 1, LONGEST_TOTALS_NAME).label(name) for name, of in names.items()),
        )
        .where(*conditions)
        .cte("chosen")
    )


def sums_of(rows: CTE) -> list[ColumnElement[int]]:
    """Return the sums over a group of rows, in the order of `FIGURES`."""
    return [func.count(), *(func.coalesce(func.sum(rows.c[name]), 0) for name in FIGURES[1:])]


def by_name(sums: Iterable[Any]) -> dict[str, int]:
    """Name one group's sums as in `FIGURES`, as integers; PostgreSQL returns decimals."""
    return dict(zip(FIGURES, map(int, sums), strict=True))


def band(backend: str, time: ColumnElement[float]) -> ColumnElement[int]:
    """Return the lower bound of a time's band: bands are 1 ms wide below 200 ms, at most 1 in 100 beyond."""
    milliseconds = whole(backend, time)
    bands = [(milliseconds < most, milliseconds - milliseconds % width) for most, width in _BANDS]
    return case(*bands, else_=_LONGEST_BAND)


def start_of(span: int, backend: str, moment: ColumnElement[float]) -> ColumnElement[int]:
    """Return the start of the hour or day (`span`, in seconds) of a time; both are seconds since 1970."""
    second = whole(backend, moment)
    return second - second % span


def week_of_users(today: int) -> ColumnElement[bool]:
    """Return the condition, by the key, on users' totals of the seven days that end with `today` (since 1970-01-01)."""
    columns, days = log_totals.c, range(today - _WEEK_DAYS + 1, today + 1)
    return and_(columns.span == DAY, columns.start.in_([day * DAY for day in days]), columns.dimension == "user")


def starts_between(
    connection: Connection, start: ColumnElement[int], span: int, first: int, end: int, *, times: int = 1
) -> ColumnElement[bool]:
    """List the days or hours with totals between two times, so that the key finds a name's rows without a range scan.

    `times` is how often one statement contains the condition. Beyond the limit of values it is a range.
    """
    known = log_totals.c.start
    least, most = ends_of(connection, span, known >= first, known < end)
    if times * ((most - least) // span) > _MOST_NAMED:
        return and_(start >= least, start < most)
    return start.in_(range(least, most, span))


def ends_of(connection: Connection, span: int, *within: ColumnElement[bool]) -> tuple[int, int]:
    """Return the start of a span's first totals and the end of its last, by one key lookup each; 0 without any."""
    start = log_totals.c.start
    ours = (log_totals.c.span == span, *within)
    ends = (select(of(start)).where(*ours).scalar_subquery() for of in (func.min, func.max))
    least, most = connection.execute(select(*ends)).one()
    return (0, 0) if least is None else (int(least), int(most) + span)


def spans_between(first: int, end: int) -> Iterator[tuple[int, range]]:
    """Yield the starts of the whole days between two whole hours (seconds since 1970), then of the remaining hours."""
    first_day = -(-first // DAY) * DAY
    end_day = max(first_day, end // DAY * DAY)
    yield DAY, range(first_day, end_day, DAY)
    yield HOUR, range(first, min(first_day, end), HOUR)
    yield HOUR, range(end_day, end, HOUR)
