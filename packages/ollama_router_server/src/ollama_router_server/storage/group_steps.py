"""Requests by group and hour or day, by the groups' current members."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from ollama_router_server.storage.dialect import give_room
from ollama_router_server.storage.log_totals import DAY, HOUR, spans_between
from ollama_router_server.storage.schema import groups, log_totals, memberships, users

__all__ = ["read_group_steps"]


def read_group_steps(
    connection: Connection, names: Sequence[str], *, since: float, before: float, step: int
) -> dict[str, dict[int, int]]:
    """Count the requests of these groups by the start of the hour or day.

    The first and the last day begin and end at whole hours. The database adds up: 10,000 users have 300,000 totals in
    a month.

    Args:
        connection: an open connection.
        names: the groups' names.
        since: seconds since 1970, rounded down to a whole hour.
        before: seconds since 1970, rounded up to a whole hour.
        step: `log_totals.HOUR` or `DAY`.
    """
    give_room(connection)
    first, end = int(since // HOUR) * HOUR, math.ceil(before / HOUR) * HOUR
    found: dict[str, dict[int, int]] = {name: {} for name in names}
    totals = log_totals.c
    query = (
        select(groups.c.name, totals.start, func.sum(totals.requests))
        .select_from(log_totals)
        .join(users, users.c.name == totals.name)
        .join(memberships, memberships.c.user_id == users.c.id)
        .join(groups, groups.c.id == memberships.c.group_id)
        .where(totals.dimension == "user", groups.c.name.in_(names))
        .group_by(groups.c.name, totals.start)
    )
    for span, starts in spans_between(first, end) if step == DAY else ((HOUR, range(first, end, HOUR)),):
        if starts:
            these = query.where(totals.span == span, totals.start.in_(starts))
            for name, start, requests in connection.execute(these):
                found[name][int(start)] = found[name].get(int(start), 0) + int(requests)
    return found
