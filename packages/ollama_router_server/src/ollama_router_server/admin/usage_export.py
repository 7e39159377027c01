"""Totals of the request log as a file: `GET /router/usage.csv`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Final, cast, get_args

from falcon.asgi import Request, Response

from ollama_router_core.errors import InvalidBody, LimitExceeded
from ollama_router_server.admin.access import READERS
from ollama_router_server.admin.bodies import moment
from ollama_router_server.admin.csv_lines import csv_lines
from ollama_router_server.admin.usage_groups import groups_of_members, series_by_group
from ollama_router_server.services import Services
from ollama_router_server.storage.identities import User
from ollama_router_server.storage.log_series import LogSeries, SeriesRow
from ollama_router_server.storage.log_totals import DAY, FIGURES, HOUR, Dimension

__all__ = ["BY", "STEPS", "Exports", "UsageExportResource"]

_GROUP: Final = "group"
BY: Final = (*get_args(Dimension), _GROUP)
"""What a line may be about."""
STEPS: Final = {"day": DAY, "hour": HOUR}
_AGAIN_AFTER: Final = 5.0  # seconds


class Exports:
    """One export at a time for each token, and so for each session that a token has opened."""

    def __init__(self) -> None:
        self._running: set[int] = set()

    async def only_one(self, token_id: int, lines: AsyncIterator[str]) -> AsyncIterator[bytes]:
        """Pass lines on; until they end, `check` refuses another export of the token."""
        self._running.add(token_id)
        try:
            async for piece in lines:
                yield piece.encode("utf-8", "replace")
        finally:
            self._running.discard(token_id)

    def check(self, token_id: int) -> None:
        """Refuse an export beside another.

        Raises:
            LimitExceeded: the token's last export has not ended.
        """
        if token_id in self._running:
            raise LimitExceeded("another export of yours is not finished", retry_after=_AGAIN_AFTER)


class UsageExportResource:
    """`GET /router/usage.csv[?by=user|group|model|server][&step=day|hour][&since=SECONDS][&before=SECONDS]`.

    A line for each step (UTC) and name; the first and the last step are whole. Users count for the group of now.
    """

    roles = READERS

    def __init__(self, services: Services, exports: Exports) -> None:
        self._services = services
        self._exports = exports

    async def on_get(self, request: Request, response: Response) -> None:
        """Stream the lines."""
        by, chosen, user = *_chosen(request), cast("User", request.context.user)
        self._exports.check(user.token_id)
        response.content_type = "text/csv; charset=utf-8"
        response.set_header("cache-control", "no-store")
        response.set_header("content-disposition", f'attachment; filename="usage-by-{by}.csv"')
        response.stream = self._exports.only_one(user.token_id, self._lines(by, chosen))

    async def _lines(self, by: str, chosen: LogSeries) -> AsyncIterator[str]:
        yield csv_lines([("from", by, *FIGURES)])
        pieces: AsyncIterator[Sequence[SeriesRow]] = self._services.request_log.series(chosen)
        if by == _GROUP:
            pieces = series_by_group(pieces, groups_of_members(await self._services.groups.list()))
        async for rows in pieces:
            yield csv_lines(_cells(row, chosen.step) for row in rows)


def _chosen(request: Request) -> tuple[str, LogSeries]:
    by, step = request.get_param("by", default="user"), request.get_param("step", default="day")
    if by not in BY:
        raise InvalidBody(f"by must be one of {', '.join(BY)}")
    if step not in STEPS:
        raise InvalidBody(f"step must be one of {', '.join(STEPS)}")
    return by, LogSeries(
        dimension="user" if by == _GROUP else cast("Dimension", by),
        step=STEPS[step],
        since=moment(request.get_param("since")),
        before=moment(request.get_param("before"), "before"),
    )


def _cells(row: SeriesRow, step: int) -> tuple[object, ...]:
    start = datetime.fromtimestamp(row.start, UTC).strftime("%Y-%m-%d" if step == DAY else "%Y-%m-%dT%H:%MZ")
    return (start, row.name, *(getattr(row, name) for name in FIGURES))
