"""The periodic work of a worker among several: beat, read news, publish its figures.

Prometheus figures, the minutes of the last hour and the requests in flight are published about once a second. A worker
that answers a query adds its own current values to the others' published ones. A restarted worker adds the totals of
its predecessor's page, so that sums do not fall.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import structlog

from ollama_router_core.coordination.interface import Coordination
from ollama_router_core.coordination.news import News
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.system import Clock
from ollama_router_server.telemetry.last_hour import Minute, Row, add_up_minutes, minutes_of
from ollama_router_server.telemetry.metric_aggregation import Family, add_up, counted
from ollama_router_server.telemetry.server_hour import ServerHour, ServerRow, add_up_server_rows, servers_of

__all__ = ["WorkerSync"]

_FIGURES = "figures"
_ACTIVE = "active"
_LAST_HOUR = "last_hour"
_SERVERS = "servers"
_AT = "at"
_BEAT = 0.25
_PUBLISH = 1.0
_SILENT = 5.0
"""Seconds without publication after which a worker is considered silent."""
_SOONEST = 0.02
"""Minimum seconds between two beats."""

_log = structlog.get_logger(__name__)


class WorkerSync:
    """This worker among the others. Start it on a running event loop; with a single worker it does nothing.

    Args:
        coordination: the state shared by the workers.
        clock: times the beats.
        collect: return this process's current figures.
        last_hour: return this process's minutes, as `LastHour` does.
        servers_hour: return its sums by server up to a time in seconds since 1970.
        active_requests: return this process's requests in flight, as JSON.
        find_active: return a request in flight by its id, with the record that it would write now.
        follow: called four times a second with the others' news.
    """

    def __init__(
        self,
        coordination: Coordination,
        clock: Clock,
        *,
        collect: Callable[[], list[Family]],
        last_hour: Callable[[], list[Row]],
        servers_hour: Callable[[float], list[ServerRow]],
        active_requests: Callable[[], list[dict[str, Any]]],
        find_active: Callable[[str], tuple[dict[str, Any], RequestRecord] | None],
        follow: Callable[[list[News]], None],
    ) -> None:
        self._coordination = coordination
        self._clock = clock
        self._collect = collect
        self._last_hour = last_hour
        self._servers_hour = servers_hour
        self._active_requests = active_requests
        self._find_active = find_active
        self._follow = follow
        predecessor = _read(coordination.own_page())
        self._inherited = counted(_families(predecessor))
        self._inherited_hour: list[Row] = predecessor.get(_LAST_HOUR, [])
        self._inherited_servers: list[ServerRow] = predecessor.get(_SERVERS, [])
        self._task: asyncio.Task[None] | None = None
        self._soon = asyncio.Event()

    def start(self) -> None:
        """Start to follow and to publish."""
        if self._coordination.shares:
            self._coordination.on_change(self.soon)
            self._task = asyncio.create_task(self._run(), name="worker-sync")

    async def aclose(self) -> None:
        """Publish once more and stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._publish()
            await self._coordination.leave()

    def soon(self) -> None:
        """Beat as soon as possible: another member has news."""
        self._soon.set()

    def figures(self) -> list[Family]:
        """Return the sums of the figures of all workers."""
        return add_up([self._own(), *map(_families, self._others())])

    def active_requests(self) -> list[dict[str, Any]]:
        """Return the requests in flight in all workers that are not silent; others' are up to a second old."""
        return [row for one in ({_ACTIVE: self._active_requests()}, *self._heard()) for row in one.get(_ACTIVE, ())]

    def find_active(self, request_id: str) -> tuple[dict[str, Any], RequestRecord | None] | None:
        """Find a request in flight; if it is in this worker, also return the record that it would write now.

        Of other workers, only the 200 oldest are known, up to a second late; of other routers, none.
        """
        found = self._find_active(request_id)
        if found is not None:
            return found
        others = (row for one in self._heard() for row in one.get(_ACTIVE, ()) if row["id"] == request_id)
        return next(((row, None) for row in others), None)

    def last_hour(self) -> list[Minute]:
        """Return the minutes of the last hour of all workers; others' are up to a second old."""
        others = [row for one in self._others() for row in one.get(_LAST_HOUR, ())]
        return minutes_of([*self._own_hour(), *others], self._clock.wall())

    def servers_hour(self) -> Mapping[str, ServerHour]:
        """Return each server's last hour in all workers; others' are up to a second old."""
        others = [row for one in self._others() for row in one.get(_SERVERS, ())]
        return servers_of([*self._own_servers(), *others], self._clock.wall())

    @property
    def workers(self) -> tuple[int, int]:
        """The number of workers that are not silent, this one included, and the number of all workers."""
        return 1 + len(self._heard()), self._coordination.size

    def _others(self) -> list[dict[str, Any]]:
        return [_read(page) for page in self._coordination.pages()]

    def _heard(self) -> list[dict[str, Any]]:
        """Return the pages of workers that are not silent; requests of a worker that is gone have ended."""
        oldest = self._clock.monotonic() - _SILENT
        return [one for one in self._others() if one.get(_AT, oldest) > oldest]

    def _own(self) -> list[Family]:
        return add_up([self._collect(), self._inherited])

    def _own_hour(self) -> list[Row]:
        return add_up_minutes([*self._last_hour(), *self._inherited_hour])

    def _own_servers(self) -> list[ServerRow]:
        now = self._clock.wall()
        return add_up_server_rows([*self._servers_hour(now), *self._inherited_servers], now)

    async def _run(self) -> None:
        published = float("-inf")
        while True:
            now = self._clock.monotonic()
            try:
                await self._coordination.beat(now)
                self._follow(self._coordination.news())
                if now - published >= _PUBLISH:
                    published = now
                    self._publish()
            except Exception:  # noqa: BLE001 - requests continue, whatever fails here
                _log.exception("worker_sync_failed")
            with suppress(TimeoutError):
                async with asyncio.timeout(_BEAT):
                    await self._soon.wait()
            self._soon.clear()
            await asyncio.sleep(max(0.0, now + _SOONEST - self._clock.monotonic()))

    def _publish(self) -> None:
        page = {
            _AT: self._clock.monotonic(),
            _FIGURES: self._own(),
            _LAST_HOUR: self._own_hour(),
            _SERVERS: self._own_servers(),
            _ACTIVE: self._active_requests(),
        }
        self._coordination.publish(json.dumps(page).encode())


def _read(page: bytes) -> dict[str, Any]:
    """Parse a worker's page; return an empty dict if it has not published yet."""
    try:
        found: dict[str, Any] = json.loads(page)
    except ValueError:
        return {}
    return found


def _families(found: dict[str, Any]) -> list[Family]:
    return [(name, text, kind, samples) for name, text, kind, samples in found.get(_FIGURES, ())]
