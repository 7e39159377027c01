"""Requests in flight: count, cancel and list them (`orouter top`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Protocol

from ollama_router_core.admission import WaitForecasts
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.events import Caller, Cancelled, Interruption, Queued, Revoked
from ollama_router_core.exchange.machine import Exchange
from ollama_router_core.fleet.stalls import Watched
from ollama_router_core.records.request_record import RequestRecord

__all__ = ["ActiveRequests"]

_MOST = 200


class ActiveExchange(Protocol):
    """The driver of one exchange."""

    @property
    def exchange(self) -> Exchange:
        """The exchange."""

    @property
    def queued(self) -> Queued | None:
        """The request's place in the queue now; None while it is not queued."""

    @property
    def rank(self) -> int:
        """The request's position in the queue now, from 1; 0 while it is not queued."""

    def interrupt(self, reason: Interruption) -> None:
        """End the exchange."""


class ActiveRequests:
    """Every exchange from its start until its record is written."""

    def __init__(self) -> None:
        self._active: dict[str, ActiveExchange] = {}
        self._forecasts = WaitForecasts()

    def __len__(self) -> int:
        return len(self._active)

    def add(self, driver: ActiveExchange) -> None:
        """Add an exchange that starts."""
        self._active[driver.exchange.context.id] = driver

    def remove(self, context: RequestContext) -> tuple[float, float] | None:
        """Remove an exchange that has ended; return its forecast wait as (least, most) seconds, None if unknown."""
        self._active.pop(context.id, None)
        if context.expected_wait_ms is None or context.decided is None or context.preempted:
            return None
        expected = context.expected_wait_ms / 1000
        least, most = self._forecasts.range(expected)
        self._forecasts.ended(expected, context.decided - context.started)
        return (least, most) if least < most else None

    def interrupt_all(self, reason: Callable[[], Interruption]) -> None:
        """End all exchanges."""
        for driver in tuple(self._active.values()):
            driver.interrupt(reason())

    def cancel(self, request_id: str, *, by: str) -> bool:
        """Cancel a request for the user `by`; return whether this process had it."""
        driver = self._active.get(request_id)
        if driver is not None:
            driver.interrupt(Cancelled(by))
        return driver is not None

    def interrupt_revoked(self, is_valid: Callable[[Caller], bool]) -> None:
        """End the exchanges whose users are no longer admitted."""
        for driver in tuple(self._active.values()):
            user = driver.exchange.context.user
            if user is not None and not is_valid(user):
                driver.interrupt(Revoked())

    def watched(self) -> Iterator[Watched]:
        """Yield what the exchanges in flight observe about the runners that serve them."""
        for driver in self._active.values():
            one = driver.exchange.context.watched
            if one is not None:
                yield one

    def to_json(self, now: float) -> list[dict[str, Any]]:
        """Return the oldest 200 requests of known users, oldest first; `now` is monotonic, in seconds.

        `state` is `waiting` for a server, `sent` to one, or `answering`. For a queued request, `queue_position` is its
        current position, and `starts_in_seconds` is the least and the most until it starts: the wait forecast at
        arrival, widened by the errors of earlier forecasts; below 0 it is overdue.
        `tokens` counts the response so far; None for an endpoint without text. `speaker` is the user whose token
        speaks for `user`.
        """
        known = (driver for driver in self._active.values() if _is_known(driver.exchange.context))
        return [self._to_json(driver, now) for driver in islice(known, _MOST)]

    def find(self, request_id: str, now: float) -> tuple[dict[str, Any], RequestRecord] | None:
        """Return one request as in `to_json`, with a current wait forecast, and the record it would write now."""
        driver = self._active.get(request_id)
        if driver is None:
            return None
        context, queued = driver.exchange.context, driver.queued
        if not _is_known(context):
            return None
        row = self._to_json(driver, now)
        if queued is not None and queued.position:
            row["queue_position"] = queued.position
            row["starts_in_seconds"] = tuple(round(one, 1) for one in self._forecasts.range(queued.expected_wait))
        return row, context.record(now)

    def _to_json(self, driver: ActiveExchange, now: float) -> dict[str, Any]:
        context = driver.exchange.context
        route, first_byte = context.route, context.first_byte
        return {
            "id": context.id,
            "started_at": context.started_at,
            "user": context.user.name if context.user else None,
            "speaker": context.speaker_name,
            "method": context.method,
            "path": context.endpoint.path if context.endpoint else None,
            "model": route.model_text if route else None,
            "pin": route.pin if route else None,
            "context": route.num_ctx if route else None,
            "server": context.server,
            "state": "answering" if first_byte is not None else "waiting" if context.server is None else "sent",
            "seconds": round(now - context.started, 1),
            "attempts": context.attempts,
            "decided_seconds": None if context.decided is None else round(context.decided - context.started, 3),
            "first_byte_seconds": None if first_byte is None else round(first_byte - context.started, 3),
            "queue_position": driver.rank or context.queue_position,
            "starts_in_seconds": self._starts_in(context, now),
            "streamed": route is not None and route.stream,
            "tokens": _tokens(context),
            "bytes_out": context.bytes_out,
        }

    def _starts_in(self, context: RequestContext, now: float) -> tuple[float, float] | None:
        """Return the range of seconds until a queued request starts; None if it has no forecast."""
        if context.server is not None or not context.queue_position or context.expected_wait_ms is None:
            return None
        least, most = self._forecasts.range(context.expected_wait_ms / 1000)
        waited = now - context.started
        return round(least - waited, 1), round(most - waited, 1)


def _is_known(context: RequestContext) -> bool:
    return context.user is not None and context.route is not None


def _tokens(context: RequestContext) -> int | None:
    if context.endpoint is None or not context.endpoint.writes_text:
        return None
    return 0 if context.usage is None else context.tokens.completion or 0
