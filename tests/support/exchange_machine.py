"""The exchange machine without I/O: an environment whose servers are believed up, and doubles that count."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ollama_router_core.access.grants import Grants, Role
from ollama_router_core.access.limits import Standing
from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.client.shipped_profiles import shipped_profiles
from ollama_router_core.config import load_config
from ollama_router_core.config.settings import Config
from ollama_router_core.exchange.actions import Action, Admit, Outgoing
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.environment import Environment
from ollama_router_core.exchange.events import Arrival, Caller, Headers, Piece, Preemption, Queued
from ollama_router_core.exchange.machine import Exchange
from ollama_router_core.fleet.clocked_fleet import ClockedFleet
from ollama_router_core.fleet.health import BreakerPermit
from ollama_router_core.fleet.observations import observe_ps, observe_tags
from ollama_router_core.fleet.state import FleetState
from ollama_router_core.outbound.destinations import build_destinations
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_core.routing.decision import Decision
from ollama_router_core.routing.selector import ServerSelector
from support.clock import FakeClock

__all__ = ["MODEL", "FakeSlot", "FakeUpstream", "Stage", "chat"]

MODEL = "llama3.1:8b"
_ROW = {"name": MODEL, "model": MODEL, "size": 1000, "digest": "ab", "details": {}}


def chat(**more: Any) -> bytes:
    """The body of a chat request, streamed unless told otherwise."""
    return json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hello"}], **more}).encode()


@dataclass(frozen=True)
class FakeCaller:
    """A user."""

    id: int = 1
    name: str = "alice"
    role: Role = "user"
    grants: Grants = field(default_factory=Grants)


@dataclass(eq=False)
class FakeUpstream:
    """A request that was sent. `released` counts."""

    request: Outgoing
    status: int = 0
    headers: Headers = ()
    connect_seconds: float = 0.0
    released: int = 0


@dataclass
class FakeReservation:
    """A request that counts."""

    settled: list[int] = field(default_factory=list)

    def settle(self, tokens: int) -> None:
        """The request ended."""
        self.settled.append(tokens)


class FakeLimits:
    """No limit is shown."""

    def standing(self, user: Caller) -> Standing:
        """Nothing."""
        del user
        return Standing()


class FakeFleet(ClockedFleet):
    """Servers that are up and have the model in memory; what would be asked in the background is noted."""

    def __init__(self, config: Config, clock: FakeClock) -> None:
        super().__init__(FleetState(config), clock.monotonic)
        self.asked_soon: list[str | None] = []
        now = clock.now
        for name in self.state.servers:
            self.state.probe_answered(name, 200, b'{"version":"0.32.0"}', probe_ms=1, now=now)
            self.state.probe_answered(name, 200, b'{"version":"0.32.0"}', probe_ms=1, now=now)
            self.update(name, lambda facts: observe_tags(facts, json.dumps({"models": [_ROW]}).encode(), now=now))
            loaded = json.dumps({"models": [{**_ROW, "size_vram": 1000, "context_length": 4096}]}).encode()
            self.update(name, lambda facts, body=loaded: observe_ps(facts, body, now=now, wall=0.0))  # type: ignore[misc]

    def measure_soon(self, name: str) -> None:
        """Noted."""
        self.asked_soon.append(name)

    def refresh_soon(self, name: str | None = None) -> None:
        """Noted."""
        self.asked_soon.append(name)

    def refresh_unknown(self, model: CanonicalName | None) -> None:
        """Noted."""
        del model
        self.asked_soon.append(None)


class FakeSlot:
    """A slot; `closed` counts."""

    def __init__(self, stage: Stage, decision: Decision, asked: Admit) -> None:
        self.decision = decision
        self._asked = asked
        self._requeued = False
        self.server = decision.ranking[0]
        self.unload: tuple[CanonicalName, ...] = ()
        self.position = 0
        self.closed = 0
        self.answered = 0
        self.preemption = Preemption()
        self.permits: list[BreakerPermit] = []
        self._stage = stage

    def move(self, server: str) -> Queued | None:
        """Go to a server, or wait for it if the stage wants that."""
        waits = server != self.server and self._stage.moves_wait()
        self.server = server
        return Queued(None, 0.0, self, self.close) if waits else None

    def permit(self, server: str) -> BreakerPermit | None:
        """Leave to send."""
        model = self.decision.request.model
        permit = self._stage.fleet.state.permit(server, self._stage.clock.now, model=model)
        if permit is not None:
            self.permits.append(permit)
        return permit

    def may_retry(self, server: str) -> bool:
        """Always."""
        del server
        return True

    def answering(self) -> None:
        """The head came."""
        self.answered += 1

    def requeue(self) -> Queued:
        """Give it back, and ask for another."""
        self.closed += 1
        self._requeued = True
        self._stage.waits()
        return Queued(1, 0.5, self._asked, self._stage.leaves)

    def close(self) -> None:
        """Give it back, unless it was given back for another."""
        self.closed += not self._requeued


class Stage:
    """A router of servers `a`, `b` and `c`, and what exchanges on it got."""

    def __init__(self, **settings: Any) -> None:
        servers = {name: {"host": name, "port": 1, "priority": n} for n, name in enumerate("abc", 1)}
        self.config = load_config(json.dumps({"servers": servers, **settings}))
        self.selector = ServerSelector(self.config)
        self.clock = FakeClock()
        self.fleet = FakeFleet(self.config, self.clock)
        self.limits = FakeLimits()
        self.slots: list[FakeSlot] = []
        self.settled: list[int] = []
        self.upstreams: list[FakeUpstream] = []
        self.records: list[RequestRecord] = []
        self.in_flight = 1
        self.moves_wait: Callable[[], bool] = lambda: False
        self.waits: Callable[[], None] = lambda: None
        self.leaves: Callable[[], None] = lambda: None
        self.environment = Environment(
            config=self.config,
            destinations=build_destinations(
                self.config, {"KEY": "sk-very-secret"}, lambda path: path, shipped_profiles()
            ),
            fleet=self.fleet,
            clock=self.clock,
            limits=self.limits,
            in_flight=lambda: self.in_flight,
        )

    def exchange(self, method: str = "POST", path: str = "/api/chat", *fields: tuple[bytes, bytes]) -> Exchange:
        """A request that has just come."""
        context = RequestContext(
            id="0" * 28,
            method=method,
            path=path,
            headers=list(fields),
            started=self.clock.now,
            started_at=self.clock.wall(),
            address="10.0.0.1",
        )
        return Exchange(self.environment, context)

    def slot(self, action: Admit) -> FakeSlot:
        """A slot where the rules would put the request."""
        decision = self.selector.decide(action.request.route, self.fleet.snapshot, now=self.clock.now, tiebreak=0)
        slot = FakeSlot(self, decision, action)
        self.slots.append(slot)
        return slot

    def sent(self, request: Outgoing) -> FakeUpstream:
        """A request on its way."""
        upstream = FakeUpstream(request)
        self.upstreams.append(upstream)
        return upstream


def piece(data: bytes, *, complete: bool = False) -> Piece:
    """A piece of an answer."""
    return Piece(data, complete)


def arrival(upstream: Any, data: bytes, *, complete: bool = True) -> Arrival:
    """A piece of one of several answers."""
    return Arrival(upstream, Piece(data, complete))


def kinds(actions: list[Action]) -> list[str]:
    """The actions' names."""
    return [type(action).__name__ for action in actions]
