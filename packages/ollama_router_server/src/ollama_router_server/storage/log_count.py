"""Counting the rows of a filter without reading those of whole hours."""

from __future__ import annotations

import math

from msgspec.structs import replace
from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from ollama_router_server.storage.log_filter import LogFilter
from ollama_router_server.storage.log_totals import DAY, HOUR, ends_of, spans_between
from ollama_router_server.storage.schema import log_totals, request_log

__all__ = ["read_count"]


def read_count(connection: Connection, chosen: LogFilter) -> int | None:
    """Count the rows of a filter: whole hours from the totals, the remainder from the log, by an index.

    Return None if only a scan of the log could tell.
    """
    if not chosen.is_summed:
        return None
    begun, ended = ends_of(connection, DAY)
    since, before = max(chosen.since or 0.0, begun), min(math.inf if chosen.before is None else chosen.before, ended)
    if since >= before:
        return 0
    first, end = math.ceil(since / HOUR) * HOUR, int(before // HOUR) * HOUR
    beside = [(since, before)] if first > end else [(a, b) for a, b in ((since, first), (end, before)) if a < b]
    if beside and not chosen.is_indexed:
        return None
    rows = (replace(chosen, since=float(a), before=float(b)) for a, b in beside)
    return _summed(connection, chosen, first, end) + sum(_counted(connection, one) for one in rows)


def _summed(connection: Connection, chosen: LogFilter, first: int, end: int) -> int:
    """Add up the totals of the hours between two times, by the key: each hour has totals of thousands of users."""
    columns = log_totals.c
    dimension, name = ("server", chosen.server) if chosen.user is None else ("user", chosen.user)
    ours = [columns.dimension == dimension, *([] if name is None else [columns.name == name])]
    query, total = select(func.coalesce(func.sum(columns.requests), 0)).where(*ours), 0
    for span, starts in spans_between(first, end):
        if starts:
            these = query.where(columns.span == span, columns.start.in_(starts))
            total += int(connection.execute(these).scalar_one())
    return total


def _counted(connection: Connection, chosen: LogFilter) -> int:
    query = select(func.count()).select_from(request_log).where(*chosen.conditions())
    return int(connection.execute(query).scalar_one())
