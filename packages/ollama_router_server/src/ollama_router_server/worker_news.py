"""What the workers of a router, and routers of a fleet, are told of each other and do because of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping

from ollama_router_core.coordination import (
    NO_HEADS,
    Coordination,
    Figure,
    News,
    RequestEnded,
    RequestsRefused,
    TokenVerified,
    TurnsTaken,
)
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
    """Takes up what others tell, and shows them what they cannot see: what waits here, rows of the log, refusals."""

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
        self._refused, self._refused_told = refused, Counter[str]()
        self.refused_elsewhere = Counter[str]()
        """Requests that others refused since this process started, by error code."""
        self._announcing: asyncio.Handle | None = None
        self._announced = False
        admission.on_change(self._queue_changed)
        self._relay: Relay | None = None
        self.sync: WorkerSync | None = None
        """Set by `join`."""

    def join(self, clock: Clock, metrics: Metrics, relay: Relay) -> WorkerSync:
        """Begin to share with the other workers what is asked of all. To be called before `start`.

        Args:
            clock: for signs of life.
            metrics: of this process.
            relay: has its requests in progress.
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
        """What this worker shares with the others, once it has joined them.

        Raises:
            RuntimeError: it has not.
        """
        if self.sync is None:
            raise RuntimeError("the worker has not joined the others")
        return self.sync

    def start(self) -> None:
        """Begin to follow the others; needs a running event loop."""
        if self.sync is not None:
            self.sync.start()

    def _queue_changed(self) -> None:
        """Have others know who waits here now, not with the next beat: before a slot is given back that was granted."""
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
        """Stop; the others see what was published last."""
        if self._announcing is not None:
            self._announcing.cancel()
        if self.sync is not None:
            await self.sync.aclose()

    def cancel(self, request_id: str, *, by: str) -> None:
        """End a request in whichever worker it is, because this user asked for it."""
        if not self._cancel_here(request_id, by=by):
            self._coordination.tell(RequestEnded(request_id, by))

    def _cancel_here(self, request_id: str, *, by: str) -> bool:
        return self._relay is not None and self._relay.cancel(request_id, by=by)

    def servers_hour(self) -> Mapping[str, ServerHour]:
        """Return what each server did in the last hour, in all workers."""
        return {} if self.sync is None else self.sync.servers_hour()

    def figures(self) -> dict[str, int]:
        """Count requests that wait, rows dropped and rows pending, of all workers."""
        self._show_figures()
        return {figure.value: self._coordination.total(figure) for figure in Figure}

    def _follow(self, told: list[News]) -> None:
        """Do what other workers were told, and show them what they cannot see."""
        self._fleet.follow(told)
        self._incidents.hear(told)
        self._incidents.look()
        for news in told:
            if isinstance(news, TokenVerified):
                self._authenticator.hear(news)
            elif isinstance(news, RequestEnded):
                self._cancel_here(news.id, by=news.by)
            elif isinstance(news, RequestsRefused):
                self.refused_elsewhere.update(news.counts)
            elif isinstance(news, TurnsTaken):
                self._admission.hear_turns(news.moments)
        self._tell_refused()
        self._tell_turns()
        if self._admission.waiting and self._coordination.asks:
            self._admission.facts_changed()
        self._announce()
        self._show_figures()

    def _tell_refused(self) -> None:
        new = self._refused - self._refused_told
        if new and self._coordination.shares:
            self._refused_told.update(new)
            self._coordination.tell(RequestsRefused(dict(new)))

    def _tell_turns(self) -> None:
        """Have users take turns over all routers; while nobody waits there, no turn makes a difference."""
        turns = self._admission.turns_taken()
        if turns and self._coordination.others_wait:
            self._coordination.tell(TurnsTaken(turns))

    def _show_figures(self) -> None:
        self._coordination.show(Figure.WAITING, self._admission.waiting)
        self._coordination.show(Figure.DROPPED, self._sink.dropped)
        self._coordination.show(Figure.PENDING, self._sink.pending)
