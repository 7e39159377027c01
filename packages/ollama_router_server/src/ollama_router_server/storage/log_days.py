"""One day of the request log, counted by server, model and the steps in which requests began, were served and ended."""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy.engine import Connection

from ollama_router_server.storage.dialect import whole
from ollama_router_server.storage.log_filter import IS_COLD, IS_ERROR
from ollama_router_server.storage.log_totals import DAY
from ollama_router_server.storage.schema import request_log

__all__ = ["MOST_GROUPS", "STEP", "STEPS", "DayGroup", "read_day"]

STEP: Final = 120
"""Seconds per step of a day."""
STEPS: Final = DAY // STEP
_BEFORE: Final = 3_600
"""Seconds before the day from which requests are read too, as they may reach into it."""
_WAITED_MS: Final = 1_000
MOST_GROUPS: Final = 50_000
"""The most groups read for a day; more would occupy the router for too long."""


class DayGroup(Struct, frozen=True, kw_only=True):
    """Requests of one server and model that began, were served and ended in the same steps of the day.

    Steps count from 0 at the day's start; earlier ones are 0 or negative. `waited` is True for requests that were
    queued for at least a second; `server` is None for requests that no server served.
    """

    server: str | None
    model: str | None
    waited: bool
    began: int
    served: int
    ended: int
    requests: int
    errors: int
    loads: int


def read_day(connection: Connection, begin: int) -> tuple[DayGroup, ...]:
    """Count the requests of the day that begins at `begin` (seconds since 1970)."""
    columns = request_log.c
    served = columns.started_at + func.coalesce(columns.queue_ms, 0) / 1000
    moments = {"began": columns.started_at, "served": served, "ended": columns.started_at + columns.total_ms / 1000}
    keys = {
        "server": columns.server,
        "model": func.coalesce(columns.model_served, columns.model_asked),
        "waited": case((columns.queue_ms >= _WAITED_MS, 1), else_=0),
        **{name: _step(connection.dialect.name, moment, begin) for name, moment in moments.items()},
    }
    counts = {"requests": func.count(), "errors": _count(IS_ERROR), "loads": _count(IS_COLD)}
    query = select(*(column.label(name) for name, column in {**keys, **counts}.items()))
    of_day = columns.started_at >= begin - _BEFORE, columns.started_at < begin + DAY
    rows = connection.execute(query.where(*of_day).group_by(*keys).order_by("began").limit(MOST_GROUPS))
    return tuple(DayGroup(**{**row, "waited": bool(row["waited"])}) for row in rows.mappings())


def _step(backend: str, moment: ColumnElement[float], begin: int) -> ColumnElement[int]:
    return whole(backend, (moment - begin) / STEP)


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)
