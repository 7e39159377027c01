"""The I/O-free half of a transport."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ollama_router_core.client.fleet_book import FleetBook
from ollama_router_core.client.shipped_profiles import shipped_profiles
from ollama_router_core.client.system import SystemClock, read_text, request_ids
from ollama_router_core.config.settings import Config
from ollama_router_core.errors import ConfigError
from ollama_router_core.exchange.admission_controller import AdmissionController
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.environment import Clock, Environment
from ollama_router_core.exchange.events import Headers
from ollama_router_core.fleet.stalls import Watched
from ollama_router_core.outbound.destinations import build_destinations
from ollama_router_core.records.sinks import LogSink
from ollama_router_core.routing.policy import leaks

__all__ = ["State"]


class State:
    """The state of a transport, synchronous or not. Not thread-safe.

    Attributes:
        probe_seconds: timeout of a probe.
    """

    def __init__(
        self, config: Config, *, environment: Mapping[str, str], sink: LogSink | None = None, clock: Clock | None = None
    ) -> None:
        if leaked := "; ".join(leaks(config)):
            raise ConfigError(leaked)
        self.config = config.model_copy(update={"load_keepalive": None})  # a program's connection needs no heartbeats
        self.clock = clock or SystemClock()
        self.sink = sink
        self.fleet = FleetBook(config, self.clock)
        self.admission = AdmissionController(self.config, self.fleet, self.clock.monotonic)
        self.environment = Environment(
            config=self.config,
            destinations=build_destinations(config, environment, read_text, shipped_profiles()),
            fleet=self.fleet,
            clock=self.clock,
            models_changed=self.fleet.models_changed,
        )
        self._admitted: dict[str, RequestContext] = {}
        self.fleet.watch(self._watched)
        self.probe_seconds = max(config.probe_timeout, config.server_busy_threshold_ms / 1000)
        self._new_id = request_ids()

    def context(self, method: str, path: str, query: bytes, headers: Headers) -> RequestContext:
        """Create the context of a program's request; `headers` have names in lower case."""
        return RequestContext(
            id=self._new_id(),
            method=method,
            path=path,
            query=query,
            headers=headers,
            started=self.clock.monotonic(),
            started_at=self.clock.wall(),
        )

    def admitted(self, context: RequestContext) -> None:
        """Register a request for the watch of stalled servers, until `ended`."""
        self._admitted[context.id] = context

    def ended(self, context: RequestContext) -> None:
        """Unregister a request that has been recorded."""
        self._admitted.pop(context.id, None)

    def _watched(self) -> Iterator[Watched]:
        watched = (context.watched for context in self._admitted.values())
        return (one for one in watched if one is not None)
