"""Servers that lack only a free slot, computed once for many kinds of request."""

from __future__ import annotations

from collections.abc import Collection

from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.routing.candidates import Candidate
from ollama_router_core.routing.filters import FULL, refused_now
from ollama_router_core.routing.plans import Plan

__all__ = ["FullServers"]


class FullServers:
    """Full servers for `snapshot` and `now`. With `waits`, requests wait for a slot of their model (`refused_now`).

    A server that is full for every model is checked only once.
    """

    def __init__(self, snapshot: FleetSnapshot, now: float, *, waits: bool) -> None:
        self._snapshot, self._now, self._waits = snapshot, now, waits
        self._seen: set[str] = set()
        self._full: set[str] = set()
        self._full_for_some: set[str] = set()

    def of(self, plan: Plan, *, but: Collection[str] = ()) -> frozenset[str]:
        """Return the full servers of a plan, except those in `but`."""
        if not plan.names <= self._seen:
            for candidate in plan.able:
                self._look_at(candidate)
        found = (plan.names & self._full).difference(but)
        some = (plan.names & self._full_for_some).difference(but)
        if some:
            found |= {one.name for one in plan.able if one.name in some and self._is_full(one, waits=self._waits)}
        return found

    def _look_at(self, candidate: Candidate) -> None:
        name, snapshot = candidate.name, self._snapshot
        if name in self._seen:
            return
        self._seen.add(name)
        if name in snapshot.suspended_models:
            self._full_for_some.add(name)
        elif self._is_full(candidate, waits=True):
            self._full.add(name)
        elif not self._waits and snapshot.active.get(name):
            self._full_for_some.add(name)

    def _is_full(self, candidate: Candidate, *, waits: bool) -> bool:
        reason = refused_now(candidate, self._snapshot, self._now, waits=waits)
        return reason is not None and reason.code == FULL
