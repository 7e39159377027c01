"""Totals of the request log as CSV: `GET /router/usage.csv`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Final, cast

from falcon.asgi import Request, Response

from ollama_router_core.errors import LimitExceeded
from ollama_router_server.admin.csv_lines import csv_lines
from ollama_router_server.admin.query_parameters import read_choice, read_moment
from ollama_router_server.admin.token_access import READERS
from ollama_router_server.admin.usage_groups import groups_of_members, series_by_group
from ollama_router_server.admin.views.usage import BY, By, currency_of
from ollama_router_server.services import Services
from ollama_router_server.storage.identities import User
from ollama_router_server.storage.log_series import LogSeries, SeriesRow
from ollama_router_server.storage.log_totals import DAY, FIGURES, HOUR, Dimension

__all__ = ["STEPS", "Exports", "UsageExportResource"]

_DIMENSIONS: Final[dict[By, Dimension]] = {
    "user": "user", "group": "user", "model": "model", "server": "server", "host": "server", "day": "server",
}  # fmt: skip
_SUMMED: Final = frozenset({"group", "day"})
_COUNTS: Final = tuple(name for name in FIGURES if name != "cost_micros")
STEPS: Final = {"day": DAY, "hour": HOUR}
_AGAIN_AFTER: Final = 5.0  # seconds


class Exports:
    """Limits exports to one at a time per token, and thus per session that the token opened."""

    def __init__(self) -> None:
        self._running: set[int] = set()

    async def only_one(self, token_id: int, lines: AsyncIterator[str]) -> AsyncIterator[bytes]:
        """Stream lines; until they end, `check` rejects another export of the token."""
        self._running.add(token_id)
        try:
            async for piece in lines:
                yield piece.encode("utf-8", "replace")
        finally:
            self._running.discard(token_id)

    def check(self, token_id: int) -> None:
        """Reject a second export.

        Raises:
            LimitExceeded: the token's previous export is still running.
        """
        if token_id in self._running:
            raise LimitExceeded("another export of yours is not finished", retry_after=_AGAIN_AFTER)


class UsageExportResource:
    """`GET /router/usage.csv[?by=user|group|model|server|host|day][&step=day|hour][&since=SECONDS][&before=SECONDS]`.

    One line per step (UTC) and name; the first and the last step are whole. Users count for their current group, hosts
    are the current external ones, by day there is no name. Costs are included if a model has a price.
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

    async def _lines(self, by: By, chosen: LogSeries) -> AsyncIterator[str]:
        currency, hosts = currency_of(self._services.config), self._services.config.external_hosts
        pieces: AsyncIterator[Sequence[SeriesRow]] = self._services.request_log.series(chosen)
        if by in _SUMMED:
            groups = await self._services.groups.list() if by == "group" else ()
            pieces = series_by_group(pieces, groups_of_members(groups))
        yield csv_lines([("from", by, *_COUNTS, *(("cost", "currency") if currency else ()))])
        async for rows in pieces:
            yield csv_lines(_cells(row, chosen.step, currency) for row in rows if by != "host" or row.name in hosts)


def _chosen(request: Request) -> tuple[By, LogSeries]:
    by, step = read_choice(request, "by", BY) or "user", read_choice(request, "step", STEPS) or "day"
    return by, LogSeries(
        dimension=_DIMENSIONS[by],
        step=STEPS[step],
        since=read_moment(request, "since"),
        before=read_moment(request, "before"),
    )


def _cells(row: SeriesRow, step: int, currency: str | None) -> tuple[object, ...]:
    start = datetime.fromtimestamp(row.start, UTC).strftime("%Y-%m-%d" if step == DAY else "%Y-%m-%dT%H:%MZ")
    cost = (f"{row.cost_micros / 1e6:.6f}", currency) if currency else ()
    return (start, row.name, *(getattr(row, name) for name in _COUNTS), *cost)
