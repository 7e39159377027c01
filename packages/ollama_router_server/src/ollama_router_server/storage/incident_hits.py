"""The requests affected by an incident, counted from the request log on demand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from sqlalchemy import ColumnElement, case, func, or_, select
from sqlalchemy.engine import Connection

from ollama_router_server.storage.log_filter import IS_ERROR
from ollama_router_server.storage.schema import incidents, request_log

__all__ = ["OF_REFUSED", "Hit", "count_hits"]

OF_REFUSED: Final = ("line.full", "requests.refused")
"""Kinds of incident that affect requests that reached no server."""
_COUNTED_SECONDS: Final = 3_600.0
_LOOKED_BACK: Final = 600.0


class Hit(Struct, frozen=True):
    """Requests that failed in an incident's first hour, and the number of their users.

    They are requests to its server for its model; for `OF_REFUSED`, logged requests that reached no server.
    """

    requests: int
    users: int


def count_hits(connection: Connection, ids: Sequence[int]) -> dict[int, Hit]:
    """Count failed requests by incident id; ignore requests that began more than ten minutes before the incident."""
    one, row = incidents.c, request_log.c
    first_hour = one.began_at + _COUNTED_SECONDS
    until = case((one.ended_at < first_hour, one.ended_at), else_=first_hour)
    ended = row.started_at + row.total_ms / 1000
    during = (row.started_at >= one.began_at - _LOOKED_BACK) & (row.started_at <= until) & (ended >= one.began_at)
    there = (row.server == one.server) & _of_model(one.model, func.lower(row.model_served))
    refused = row.server.is_(None) & (row.attempts == 0) & ((row.status == 429) | (row.status >= 500))
    counted: dict[int, Hit] = {}
    for hit, chosen in ((there, one.server != ""), (refused, one.kind.in_(OF_REFUSED))):
        query = select(one.id, func.count(row.seq), func.count(row.user.distinct()))
        query = query.select_from(incidents.outerjoin(request_log, during & hit & IS_ERROR))
        found = connection.execute(query.where(one.id.in_(ids), chosen).group_by(one.id))
        counted |= {number: Hit(int(requests), int(users)) for number, requests, users in found}
    return counted


def _of_model(model: ColumnElement[str], served: ColumnElement[str]) -> ColumnElement[bool]:
    return or_(model == "", served == model, served == model + ":latest")
