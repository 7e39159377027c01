"""Admission as it stands now, for those who only look: who waits, since when, and where a request would go."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ollama_router_core.admission import Admission, WaitingGroup
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.exchange.open_slots import OpenSlots
from ollama_router_core.exchange.server_slot import SlotFleet
from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.routing.decision import Decision

__all__ = ["AdmissionView"]


class AdmissionView:
    """Tells, and changes nothing.

    Args:
        admission: who waits.
        fleet: what is believed about the servers.
        slots: what runs there.
        now: seconds of the fleet's clock.
    """

    def __init__(self, admission: Admission, fleet: SlotFleet, slots: OpenSlots, now: Callable[[], float]) -> None:
        self._admission = admission
        self._fleet = fleet
        self._slots = slots
        self._now = now

    @property
    def waiting_since(self) -> float | None:
        """When the request arrived that waits longest; None while nobody waits."""
        return self._admission.line.since

    def longest_wait(self) -> tuple[float | None, frozenset[str]]:
        """Since when requests wait, for other routers to compare, and the full servers that could take the first."""
        return self._admission.line.longest_wait(self._fleet.snapshot, self._now())

    def heads(self) -> Mapping[str, float]:
        """Since when the first is in the line of each full server."""
        return self._admission.line.heads(self._fleet.snapshot, self._now())

    def line(self, user: str | None = None) -> tuple[WaitingGroup, ...]:
        """List what waits, by model, the longest wait first; of one user only where one is named."""
        return self._admission.line.groups(self._fleet.snapshot, self._now(), user)

    def traffic(self) -> FleetSnapshot:
        """Return the fleet with the load and the demand that admission knows of: what decisions are made from."""
        return self._slots.traffic()

    def decide(self, request: RouteRequest) -> Decision:
        """Where a request would go that nobody makes."""
        return self._admission.selector.decide(request, self.traffic(), now=self._now())
