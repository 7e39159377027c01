"""What a transport believes about its fleet is the core's `FleetState`, as it is for the proxy."""

from __future__ import annotations

from typing import Any

from ollama_router_core.client.fleet_book import FleetBook
from ollama_router_core.config.settings import Config
from ollama_router_core.fleet.state import FleetState
from ollama_router_core.testing import FakeFleet
from ollama_router_server.coordination.alone import alone
from ollama_router_server.fleet.fleet_service import FleetService
from ollama_router_server.upstream.httptools_upstream import HttptoolsUpstream

VERSION = b'{"version": "0.12.0"}'


class Book:
    """The client's, with the calls of the script."""

    def __init__(self, config: Config, clock: Any) -> None:
        self.book = FleetBook(config, clock)
        self.permit = self.book.permit
        self.fails = lambda permit: permit.failed(clock.monotonic())
        self.ends = lambda permit: permit.done(clock.monotonic())
        self.retries = lambda waiting: sum(self.book.take_retry(waiting) for _ in range(50))

    @property
    def state(self) -> FleetState:
        """The rules."""
        return self.book.state


class Service:
    """The proxy's, with the same calls."""

    def __init__(self, config: Config, clock: Any) -> None:
        upstream = HttptoolsUpstream()
        self.service = FleetService(config=config, targets={}, upstream=upstream, clock=clock, coordination=alone())
        self.permit = self.service.permit
        self.fails = lambda permit: permit.failed(clock.monotonic())
        self.ends = lambda permit: permit.done(clock.monotonic())
        self.retries = lambda waiting: sum(self.service.take_retry(waiting) for _ in range(50))

    @property
    def state(self) -> FleetState:
        """The rules."""
        return self.service.state


def played(side: Book | Service, clock: Any) -> list[Any]:
    """What one script makes visible: probes, five failures, a time out, a probe, a slow start, a retry budget."""
    seen: list[Any] = []

    def look() -> None:
        now = clock.monotonic()
        snapshot = side.state.snapshot(now)
        suspended = {name: round(until - now, 6) for name, until in snapshot.suspended.items()}
        ups = {name: facts.up for name, facts in snapshot.servers.items()}
        pauses = [side.state.probe_pause(name) for name in snapshot.servers]
        seen.append((ups, suspended, dict(snapshot.slots), pauses))

    def probe(name: str, *, passed: bool = True) -> None:
        now = clock.monotonic()
        if passed:
            side.state.probe_answered(name, 200, VERSION, probe_ms=1.0, now=now)
        else:
            side.state.probe_failed(name, "silent", now=now)
        look()

    for name, passed in (("a", True), ("b", True), ("a", False), ("a", False), ("a", False), ("a", True), ("a", True)):
        probe(name, passed=passed)
    for _ in range(5):
        side.fails(side.permit("b"))
        look()
    for seconds in (5.0, 10.0, 0.0, 10.0, 20.0):
        clock.now += seconds
        permit = side.permit("b")
        seen.append(permit and permit.probe)
        if permit is not None:
            side.ends(permit)
        look()
    seen.append(side.retries(40))
    return seen


def test_proxy_and_client_hold_one_set_of_rules(fleet: FakeFleet, clock: Any) -> None:
    """The same script makes the same visible in both, whatever the clock's start."""
    config = fleet.config
    client = played(Book(config, clock), clock)
    proxy = played(Service(config, clock), clock)
    assert client == proxy
    assert type(Book(config, clock).state) is type(Service(config, clock).state) is FleetState
