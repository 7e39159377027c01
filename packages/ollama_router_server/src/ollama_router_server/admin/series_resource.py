"""Requests per step: `GET /router/series`."""

from __future__ import annotations

from typing import Final, cast, get_args

from falcon.asgi import Request

from ollama_router_core.errors import InvalidBody
from ollama_router_server.admin.views.series import HOURS, SeriesView, Span, series_of_hours, series_of_minutes
from ollama_router_server.coordination.worker_sync import WorkerSync
from ollama_router_server.services import Services

__all__ = ["Series", "asked_span"]

_HOUR: Final = 3_600
_KEPT: Final = 15.0
"""Seconds for which hours of the log are not read again: a page that follows the router asks twice a second."""


class Series:
    """Series of this process: the last hour as all workers count it, days and weeks as the log has them."""

    def __init__(self, services: Services, sync: WorkerSync) -> None:
        self._services = services
        self._sync = sync
        self._read: dict[Span, tuple[float, SeriesView]] = {}

    async def find(self, span: Span) -> SeriesView:
        """Find the series until now; of a day or week as of at most 15 seconds ago.

        Raises:
            StorageUnavailable: the database cannot answer.
        """
        clock = self._services.clock
        if span == "hour":
            return series_of_minutes(self._sync.last_hour(), clock.wall())
        read, kept = self._read.get(span, (None, None))
        if kept is not None and read is not None and clock.monotonic() - read < _KEPT:
            return kept
        began, now = clock.monotonic(), clock.wall()
        first = (int(now // _HOUR) - HOURS[span] + 1) * _HOUR
        view = series_of_hours(span, await self._services.request_log.hours(first, int(now) + 1), now)
        self._read[span] = began, view
        return view


def asked_span(request: Request) -> Span:
    """Parse the span that the query asks for, an hour without one.

    Raises:
        InvalidBody: it is none.
    """
    text = request.get_param("span", default="hour")
    if text not in get_args(Span):
        raise InvalidBody(f"span must be one of {', '.join(get_args(Span))}")
    return cast("Span", text)
