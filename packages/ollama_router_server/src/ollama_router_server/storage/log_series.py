"""Totals of the request log by day or hour and by name, read in pieces: a year of many users is a long list."""

from __future__ import annotations

import math
from typing import Final

from msgspec import Struct
from sqlalchemy import select, tuple_
from sqlalchemy.engine import Connection

from ollama_router_server.storage.log_totals import FIGURES, NO_END, Dimension, Usage, by_name, starts_between
from ollama_router_server.storage.schema import log_totals

__all__ = ["LogSeries", "SeriesRow", "read_series"]

AT_ONCE: Final = 1_000


class LogSeries(Struct, frozen=True, kw_only=True):
    """Conditions on totals: of users, models or servers, in steps of `log_totals.HOUR` or `DAY` seconds.

    `since` and `before` are seconds since 1970, None for no bound; their steps are included whole, but a step that
    starts at `before` is excluded. `names` selects names; None selects all.
    """

    dimension: Dimension
    step: int
    since: float | None = None
    before: float | None = None
    names: tuple[str, ...] | None = None


class SeriesRow(Usage, frozen=True, kw_only=True):
    """The totals of one name in one step; `start` is seconds since 1970, `name` None for no name."""

    start: int
    name: str | None


def read_series(connection: Connection, chosen: LogSeries, after: SeriesRow | None) -> tuple[SeriesRow, ...]:
    """Read at most `AT_ONCE` rows ordered by time and name, after `after`; steps without requests have no row."""
    columns = log_totals.c
    key = tuple_(columns.start, columns.name)
    query = select(columns.start, columns.name, *(columns[name] for name in FIGURES))
    query = query.where(columns.span == chosen.step, columns.dimension == chosen.dimension, columns.requests > 0)
    first = 0 if chosen.since is None else int(chosen.since // chosen.step) * chosen.step
    end = NO_END if chosen.before is None else math.ceil(chosen.before)
    if chosen.names is None:
        query = query.where(columns.start >= first, columns.start < end)
    else:  # by the key, else the rows of every user in each step are read
        steps = starts_between(connection, columns.start, chosen.step, first, end)
        query = query.where(steps, columns.name.in_(chosen.names))
    if after is not None:
        query = query.where(columns.start >= after.start, key > tuple_(after.start, after.name or ""))
    rows = connection.execute(query.order_by(columns.start, columns.name).limit(AT_ONCE))
    return tuple(SeriesRow(start=start, name=name or None, **by_name(figures)) for start, name, *figures in rows)
