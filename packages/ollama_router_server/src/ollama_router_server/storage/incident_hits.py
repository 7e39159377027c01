"""The requests that an incident hit, counted from the request log when somebody looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from sqlalchemy import ColumnElement, case, func, or_, select
from sqlalchemy.engine import Connection

from ollama_router_server.storage.log_filter import IS_ERROR
from ollama_router_server.storage.schema import incidents, request_log

__all__ = ["Hit", "count_hits"]

_COUNTED_SECONDS: Final = 3_600.0
_LOOKED_BACK: Final = 600.0


class Hit(Struct, frozen=True):
    """Requests that failed in an incident's first hour, at its server and for its model, and of how many users."""

    requests: int
    users: int


def count_hits(connection: Connection, ids: Sequence[int]) -> dict[int, Hit]:
    """Count by what was under way; a request that began ten minutes before or earlier is not looked for."""
    one, row = incidents.c, request_log.c
    first_hour = one.began_at + _COUNTED_SECONDS
    until = case((one.ended_at < first_hour, one.ended_at), else_=first_hour)
    ended = row.started_at + row.total_ms / 1000
    during = (row.started_at >= one.began_at - _LOOKED_BACK) & (row.started_at <= until) & (ended >= one.began_at)
    there = (row.server == one.server) & _of_model(one.model, func.lower(row.model_served))
    query = select(one.id, func.count(row.seq), func.count(row.user.distinct()))
    query = query.select_from(incidents.outerjoin(request_log, during & there & IS_ERROR))
    counted = connection.execute(query.where(one.id.in_(ids)).group_by(one.id))
    return {number: Hit(int(requests), int(users)) for number, requests, users in counted}


def _of_model(model: ColumnElement[str], served: ColumnElement[str]) -> ColumnElement[bool]:
    return or_(model == "", served == model, served == model + ":latest")
