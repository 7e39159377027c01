"""The strategy interface: an order of the servers that can take a request, and properties for other rooms."""

from __future__ import annotations

from typing import Protocol, TypeVar

from msgspec import Struct

from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.config.settings import Config
from ollama_router_core.fleet.prefixes import HeldPrefix
from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.routing.candidates import PARTLY, RESPONSIVE, UNLISTED, Candidate, Reason
from ollama_router_core.routing.expected_time import ExpectedTime
from ollama_router_core.routing.filters import slots_of

__all__ = ["RankingContext", "Strategy", "health_reasons", "in_flight_reason"]


Expected = TypeVar("Expected", bound=ExpectedTime | None)


class RankingContext(Struct, frozen=True):
    """What a strategy reads besides the candidate. `tiebreak` increases with every request."""

    request: RouteRequest
    snapshot: FleetSnapshot
    config: Config
    now: float
    tiebreak: int = 0
    prefix: HeldPrefix | None = None


class Strategy(Protocol[Expected]):
    """Orders the servers that can take a request. `Expected` is its estimate per server, made once per decision.

    `binds_late`: a request waits in the queue for a slot of its model, and admission chooses among all waiting
    requests; else it is bound on arrival. `uses_prefixes`: a server with a cached prefix counts as faster.
    """

    binds_late: bool
    uses_prefixes: bool

    def expected_time(self, candidate: Candidate, context: RankingContext, /) -> Expected:
        """Return the expected time that `key` and `reasons` use, None if they use none."""

    def key(self, candidate: Candidate, context: RankingContext, expected: Expected, /) -> tuple[float, ...]:
        """Return the sort key, health tier first; the smallest wins, ties are broken by `tiebreak`."""

    def reasons(self, candidate: Candidate, context: RankingContext, expected: Expected, /) -> tuple[Reason, ...]:
        """Return the terms of the key as text."""


def in_flight_reason(candidate: Candidate, snapshot: FleetSnapshot) -> Reason:
    """Return the requests in flight and their limit, as a reason."""
    running, slots = snapshot.in_flight.get(candidate.name, 0), slots_of(candidate, snapshot)
    return Reason("in_flight", f"{running}{f' of {slots}' if slots else ''} in flight")


def health_reasons(candidate: Candidate, config: Config) -> tuple[Reason, ...]:
    """Return why a server is in a worse health tier than RESPONSIVE."""
    if candidate.health_tier == RESPONSIVE:
        return ()
    if candidate.health_tier == UNLISTED:
        return (Reason("unlisted", "does not report its models"),)
    if candidate.health_tier == PARTLY:
        share = round(100 * candidate.weight.on_cpu)
        return (Reason("partly_on_cpu", f"larger than its GPUs: {share} % of the model would run on the CPU"),)
    probe, threshold = candidate.facts.probe_ms, config.server_busy_threshold_ms
    return (Reason("busy", f"answers slowly ({probe:.0f} ms, threshold {threshold:.0f} ms)"),)
