"""`round_robin`: one server after the other."""

from __future__ import annotations

from ollama_router_core.routing.candidates import Candidate, Reason
from ollama_router_core.routing.strategies.strategy import RankingContext, health_reasons, in_flight_reason

__all__ = ["RoundRobin"]


class RoundRobin:
    """Each server in turn: the counter of requests moves the start on."""

    binds_late = False
    uses_prefixes = False

    def expected_time(self, candidate: Candidate, context: RankingContext) -> None:
        """None: no time is estimated."""
        del candidate, context

    def key(self, candidate: Candidate, context: RankingContext, expected: None) -> tuple[float, ...]:
        """Health tier, then the distance from the server whose turn it is."""
        del expected
        distance = (candidate.index - context.tiebreak) % len(context.config.servers)
        return (candidate.health_tier, distance)

    def reasons(self, candidate: Candidate, context: RankingContext, expected: None) -> tuple[Reason, ...]:
        """Return what the key is made of, in words."""
        del expected
        return (
            Reason("turn", "its turn"),
            candidate.warm_reason,
            in_flight_reason(candidate, context.snapshot),
            *health_reasons(candidate, context.config),
        )
