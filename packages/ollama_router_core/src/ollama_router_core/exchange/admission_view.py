"""Read-only view of admission: queued requests, their waits, and where a request would go."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ollama_router_core.admission import Admission, WaitingGroup
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.exchange.open_slots import OpenSlots
from ollama_router_core.fleet.clocked_fleet import ClockedFleet
from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.routing.decision import Decision

__all__ = ["AdmissionView"]


class AdmissionView:
    """Reads admission state without changing it.

    Args:
        admission: the queue.
        fleet: the fleet state.
        slots: the open slots.
        now: the fleet's clock, in seconds.
    """

    def __init__(self, admission: Admission, fleet: ClockedFleet, slots: OpenSlots, now: Callable[[], float]) -> None:
        self._admission = admission
        self._fleet = fleet
        self._slots = slots
        self._now = now

    @property
    def waiting_since(self) -> float | None:
        """When the longest-waiting request arrived; None while the queue is empty."""
        return self._admission.line.since

    def longest_wait(self) -> tuple[float | None, frozenset[str]]:
        """Return since when requests wait, for other routers, and the full servers that could take the first."""
        return self._admission.line.longest_wait(self._fleet.snapshot, self._now())

    def heads(self) -> Mapping[str, float]:
        """Return since when the first request waits for each full server."""
        return self._admission.line.heads(self._fleet.snapshot, self._now())

    def line(self, user: str | None = None) -> tuple[WaitingGroup, ...]:
        """List queued requests by model, longest wait first; only those of `user` if given."""
        return self._admission.line.groups(self._fleet.snapshot, self._now(), user)

    def traffic(self) -> FleetSnapshot:
        """Return the snapshot that decisions use: the fleet with the load and demand known to admission."""
        return self._slots.traffic()

    def decide(self, request: RouteRequest) -> Decision:
        """Return the decision for a hypothetical request."""
        return self._admission.selector.decide(request, self.traffic(), now=self._now())
