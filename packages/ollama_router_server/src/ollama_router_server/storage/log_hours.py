"""The request log by hour, from the totals alone; no row is read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from msgspec import Struct
from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from ollama_router_server.storage.log_totals import HOUR, starts_between
from ollama_router_server.storage.schema import log_latencies, log_totals

__all__ = ["HourSums", "read_hours"]


class HourSums(Struct, frozen=True, kw_only=True):
    """The requests that began in the hour from `start` (seconds since 1970).

    `first_token` counts them by milliseconds to the first token, rounded down to the bounds of bands.
    """

    start: int
    requests: int
    errors: int
    completion_tokens: int
    first_token: Mapping[int, int]


def read_hours(connection: Connection, since: int, before: int) -> tuple[HourSums, ...]:
    """Read the sums of the hours that begin in a time range, oldest first, without hours that have no requests."""
    totals, bands = log_totals.c, log_latencies.c
    sums = [func.sum(column) for column in (totals.requests, totals.errors, totals.completion_tokens)]
    hours = starts_between(connection, totals.start, HOUR, since, before)
    query = select(totals.start, *sums).where(totals.span == HOUR, hours, totals.dimension == "server")
    times = select(bands.start, bands.least_ms, bands.requests).where(
        bands.start >= since, bands.start < before, bands.measure == "ttft", bands.requests > 0
    )
    first_token: dict[int, dict[int, int]] = defaultdict(dict)
    for start, least_ms, requests in connection.execute(times):
        first_token[start][least_ms] = int(requests)
    return tuple(
        HourSums(
            start=start,
            requests=int(requests),
            errors=int(errors),
            completion_tokens=int(tokens),
            first_token=first_token[start],
        )
        for start, requests, errors, tokens in connection.execute(query.group_by(totals.start).order_by(totals.start))
        if requests
    )
