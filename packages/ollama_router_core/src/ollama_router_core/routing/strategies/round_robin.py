"""`round_robin`: each server in turn."""

from __future__ import annotations

from ollama_router_core.routing.candidates import Candidate, Reason
from ollama_router_core.routing.strategies.strategy import RankingContext, health_reasons, in_flight_reason

__all__ = ["RoundRobin"]


class RoundRobin:
    """Each server in turn, by the request counter."""

    binds_late = False
    uses_prefixes = False

    def expected_time(self, _candidate: Candidate, _context: RankingContext) -> None:
        """Return None: no time is estimated."""

    def key(self, candidate: Candidate, context: RankingContext, _expected: None) -> tuple[float, ...]:
        """Return health tier, then the distance from the server whose turn it is."""
        distance = (candidate.index - context.tiebreak) % len(context.config.servers)
        return (candidate.health_tier, distance)

    def reasons(self, candidate: Candidate, context: RankingContext, _expected: None) -> tuple[Reason, ...]:
        """Return the terms of the key as text."""
        return (
            Reason("turn", "its turn"),
            candidate.warm_reason,
            in_flight_reason(candidate, context.snapshot),
            *health_reasons(candidate, context.config),
        )
