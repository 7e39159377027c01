"""Slots that requests hold, by server, and whether a server has room for one more."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ollama_router_core.admission import Admission, Ticket
from ollama_router_core.config.settings import Config
from ollama_router_core.exchange.server_slot import ServerSlot
from ollama_router_core.fleet.clocked_fleet import ClockedFleet
from ollama_router_core.fleet.health import USUAL_SLOTS
from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.routing.strategies import STRATEGIES

__all__ = ["OpenSlots"]


class OpenSlots:
    """All open slots.

    Admission counts them only where a request may have to wait for one; most configs need no such bookkeeping.

    Attributes:
        by_number: the slots, by number.
        counted: whether admission counts them.
    """

    def __init__(self, config: Config, fleet: ClockedFleet, admission: Admission, now: Callable[[], float]) -> None:
        self.by_number: dict[int, ServerSlot] = {}
        self.counted = _needs_counting(config)
        self._config = config
        self._fleet = fleet
        self._admission = admission
        self._now = now

    def reconfigure(self, config: Config) -> None:
        """Apply a new config."""
        self._config = config
        if _needs_counting(config):
            self.count()

    def count(self) -> None:
        """Start counting slots in admission, those already open included."""
        if self.counted:
            return
        self.counted, now = True, self._now()
        for slot in self.by_number.values():
            self._admission.bound(
                Ticket(number=slot.number, request=slot.decision.request, arrived=now), slot.server, now
            )

    def traffic(self) -> FleetSnapshot:
        """Return the snapshot that decisions use: the fleet with the load and demand known to admission."""
        snapshot = self._fleet.snapshot
        return self._admission.traffic(snapshot, self._now()) if self.counted else snapshot

    def renamed(self, names: Mapping[str, str]) -> None:
        """Rename servers; `names` maps old names to new names."""
        slots = [(slot, slot.server) for slot in self.by_number.values() if slot.server in names]
        for slot, old in slots:
            slot.server = names[old]
            self._fleet.moved(old, slot.server, slot.decision.request.model)
            self._count_at(slot)

    def move(self, slot: ServerSlot, server: str, *, begun: bool = False) -> None:
        """Move a slot to another server; `begun` if the fleet already counts its request there."""
        model = slot.decision.request.model
        self._fleet.end(slot.server, model)
        if not begun:
            self._fleet.begin(server, model)
        slot.moved(server)
        self._count_at(slot)

    def _count_at(self, slot: ServerSlot) -> None:
        if self.counted:
            self._admission.moved(slot.number, slot.server, self._now())

    def has_room(self, server: str) -> bool:
        """Whether a server can take one more request immediately; without a limit, up to `USUAL_SLOTS`.

        A server that just refused or failed has no room, whatever its load.
        """
        snapshot, settings = self._fleet.snapshot, self._config.servers.get(server)
        if settings is None or self._fleet.health.fails(server):
            return False
        limits = (snapshot.slots.get(server), settings.max_concurrent)
        most = min([limit for limit in limits if limit is not None], default=USUAL_SLOTS)
        return snapshot.in_flight.get(server, 0) < most


def _needs_counting(config: Config) -> bool:
    """Whether slots must be counted from the start."""
    if STRATEGIES[config.routing_strategy].binds_late or config.queue.max_preemptions:
        return True
    return any(server.max_concurrent for server in config.servers.values())
