"""Requests per step: `GET /router/series`."""

from __future__ import annotations

from typing import Final, cast, get_args

from falcon.asgi import Request

from ollama_router_core.errors import InvalidBody
from ollama_router_server.admin.views.series import HOURS, SeriesView, Span, series_of_hours, series_of_minutes
from ollama_router_server.coordination.worker_sync import WorkerSync
from ollama_router_server.services import Services

__all__ = ["Series", "read_span"]

_HOUR: Final = 3_600
_KEPT: Final = 15.0
"""Seconds for which hours of the log are cached: a live page reads twice a second."""


class Series:
    """Series for this process: the last hour from all workers' counts, days and weeks from the log."""

    def __init__(self, services: Services, sync: WorkerSync) -> None:
        self._services = services
        self._sync = sync
        self._read: dict[Span, tuple[float, SeriesView]] = {}

    async def find(self, span: Span) -> SeriesView:
        """Return the series up to now; those of a day or week are at most 15 seconds old.

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


def read_span(request: Request) -> Span:
    """Parse the span in the query, by default an hour.

    Raises:
        InvalidBody: it is not a span.
    """
    text = request.get_param("span", default="hour")
    if text not in get_args(Span):
        raise InvalidBody(f"span must be one of {', '.join(get_args(Span))}")
    return cast("Span", text)
