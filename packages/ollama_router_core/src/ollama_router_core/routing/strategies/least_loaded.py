"""`least_loaded`: the smallest share of slots in use."""

from __future__ import annotations

from ollama_router_core.routing.candidates import Candidate, Reason
from ollama_router_core.routing.filters import slots_of
from ollama_router_core.routing.strategies.strategy import RankingContext, health_reasons, in_flight_reason

__all__ = ["LeastLoaded"]


class LeastLoaded:
    """Fewest requests in flight, as a share of the slots if limited; then warmth, then priority."""

    binds_late = False
    uses_prefixes = False

    def expected_time(self, _candidate: Candidate, _context: RankingContext) -> None:
        """Return None: no time is estimated."""

    def key(self, candidate: Candidate, context: RankingContext, _expected: None) -> tuple[float, ...]:
        """Return health tier, load, warmth, priority."""
        snapshot = context.snapshot
        load = snapshot.in_flight.get(candidate.name, 0) / (slots_of(candidate, snapshot) or 1)
        return (candidate.health_tier, load, candidate.warmth, candidate.server.priority)

    def reasons(self, candidate: Candidate, context: RankingContext, _expected: None) -> tuple[Reason, ...]:
        """Return the terms of the key as text."""
        return (
            in_flight_reason(candidate, context.snapshot),
            candidate.warm_reason,
            *health_reasons(candidate, context.config),
        )
