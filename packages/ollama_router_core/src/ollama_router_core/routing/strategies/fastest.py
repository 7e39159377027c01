"""`fastest`: the least expected time to finish."""

from __future__ import annotations

from ollama_router_core.errors import amount
from ollama_router_core.routing.candidates import Candidate, Reason
from ollama_router_core.routing.expected_time import ExpectedTime, expected_time
from ollama_router_core.routing.strategies.strategy import RankingContext, health_reasons, in_flight_reason

__all__ = ["Fastest"]


class Fastest:
    """Least expected time to finish, including the time that an eviction costs others."""

    binds_late = True
    uses_prefixes = True

    def expected_time(self, candidate: Candidate, context: RankingContext) -> ExpectedTime:
        """Return the expected time, term by term."""
        return expected_time(candidate, context.request, context.snapshot, now=context.now, prefix=context.prefix)

    def key(self, candidate: Candidate, _context: RankingContext, expected: ExpectedTime) -> tuple[float, ...]:
        """Return health tier, expected cost in seconds, warmth."""
        return (candidate.health_tier, expected.cost, candidate.warmth)

    def reasons(self, candidate: Candidate, context: RankingContext, expected: ExpectedTime) -> tuple[Reason, ...]:
        """Return the expected times, their terms, and the basis of the speed."""
        speed = candidate.speed(context.request.model, context.snapshot.speeds)
        known = amount(speed.samples, "request") if speed.samples else "estimated from its size"
        return (
            Reason("expected", f"ready in ~{expected.ready:.1f} s, done in ~{expected.done:.1f} s"),
            Reason("terms", str(expected)),
            candidate.warm_reason,
            in_flight_reason(candidate, context.snapshot),
            Reason("speed", f"{speed.decode_rate:.0f} tok/s ({known})"),
            *health_reasons(candidate, context.config),
        )
