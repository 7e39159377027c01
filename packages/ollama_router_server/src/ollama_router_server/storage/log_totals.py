"""Totals of the request log by hour and day, and its latencies by hour: figures over millions of rows come at once.

Every transaction that inserts or deletes rows adds them to the totals or subtracts them, so both always agree.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, Literal, get_args

from msgspec import Struct
from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    CompoundSelect,
    Executable,
    Table,
    bindparam,
    case,
    delete,
    func,
    literal,
    select,
    union_all,
)
from sqlalchemy.engine import Connection

from ollama_router_server.storage.dialect import insert_into, whole
from ollama_router_server.storage.log_filter import HAS_LEFT, IS_ERROR
from ollama_router_server.storage.schema import LONGEST_TOTALS_NAME, log_latencies, log_totals, request_log

__all__ = [
    "DAY",
    "FIGURES",
    "HOUR",
    "Dimension",
    "Measure",
    "Usage",
    "add_rows",
    "band",
    "by_name",
    "delete_empty",
    "rows_where",
    "subtract_rows",
    "sums_of",
]

HOUR = 3_600
DAY = 86_400

Dimension = Literal["user", "model", "server"]
Measure = Literal["ttft", "total"]


class Usage(Struct, frozen=True, kw_only=True):
    """What requests add up to; the tokens of `estimated` of them were not all counted by a server.

    Of the milliseconds that servers computed (`gpu_ms`), `wasted_ms` were for clients that left.
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
"""What is added up, which are columns of the totals."""

_LONGEST_BAND = 10**7  # ms: nearly three hours, and everything beyond
_BANDS = [
    (most * 10**power, width * 10**power) for power in range(5) for most, width in ((200, 1), (500, 2), (1000, 5))
]


def rows_where(*conditions: ColumnElement[bool]) -> CTE:
    """Choose rows of the log, with a column for each dimension and measure; the empty name stands for none."""
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
    """Sum up a group of rows, as `FIGURES` names the sums."""
    return [func.count(), *(func.coalesce(func.sum(rows.c[name]), 0) for name in FIGURES[1:])]


def by_name(sums: Iterable[Any]) -> dict[str, int]:
    """Return what `FIGURES` names of one group's sums; PostgreSQL's are decimals."""
    return dict(zip(FIGURES, map(int, sums), strict=True))


def band(backend: str, time: ColumnElement[float]) -> ColumnElement[int]:
    """Return the lower bound of a time's band, which is 1 ms wide below 200 ms and at most 1 in 100 beyond."""
    milliseconds = whole(backend, time)
    bands = [(milliseconds < most, milliseconds - milliseconds % width) for most, width in _BANDS]
    return case(*bands, else_=_LONGEST_BAND)


def add_rows(connection: Connection, *, after: int) -> None:
    """Add the rows whose numbers are greater than `after`."""
    for statement in _adding(connection.dialect.name):
        connection.execute(statement, {"after": after})


def subtract_rows(connection: Connection, *conditions: ColumnElement[bool]) -> None:
    """Subtract the rows that meet the conditions."""
    for statement in _changes(connection.dialect.name, rows_where(*conditions), sign=-1):
        connection.execute(statement)


def delete_empty(connection: Connection) -> None:
    """Delete totals of which nothing is left."""
    for table in (log_totals, log_latencies):
        connection.execute(delete(table).where(table.c.requests == 0))


def _totals(backend: str, rows: CTE, sign: int) -> CompoundSelect[Any]:
    second = whole(backend, rows.c.started_at)
    return union_all(
        *(
            select(
                literal(span, BigInteger),
                (second - second % span).label("start"),
                literal(dimension),
                rows.c[dimension],
                *(sign * each for each in sums_of(rows)),
            ).group_by("start", rows.c[dimension])
            for span in (HOUR, DAY)
            for dimension in get_args(Dimension)
        )
    )


def _latencies(backend: str, rows: CTE, sign: int) -> CompoundSelect[Any]:
    second = whole(backend, rows.c.started_at)
    hour = (second - second % HOUR).label("start")
    return union_all(
        *(
            select(hour, literal(measure), band(backend, rows.c[measure]).label("least_ms"), sign * func.count())
            .where(rows.c[measure].is_not(None))
            .group_by("start", "least_ms")
            for measure in get_args(Measure)
        )
    )


@cache
def _adding(backend: str) -> tuple[Executable, ...]:
    """What each batch of rows is followed by. Building it takes 6 ms, during which requests wait for Python's lock."""
    return _changes(backend, rows_where(request_log.c.seq > bindparam("after")), sign=1)


def _changes(backend: str, rows: CTE, *, sign: int) -> tuple[Executable, ...]:
    return (
        _upsert(backend, log_totals, _totals(backend, rows, sign)),
        _upsert(backend, log_latencies, _latencies(backend, rows, sign)),
    )


def _upsert(backend: str, table: Table, rows: CompoundSelect[Any]) -> Executable:
    statement = insert_into(backend, table)
    key = [column.name for column in table.primary_key]
    added = {column.name: column + statement.excluded[column.name] for column in table.c if not column.primary_key}
    statement = statement.from_select([column.name for column in table.c], rows)
    return statement.on_conflict_do_update(index_elements=key, set_=added)
