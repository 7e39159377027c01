"""Which servers can take one more request at one moment."""

from __future__ import annotations

from collections.abc import Iterable

from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.routing.candidates import Candidate, Reason
from ollama_router_core.routing.filters import FULL, refused_now

__all__ = ["Openings"]


class Openings:
    """What holds for `snapshot` and `now`. `among` limits it to some servers."""

    def __init__(self, snapshot: FleetSnapshot, now: float, among: frozenset[str] | None = None) -> None:
        self.snapshot = snapshot
        self._now = now
        self._among = among
        self._known: dict[str, Reason | None] = {}

    def any(self, able: Iterable[Candidate]) -> bool:
        """Whether one of these servers has a place now."""
        among = self._among
        return any(self._refusal(one) is None for one in able if among is None or one.name in among)

    def hope(self, able: Iterable[Candidate]) -> bool:
        """Whether one has a place now, or will when somebody is done there."""
        return any(reason is None or reason.code == FULL for one in able for reason in (self._refusal(one),))

    def _refusal(self, candidate: Candidate) -> Reason | None:
        known, name = self._known, candidate.name
        if name not in known:
            known[name] = refused_now(candidate, self.snapshot, self._now)
        return known[name]
