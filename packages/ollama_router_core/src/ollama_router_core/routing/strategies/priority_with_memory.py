"""`priority_with_memory`: the smallest priority number, then the warmest server, among those that are free soon."""

from __future__ import annotations

from ollama_router_core.routing.candidates import WARM, Candidate, Reason, reload_seconds
from ollama_router_core.routing.expected_time import ExpectedTime, expected_time
from ollama_router_core.routing.strategies.strategy import RankingContext, health_reasons, in_flight_reason

__all__ = ["PriorityWithMemory"]


class PriorityWithMemory:
    """Smallest priority number; within one priority warm, then fits without evicting, then fewest in flight.

    Servers at work come later by whole loads: one where what is before a request takes as long as a load of its model
    gives way to all that begin sooner. A server that does nothing has its priority, whatever it has to load.
    """

    binds_late = False
    uses_prefixes = False

    def expected_time(self, candidate: Candidate, context: RankingContext) -> ExpectedTime | None:
        """Return the expected time on a server at work; None for an idle one, where it plays no part."""
        snapshot = context.snapshot
        if not snapshot.in_flight.get(candidate.name) and not candidate.facts.loading:
            return None
        return expected_time(candidate, context.request, snapshot, now=context.now)

    def key(self, candidate: Candidate, context: RankingContext, expected: ExpectedTime | None) -> tuple[float, ...]:
        """Health tier, loads' worth of waiting, priority, warmth, requests in flight."""
        running = context.snapshot.in_flight.get(candidate.name, 0)
        loads = _loads_before(candidate, expected)
        return (candidate.health_tier, loads, candidate.server.priority, candidate.warmth, running)

    def reasons(
        self, candidate: Candidate, context: RankingContext, expected: ExpectedTime | None
    ) -> tuple[Reason, ...]:
        """Return what the key is made of, in words."""
        return (
            Reason("priority", f"priority {candidate.server.priority}"),
            *_at_work(candidate, expected),
            candidate.warm_reason,
            in_flight_reason(candidate, context.snapshot),
            *health_reasons(candidate, context.config),
        )


def _at_work(candidate: Candidate, expected: ExpectedTime | None) -> tuple[Reason, ...]:
    """Why the server comes later than its priority says."""
    if not _loads_before(candidate, expected):
        return ()
    return (Reason("at_work", f"busy, would start in ~{_before(candidate, expected):.0f} s"),)


def _loads_before(candidate: Candidate, expected: ExpectedTime | None) -> int:
    """Count what is before a request on a server at work, in whole loads of its model on a usual server."""
    return int(_before(candidate, expected) / reload_seconds(round(candidate.weight.size)))


def _before(candidate: Candidate, expected: ExpectedTime | None) -> float:
    """Seconds of waiting, and of a load that the request would add; one that is under way is not its own."""
    if expected is None:
        return 0.0
    return expected.wait + (expected.load if candidate.warmth != WARM else 0.0)
