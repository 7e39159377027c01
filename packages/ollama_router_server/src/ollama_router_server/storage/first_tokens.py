"""How soon requests had their first byte, by whom or what they were of: the newest rows alone are looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import CTE, ColumnElement, Select, String, case, cast, func, literal, select, union_all
from sqlalchemy.engine import Connection

from ollama_router_server.storage.dialect import whole
from ollama_router_server.storage.log_filter import LogFilter
from ollama_router_server.storage.log_totals import DAY
from ollama_router_server.storage.schema import LONGEST_TOTALS_NAME, groups, memberships, request_log, users

__all__ = ["LOOKED_AT", "FirstToken", "FirstTokens", "read_first_tokens"]

LOOKED_AT: Final = 20_000
"""So many of the newest rows of a question are looked at, however many there are."""


class FirstToken(Struct, frozen=True):
    """Milliseconds that 50 and 95 of 100 requests stay within (nearest rank)."""

    p50: float
    p95: float


FirstTokens = Mapping[tuple[str, str], FirstToken]
"""By what a line is about (`user`, `group`, `model`, `server` or `day`) and its name; a day is its first second."""


def read_first_tokens(connection: Connection, chosen: LogFilter, *, most: int = LOOKED_AT) -> FirstTokens:
    """Percentiles of the newest `most` rows of a filter that have a first byte."""
    newest = _newest(connection.dialect.name, chosen, most)
    parts = [_percentiles(newest, kind) for kind in ("user", "group", "model", "server", "day")]
    return {(kind, name): FirstToken(p50, p95) for kind, name, p50, p95 in connection.execute(union_all(*parts))}


def _newest(backend: str, chosen: LogFilter, most: int) -> CTE:
    columns = request_log.c
    second = whole(backend, columns.started_at)
    wanted = (
        select(
            columns.user, columns.model_served, columns.model_asked, columns.server, columns.ttft_ms, second.label("s")
        )
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
        "day": cast(wanted.c.s - wanted.c.s % DAY, String),
    }  # fmt: skip
    shown = (func.substr(func.coalesce(of, ""), 1, LONGEST_TOTALS_NAME).label(name) for name, of in names.items())
    joined = rows.outerjoin(groups, groups.c.id == memberships.c.group_id)
    return select(wanted.c.ttft_ms, *shown).select_from(joined).cte("newest")


def _percentiles(rows: CTE, kind: str) -> Select[Any]:
    name, time = rows.c[kind], rows.c.ttft_ms
    ranked = select(
        name.label("name"),
        time.label("ms"),
        func.row_number().over(partition_by=name, order_by=time).label("place"),
        func.count().over(partition_by=name).label("all"),
    ).subquery()

    def within(percent: int) -> ColumnElement[float]:
        return func.min(case((ranked.c.place * 100 >= ranked.c["all"] * percent, ranked.c.ms)))

    return select(literal(kind), ranked.c.name, within(50), within(95)).group_by(ranked.c.name)
