"""`priority_with_memory`: the smallest priority number, then the warmest server."""

from __future__ import annotations

from ollama_router_core.routing.candidates import Candidate, Reason
from ollama_router_core.routing.expected_time import ExpectedTime
from ollama_router_core.routing.strategies.strategy import RankingContext, health_reasons, in_flight_reason

__all__ = ["PriorityWithMemory"]


class PriorityWithMemory:
    """Smallest priority number; within one priority warm, then fits without evicting, then fewest in flight."""

    binds_late = False
    uses_prefixes = False

    def key(self, candidate: Candidate, context: RankingContext) -> tuple[float, ...]:
        """Health tier, priority, warmth, requests in flight."""
        running = context.snapshot.in_flight.get(candidate.name, 0)
        return (candidate.health_tier, candidate.server.priority, candidate.warmth, running)

    def reasons(self, candidate: Candidate, context: RankingContext) -> tuple[Reason, ...]:
        """The same in words."""
        return (
            Reason("priority", f"priority {candidate.server.priority}"),
            candidate.warm_reason,
            in_flight_reason(candidate, context.snapshot),
            *health_reasons(candidate, context.config),
        )

    def expected_time(self, candidate: Candidate, context: RankingContext) -> ExpectedTime | None:
        """None: no time is estimated."""
        del candidate, context
        return None
