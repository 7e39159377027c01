"""The relay: create an exchange for each request, run it in a driver, and record its outcome."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from msgspec import Struct

from ollama_router_core.access.trusted_proxies import Proxies
from ollama_router_core.api.endpoints import Routing
from ollama_router_core.config.settings import Config
from ollama_router_core.exchange.admission_controller import AdmissionController
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.course import with_announced_wait
from ollama_router_core.exchange.environment import Environment
from ollama_router_core.exchange.events import Caller, Headers, Shutdown
from ollama_router_core.exchange.fan_out import ask_fleet
from ollama_router_core.exchange.machine import Exchange
from ollama_router_core.outbound.destinations import Destination
from ollama_router_core.records.refusal_waves import is_refused
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_core.records.sinks import LogSink
from ollama_router_server.accounts.authentication import Authenticator, User
from ollama_router_server.accounts.usage_limits import UsageLimits
from ollama_router_server.fleet.fleet_service import FleetService
from ollama_router_server.http.cycle import FrontCycle
from ollama_router_server.http.request_head import RequestHead
from ollama_router_server.relay.active_requests import ActiveRequests
from ollama_router_server.relay.asgi_driver import AsgiDriver, SessionDriver
from ollama_router_server.relay.bodies import Receive, Send
from ollama_router_server.relay.collaborators import Collaborators
from ollama_router_server.relay.front_driver import FrontDriver
from ollama_router_server.relay.model_search import ModelSearch
from ollama_router_server.relay.refusals import Refusals
from ollama_router_server.relay.task_driver import TaskDriver
from ollama_router_server.relay.unfinished_bodies import UnfinishedBodies
from ollama_router_server.storage.response_store import ResponseStore
from ollama_router_server.system import Clock, new_request_id
from ollama_router_server.telemetry.metrics import Metrics
from ollama_router_server.telemetry.traces import Traces
from ollama_router_server.upstream.interface import CallingUpstream
from ollama_router_server.upstream.targets import Target

__all__ = ["Relay", "RelayDeps"]


class RelayDeps(Struct, frozen=True, kw_only=True):
    """The relay's dependencies."""

    config: Config
    targets: Mapping[str, Target]
    upstream: CallingUpstream
    fleet: FleetService
    admission: AdmissionController
    authenticator: Authenticator
    limits: UsageLimits
    sink: LogSink
    clock: Clock
    metrics: Metrics
    responses: ResponseStore
    traces: Traces | None
    proxies: Proxies
    key: bytes
    refused: Counter[str]


class Relay:
    """Serve the API routes, as an ASGI application and as the application of the HTTP/1.1 front."""

    def __init__(self, deps: RelayDeps) -> None:
        self._deps = deps
        self._active = ActiveRequests()
        self._refusals = Refusals(deps.clock)
        self._destinations: dict[str, Destination] = {}
        search = ModelSearch(self._look_for_models, deps.clock)
        self._environment = Environment(
            config=deps.config,
            destinations=self._destinations,
            fleet=deps.fleet,
            clock=deps.clock,
            limits=deps.limits,
            in_flight=self._active.__len__,
            alone=lambda: deps.authenticator.alone,
            models_changed=search.models_changed,
        )
        self._environment.key = deps.key
        self._collaborators = Collaborators(
            environment=self._environment,
            targets=deps.targets,
            upstream=deps.upstream,
            admission=deps.admission,
            authenticator=deps.authenticator,
            limits=deps.limits,
            search=search,
            record=self._record,
            responses=deps.responses,
            beside=ThreadPoolExecutor(1, thread_name_prefix="large-bodies"),
            unfinished=UnfinishedBodies(),
        )
        deps.fleet.watch(self._active.watched)
        deps.authenticator.on_change(lambda: self._active.interrupt_revoked(self._is_valid))
        self.reconfigure(deps)

    def reconfigure(self, deps: RelayDeps) -> None:
        """Apply another config. Exchanges in flight use it for their remaining steps.

        `deps.targets` must still contain every destination it has ever contained.
        """
        self._deps = deps
        self._destinations.update({name: target.destination for name, target in deps.targets.items()})
        self._environment.reconfigure(deps.config)

    @property
    def in_flight(self) -> int:
        """The number of exchanges in flight."""
        return len(self._active)

    def active_requests(self) -> list[dict[str, Any]]:
        """Return the requests in flight of known users; see `ActiveRequests.to_json`."""
        return self._active.to_json(self._deps.clock.monotonic())

    def find_active(self, request_id: str) -> tuple[dict[str, Any], RequestRecord] | None:
        """Return a request in flight and the record it would write now; None if this process does not have it."""
        return self._active.find(request_id, self._deps.clock.monotonic())

    def cancel(self, request_id: str, *, by: str) -> bool:
        """Cancel a request for the user `by`; return whether this process had it."""
        return self._active.cancel(request_id, by=by)

    def shut_down(self) -> None:
        """End all exchanges in flight, at the end of the grace period."""
        self._active.interrupt_all(Shutdown)

    async def __call__(
        self, scope: Any, receive: Receive, send: Send, *, user: User | None = None, heartbeat: float | None = None
    ) -> None:
        """Serve one request under ASGI; with `user`, on behalf of that user, whatever its headers say.

        `heartbeat` is the interval between keep-alive signals of a stream, in seconds; None for the configured one.
        """
        exchange = self._exchange(
            scope["method"],
            scope.get("raw_path") or scope["path"].encode(),
            scope.get("query_string", b""),
            scope["headers"],
            scope.get("client"),
        )
        exchange.context.heartbeat = heartbeat
        if user is None:
            driver = AsgiDriver(self._collaborators, exchange, receive, send)
        else:
            driver = SessionDriver(self._collaborators, exchange, receive, send, user=user)
        self._active.add(driver)
        await driver.run()

    def take(self, cycle: FrontCycle, head: RequestHead) -> None:
        """Serve one request of the HTTP/1.1 front."""
        path, _, query = head.target.partition(b"?")
        exchange = self._exchange(head.method, path, query, head.headers, cycle.client)
        driver = FrontDriver(self._collaborators, exchange, cycle)
        self._active.add(driver)
        driver.start()

    def _exchange(
        self, method: str, path: bytes, query: bytes, headers: Headers, peer: tuple[str, int] | None
    ) -> Exchange:
        deps = self._deps
        context = RequestContext(
            id=new_request_id(),
            method=method,
            path=path.decode("latin-1"),
            query=query,
            headers=headers,
            address=deps.proxies.client(peer[0] if peer else None, headers),
            started=deps.clock.monotonic(),
            started_at=deps.clock.wall(),
        )
        if deps.traces is not None:
            context.observer = deps.traces.begin(context)
        return Exchange(self._environment, context)

    def _look_for_models(self) -> asyncio.Task[None]:
        async def look() -> None:
            await TaskDriver(self._collaborators).run_steps(ask_fleet(self._environment, "/api/tags"))

        return asyncio.get_running_loop().create_task(look())

    def _is_valid(self, user: Caller) -> bool:
        return self._deps.authenticator.is_still_valid(cast("User", user))

    # --- records ------------------------------------------------------------------------------------------------------

    def _record(self, context: RequestContext, row: RequestRecord) -> None:
        """Write the record; without a known user, only a log line, so that strangers cannot fill the database."""
        said = self._active.remove(context)
        if context.endpoint is not None and context.endpoint.routing is Routing.ROUTER:
            return
        if context.user is None:
            code = context.error.code if context.error else "client_left"
            self._deps.metrics.refused(code)
            self._refusals.note_stranger(row, code)
            return
        self._deps.metrics.ended(row, context.decision, context.preempted)
        if said is not None:
            row = with_announced_wait(row, said)
        if is_refused(row):
            self._deps.refused[row.error_code or ""] += 1
        if self._refusals.keeps(row):
            self._deps.sink.write(row)
