"""Totals of the request log by hour and day, and its latencies by hour: figures over millions of rows come at once.

Every transaction that inserts or deletes rows adds them to the totals or subtracts them, so both always agree.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from sqlalchemy import Row, Table, bindparam, delete
from sqlalchemy.ext.asyncio import AsyncConnection

from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.storage.database import execute_many
from ollama_router_server.storage.dialect import insert_into
from ollama_router_server.storage.schema import LONGEST_TOTALS_NAME, log_latencies, log_totals

__all__ = [
    "COUNTED",
    "DAY",
    "FIGURES",
    "HOUR",
    "CountedRow",
    "Dimension",
    "Measure",
    "Usage",
    "add_rows",
    "band_of",
    "subtract_rows",
]

HOUR = 3_600
DAY = 86_400

COUNTED = (
    "started_at",
    "user",
    "model_asked",
    "model_served",
    "server",
    "status",
    "error",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "tokens_estimated",
    "ttft_ms",
    "total_ms",
)
"""The columns of the log that totals are made of."""

CountedRow = RequestRecord | Row[Any]
"""A row of the log, in memory or as selected with at least the columns of `COUNTED`."""

Dimension = Literal["user", "model", "server"]
Measure = Literal["ttft", "total"]

_LONGEST_BAND = 10**7  # ms: nearly three hours, and everything beyond
_BAND_STEPS = ((1, 200), (2, 500), (5, 1_000))  # widths for three-digit times below each limit


@dataclass(slots=True)
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

    def add(self, other: Usage) -> None:
        """Add other requests."""
        for name in FIGURES:
            setattr(self, name, getattr(self, name) + getattr(other, name))


FIGURES = tuple(each.name for each in fields(Usage))
"""The names of what is added up, which are columns of the totals."""


async def add_rows(connection: AsyncConnection, rows: Iterable[CountedRow]) -> None:
    """Add rows that the same transaction inserts."""
    usage, latencies = _add_up(rows)
    await _upsert(connection, log_totals, _usage_rows(usage, 1))
    await _upsert(connection, log_latencies, _latency_rows(latencies, 1))


async def subtract_rows(connection: AsyncConnection, rows: Iterable[CountedRow]) -> None:
    """Subtract rows that the same transaction deletes; totals that reach zero go."""
    usage, latencies = _add_up(rows)
    for table, values in ((log_totals, _usage_rows(usage, -1)), (log_latencies, _latency_rows(latencies, -1))):
        await _upsert(connection, table, values)
        await _delete_zeros(connection, table, values)


def band_of(milliseconds: int) -> int:
    """Return the lower bound of a time's band, which is 1 ms wide below 200 ms and at most 1 in 100 beyond."""
    if milliseconds >= _LONGEST_BAND:
        return _LONGEST_BAND
    magnitude: int = 10 ** max(0, len(str(milliseconds)) - 3)
    width = magnitude * next(step for step, limit in _BAND_STEPS if milliseconds < limit * magnitude)
    return milliseconds - milliseconds % width


_UsageKey = tuple[int, Dimension, str]
_LatencyKey = tuple[int, Measure, int]


def _add_up(rows: Iterable[CountedRow]) -> tuple[Mapping[_UsageKey, Usage], Mapping[_LatencyKey, int]]:
    usage: dict[_UsageKey, Usage] = defaultdict(Usage)
    latencies: Counter[_LatencyKey] = Counter()
    for row in rows:
        hour = int(row.started_at) // HOUR * HOUR
        one = _usage_of(row)
        usage[hour, "user", _name(row.user)].add(one)
        usage[hour, "model", _name(row.model_asked if row.model_served is None else row.model_served)].add(one)
        usage[hour, "server", _name(row.server)].add(one)
        latencies[hour, "total", band_of(int(row.total_ms))] += 1
        if row.ttft_ms is not None:
            latencies[hour, "ttft", band_of(int(row.ttft_ms))] += 1
    return usage, latencies


def _usage_of(row: CountedRow) -> Usage:
    return Usage(
        requests=1,
        errors=int(row.status >= 400 or row.error is not None),
        prompt_tokens=row.prompt_tokens or 0,
        completion_tokens=row.completion_tokens or 0,
        cached_tokens=row.cached_tokens or 0,
        cache_write_tokens=row.cache_write_tokens or 0,
        reasoning_tokens=row.reasoning_tokens or 0,
        estimated=int(row.tokens_estimated),
    )


def _name(name: str | None) -> str:
    """A name short enough for every database's index; the empty one stands for none."""
    return "" if name is None else name[:LONGEST_TOTALS_NAME]


def _usage_rows(usage: Mapping[_UsageKey, Usage], sign: int) -> list[dict[str, Any]]:
    """Rows of `log_totals` in the order of their keys: two writers that lock them in one order cannot deadlock."""
    return [
        {
            "span": span,
            "start": hour - hour % span,
            "dimension": dimension,
            "name": name,
            **{figure: sign * getattr(one, figure) for figure in FIGURES},
        }
        for span in (HOUR, DAY)
        for (hour, dimension, name), one in sorted(usage.items(), key=lambda item: item[0])
    ]


def _latency_rows(latencies: Mapping[_LatencyKey, int], sign: int) -> list[dict[str, Any]]:
    return [
        {"start": hour, "measure": measure, "least_ms": least, "requests": sign * count}
        for (hour, measure, least), count in sorted(latencies.items())
    ]


async def _upsert(connection: AsyncConnection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    statement = insert_into(connection.dialect.name, table)
    key = [column.name for column in table.primary_key]
    added = {column.name: column + statement.excluded[column.name] for column in table.c if not column.primary_key}
    await execute_many(connection, statement.on_conflict_do_update(index_elements=key, set_=added), rows)


async def _delete_zeros(connection: AsyncConnection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    keys = [column == bindparam(f"key_{column.name}") for column in table.primary_key]
    values = [{f"key_{column.name}": row[column.name] for column in table.primary_key} for row in rows]
    await execute_many(connection, delete(table).where(*keys, table.c.requests == 0), values)
