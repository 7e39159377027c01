"""`priority_with_memory`: the smallest priority number, then the warmest server, among those that can start soon."""

from __future__ import annotations

from ollama_router_core.routing.candidates import WARM, Candidate, Reason, reload_seconds
from ollama_router_core.routing.expected_time import ExpectedTime, expected_time
from ollama_router_core.routing.strategies.strategy import RankingContext, health_reasons, in_flight_reason

__all__ = ["PriorityWithMemory"]


class PriorityWithMemory:
    """Smallest priority number; within one priority warmth, then fewest requests in flight.

    The wait on a busy server counts in whole loads of the model: a server with at least one load of waiting ranks after
    all that can start sooner. An idle server ranks by its priority, whatever it has to load.
    """

    binds_late = False
    uses_prefixes = False

    def expected_time(self, candidate: Candidate, context: RankingContext) -> ExpectedTime | None:
        """Return the expected time on a busy server; None for an idle one, whose key does not use it."""
        snapshot = context.snapshot
        if not snapshot.in_flight.get(candidate.name) and not candidate.facts.loading:
            return None
        return expected_time(candidate, context.request, snapshot, now=context.now)

    def key(self, candidate: Candidate, context: RankingContext, expected: ExpectedTime | None) -> tuple[float, ...]:
        """Return health tier, wait in whole loads, priority, warmth, requests in flight."""
        running = context.snapshot.in_flight.get(candidate.name, 0)
        loads = _loads_before(candidate, expected)
        return (candidate.health_tier, loads, candidate.server.priority, candidate.warmth, running)

    def reasons(
        self, candidate: Candidate, context: RankingContext, expected: ExpectedTime | None
    ) -> tuple[Reason, ...]:
        """Return the terms of the key as text."""
        return (
            Reason("priority", f"priority {candidate.server.priority}"),
            *_at_work(candidate, expected),
            candidate.warm_reason,
            in_flight_reason(candidate, context.snapshot),
            *health_reasons(candidate, context.config),
        )


def _at_work(candidate: Candidate, expected: ExpectedTime | None) -> tuple[Reason, ...]:
    """Return the reason why a busy server ranks below its priority."""
    if not _loads_before(candidate, expected):
        return ()
    return (Reason("at_work", f"busy, would start in ~{_before(candidate, expected):.0f} s"),)


def _loads_before(candidate: Candidate, expected: ExpectedTime | None) -> int:
    """Return the wait on a busy server in whole loads of the model, by the default load time."""
    return int(_before(candidate, expected) / reload_seconds(round(candidate.weight.size)))


def _before(candidate: Candidate, expected: ExpectedTime | None) -> float:
    """Return the seconds of waiting plus the load that the request would start; a load in progress does not count."""
    if expected is None:
        return 0.0
    return expected.wait + (expected.load if candidate.warmth != WARM else 0.0)
