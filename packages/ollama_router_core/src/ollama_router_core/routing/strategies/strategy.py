"""What a strategy is: an order of the servers that can take a request, and what it asks of the rest of the router."""

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
    """What a strategy may look at beside the candidate. `tiebreak` counts up with every request."""

    request: RouteRequest
    snapshot: FleetSnapshot
    config: Config
    now: float
    tiebreak: int = 0
    prefix: HeldPrefix | None = None


class Strategy(Protocol[Expected]):
    """Compares servers that can take a request. `Expected` is what it estimates of each, once a decision.

    `binds_late`: a request waits in the queue for a slot of its model, and admission chooses among all that wait; else
    it is bound on arrival. `uses_prefixes`: a server that holds a conversation's prefix is quicker for its next turn.
    """

    binds_late: bool
    uses_prefixes: bool

    def expected_time(self, candidate: Candidate, context: RankingContext) -> Expected:
        """Return the expected seconds that `key` and `reasons` rest on, None where they play no part."""

    def key(self, candidate: Candidate, context: RankingContext, expected: Expected) -> tuple[float, ...]:
        """Return the sort key, the health tier first; the smallest is chosen, equal ones by `tiebreak`."""

    def reasons(self, candidate: Candidate, context: RankingContext, expected: Expected) -> tuple[Reason, ...]:
        """Return what the key is made of, in words."""


def in_flight_reason(candidate: Candidate, snapshot: FleetSnapshot) -> Reason:
    """How many requests the server has, and of how many at most."""
    running, slots = snapshot.in_flight.get(candidate.name, 0), slots_of(candidate, snapshot)
    return Reason("in_flight", f"{running}{f' of {slots}' if slots else ''} in flight")


def health_reasons(candidate: Candidate, config: Config) -> tuple[Reason, ...]:
    """Why a server is in a worse health tier than RESPONSIVE."""
    if candidate.health_tier == RESPONSIVE:
        return ()
    if candidate.health_tier == UNLISTED:
        return (Reason("unlisted", "does not report its models"),)
    if candidate.health_tier == PARTLY:
        share = round(100 * candidate.weight.on_cpu)
        return (Reason("partly_on_cpu", f"larger than its GPUs: {share} % of the model would run on the CPU"),)
    probe, threshold = candidate.facts.probe_ms, config.server_busy_threshold_ms
    return (Reason("busy", f"answers slowly ({probe:.0f} ms, threshold {threshold:.0f} ms)"),)
