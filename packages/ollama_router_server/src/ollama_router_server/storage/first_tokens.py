"""Time to first byte by user, group, model, server, host or day, from the newest rows only."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import CTE, ColumnElement, Select, String, Subquery, case, cast, func, literal, select, union_all
from sqlalchemy.engine import Connection

from ollama_router_server.storage.log_filter import IS_ERROR, LogFilter
from ollama_router_server.storage.log_totals import DAY, start_of
from ollama_router_server.storage.schema import LONGEST_TOTALS_NAME, groups, memberships, request_log, users

__all__ = ["KINDS", "LOOKED_AT", "FirstToken", "FirstTokens", "UsualSpeed", "read_first_tokens", "read_usual_speeds"]

LOOKED_AT: Final = 20_000
"""The most rows that a query reads, newest first."""
_ANSWERED: Final = 5_000


class FirstToken(Struct, frozen=True):
    """Percentiles 50 and 95 in milliseconds (nearest rank)."""

    p50: float
    p95: float


class UsualSpeed(Struct, frozen=True, kw_only=True):
    """Medians of a model's responses: milliseconds to the first byte, and tokens per second; None if unknown."""

    ttft_ms: float | None
    tokens_per_second: float | None


FirstTokens = Mapping[tuple[str, str], FirstToken]
"""By kind (one of `KINDS`) and name; the name of a day is its first second."""
KINDS: Final = ("user", "group", "model", "server", "host", "day")


def read_first_tokens(
    connection: Connection, chosen: LogFilter, *, kinds: Collection[str] = KINDS, most: int = LOOKED_AT
) -> FirstTokens:
    """Return percentiles of the newest `most` rows of a filter with a first byte; a host is a server of the log."""
    newest = _newest(connection.dialect.name, chosen, most)
    wanted = {"server" if kind == "host" else kind for kind in kinds}
    parts = [_percentiles(newest, kind) for kind in KINDS if kind in wanted]
    found = {(kind, name): FirstToken(p50, p95) for kind, name, p50, p95 in connection.execute(union_all(*parts))}
    hosts = {("host", name): one for (kind, name), one in found.items() if kind == "server" and "host" in kinds}
    return found | hosts


def read_usual_speeds(connection: Connection, *, since: float) -> dict[str, UsualSpeed]:
    """Return medians of the newest 5,000 successful requests since `since` (seconds since 1970), by served model.

    Where a server reports no decode time, a stream's time from its first byte to its end replaces it.
    """
    columns = request_log.c
    times = {"ttft": columns.ttft_ms, "rate": columns.completion_tokens * 1000.0 / func.nullif(_writing(), 0.0)}
    rows = (
        select(
            func.coalesce(columns.model_served, "").label("name"), *(time.label(kind) for kind, time in times.items())
        )
        .where(columns.started_at >= since, columns.ttft_ms.is_not(None), ~IS_ERROR)
        .order_by(columns.started_at.desc())
        .limit(_ANSWERED)
        .cte("answered")
    )
    found: dict[str, dict[str, float]] = {}
    for kind, name, median in connection.execute(union_all(*(_medians(rows, kind) for kind in times))):
        found.setdefault(name, {})[kind] = median
    return {name: UsualSpeed(ttft_ms=of.get("ttft"), tokens_per_second=of.get("rate")) for name, of in found.items()}


def _writing() -> ColumnElement[float]:
    columns = request_log.c
    after_first = case((columns.streamed, columns.total_ms - columns.ttft_ms))
    return case((columns.decode_ms > 0, columns.decode_ms), else_=after_first)


def _medians(rows: CTE, kind: str) -> Select[Any]:
    ranked = _ranked(rows.c.name, rows.c[kind], rows.c[kind] > 0)
    return select(literal(kind), ranked.c.name, _within(ranked, 50)).group_by(ranked.c.name)


def _newest(backend: str, chosen: LogFilter, most: int) -> CTE:
    columns = request_log.c
    day = start_of(DAY, backend, columns.started_at).label("day")
    wanted = (
        select(columns.user, columns.model_served, columns.model_asked, columns.server, columns.ttft_ms, day)
        .where(columns.ttft_ms.is_not(None), *chosen.conditions())
        .order_by(columns.started_at.desc())
        .limit(most)
        .subquery()
    )
    rows = wanted.outerjoin(users, users.c.name == wanted.c.user)
    rows = rows.outerjoin(memberships, memberships.c.user_id == users.c.id)
    model = func.coalesce(wanted.c.model_served, wanted.c.model_asked)
    names: dict[str, ColumnElement[str]] = {
        "user": wanted.c.user, "group": groups.c.name, "model": model, "server": wanted.c.server,
        "day": cast(wanted.c.day, String),
    }  # fmt: skip
    shown = (func.substr(func.coalesce(of, ""), 1, LONGEST_TOTALS_NAME).label(name) for name, of in names.items())
    joined = rows.outerjoin(groups, groups.c.id == memberships.c.group_id)
    return select(wanted.c.ttft_ms, *shown).select_from(joined).cte("newest")


def _percentiles(rows: CTE, kind: str) -> Select[Any]:
    ranked = _ranked(rows.c[kind], rows.c.ttft_ms)
    return select(literal(kind), ranked.c.name, _within(ranked, 50), _within(ranked, 95)).group_by(ranked.c.name)


def _ranked(name: ColumnElement[str], value: ColumnElement[float], *conditions: ColumnElement[bool]) -> Subquery:
    """Rank the values of each name, smallest first."""
    return (
        select(
            name.label("name"),
            value.label("value"),
            func.row_number().over(partition_by=name, order_by=value).label("rank"),
            func.count().over(partition_by=name).label("all"),
        )
        .where(*conditions)
        .subquery()
    )


def _within(ranked: Subquery, percent: int) -> ColumnElement[float]:
    """Return the percentile `percent` of each name, by nearest rank."""
    return func.min(case((ranked.c.rank * 100 >= ranked.c["all"] * percent, ranked.c.value)))
