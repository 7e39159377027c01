"""News between the workers of a router and the routers of a fleet, and the reactions to them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping

from ollama_router_core.coordination.interface import NO_HEADS, Coordination, Figure
from ollama_router_core.coordination.news import News, RequestEnded, RequestsRefused, TokenVerified, TurnsTaken
from ollama_router_core.exchange.admission_controller import AdmissionController
from ollama_router_server.accounts.authentication import Authenticator
from ollama_router_server.coordination.worker_sync import WorkerSync
from ollama_router_server.fleet.fleet_service import FleetService
from ollama_router_server.fleet.incident_reports import Incidents
from ollama_router_server.relay.relay import Relay
from ollama_router_server.storage.database_sink import DatabaseSink
from ollama_router_server.system import Clock
from ollama_router_server.telemetry.metrics import Metrics
from ollama_router_server.telemetry.server_hour import ServerHour

__all__ = ["WorkerNews"]


class WorkerNews:
    """Apply others' news, and publish this process's queue, refusals and log figures."""

    def __init__(
        self,
        coordination: Coordination,
        *,
        fleet: FleetService,
        incidents: Incidents,
        authenticator: Authenticator,
        admission: AdmissionController,
        sink: DatabaseSink,
        refused: Counter[str],
    ) -> None:
        self._coordination = coordination
        self._fleet = fleet
        self._incidents = incidents
        self._authenticator = authenticator
        self._admission = admission
        self._sink = sink
        self._refused, self._refused_published = refused, Counter[str]()
        self.refused_elsewhere = Counter[str]()
        """Requests that others refused since this process started, by error code."""
        self._announcing: asyncio.Handle | None = None
        self._announced = False
        admission.on_change(self._queue_changed)
        self._relay: Relay | None = None
        self.sync: WorkerSync | None = None
        """Set by `join`."""

    def join(self, clock: Clock, metrics: Metrics, relay: Relay) -> WorkerSync:
        """Create the `WorkerSync` with the other workers. Call it before `start`.

        Args:
            clock: times the beats.
            metrics: this process's metrics.
            relay: provides the requests in flight.
        """
        self._relay = relay
        self.sync = WorkerSync(
            self._coordination,
            clock,
            collect=metrics.families,
            last_hour=metrics.last_hour.rows,
            servers_hour=metrics.last_hour.server_rows,
            active_requests=relay.active_requests,
            find_active=relay.find_active,
            follow=self._follow,
        )
        return self.sync

    @property
    def joined(self) -> WorkerSync:
        """The `WorkerSync`, once `join` was called.

        Raises:
            RuntimeError: `join` was not called.
        """
        if self.sync is None:
            raise RuntimeError("the worker has not joined the others")
        return self.sync

    def start(self) -> None:
        """Start to follow the others; needs a running event loop."""
        if self.sync is not None:
            self.sync.start()

    def _queue_changed(self) -> None:
        """Announce the queue in the loop's next iteration, not at the next beat: before a granted slot is released."""
        waiting = self._admission.waiting
        if self._announcing is None and self._coordination.asks and (waiting or self._announced):
            self._announcing = asyncio.get_running_loop().call_soon(self._announce)

    def _announce(self) -> None:
        if self._announcing is not None:
            self._announcing.cancel()
            self._announcing = None
        self._announced = bool(self._admission.waiting)
        self._fleet.waits(
            *self._admission.view.longest_wait(), self._admission.view.heads() if self._coordination.asks else NO_HEADS
        )

    async def aclose(self) -> None:
        """Stop; the last published values stay visible to the others."""
        if self._announcing is not None:
            self._announcing.cancel()
        if self.sync is not None:
            await self.sync.aclose()

    def cancel(self, request_id: str, *, by: str) -> None:
        """Cancel a request for the user `by`, in whichever worker it runs."""
        if not self._cancel_here(request_id, by=by):
            self._coordination.tell(RequestEnded(request_id, by))

    def _cancel_here(self, request_id: str, *, by: str) -> bool:
        return self._relay is not None and self._relay.cancel(request_id, by=by)

    def servers_hour(self) -> Mapping[str, ServerHour]:
        """Return each server's last hour, over all workers."""
        return {} if self.sync is None else self.sync.servers_hour()

    def figures(self) -> dict[str, int]:
        """Return the requests waiting, records dropped and records pending, over all workers."""
        self._show_figures()
        return {figure.value: self._coordination.total(figure) for figure in Figure}

    def _follow(self, news: list[News]) -> None:
        """Apply the other workers' news, and publish this process's state."""
        self._fleet.follow(news)
        self._incidents.hear(news)
        self._incidents.look()
        for one in news:
            if isinstance(one, TokenVerified):
                self._authenticator.hear(one)
            elif isinstance(one, RequestEnded):
                self._cancel_here(one.id, by=one.by)
            elif isinstance(one, RequestsRefused):
                self.refused_elsewhere.update(one.counts)
            elif isinstance(one, TurnsTaken):
                self._admission.hear_turns(one.moments)
        self._publish_refused()
        self._publish_turns()
        if self._admission.waiting and self._coordination.asks:
            self._admission.facts_changed()
        self._announce()
        self._show_figures()

    def _publish_refused(self) -> None:
        new = self._refused - self._refused_published
        if new and self._coordination.shares:
            self._refused_published.update(new)
            self._coordination.tell(RequestsRefused(dict(new)))

    def _publish_turns(self) -> None:
        """Share users' turns with all routers, but only while requests wait there."""
        turns = self._admission.turns_taken()
        if turns and self._coordination.others_wait:
            self._coordination.tell(TurnsTaken(turns))

    def _show_figures(self) -> None:
        self._coordination.show(Figure.WAITING, self._admission.waiting)
        self._coordination.show(Figure.DROPPED, self._sink.dropped)
        self._coordination.show(Figure.PENDING, self._sink.pending)
