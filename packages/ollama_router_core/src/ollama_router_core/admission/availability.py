"""Servers that can take one more request at a given time."""

from __future__ import annotations

from collections.abc import Iterable

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.routing.candidates import Candidate, Reason
from ollama_router_core.routing.filters import FULL, refused_now

__all__ = ["Availability"]


class Availability:
    """Availability for `snapshot` and `now`, cached by server. `among` limits it to some servers."""

    def __init__(self, snapshot: FleetSnapshot, now: float, among: frozenset[str] | None = None) -> None:
        self.snapshot = snapshot
        self._now = now
        self._among = among
        self._known: dict[tuple[str, CanonicalName | None], Reason | None] = {}

    def any_now(self, able: Iterable[Candidate]) -> bool:
        """Whether one of these servers has a free slot now."""
        among = self._among
        return any(self._refusal(one) is None for one in able if among is None or one.name in among)

    def any_later(self, able: Iterable[Candidate]) -> bool:
        """Whether one has a free slot now, or will have when a request ends there."""
        return any(reason is None or reason.code == FULL for one in able for reason in (self._refusal(one),))

    def _refusal(self, candidate: Candidate) -> Reason | None:
        known, key = self._known, (candidate.name, candidate.model)
        if key not in known:
            known[key] = refused_now(candidate, self.snapshot, self._now)
        return known[key]
