"""Grants slots to requests: immediately when a server is free, else in queue order.

Most requests find a free server and an empty queue, and never enter the queue. A queued request gets its outcome during
another call: a slot is closed, facts change, or time passes. The driver calls `look` at `next_look`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

from ollama_router_core.admission import Admission, Ticket
from ollama_router_core.api.endpoints import Kind
from ollama_router_core.api.forwarded import is_forwarded
from ollama_router_core.api.model_names import is_cloud_name
from ollama_router_core.config.settings import Config
from ollama_router_core.errors import NoServerFits
from ollama_router_core.exchange.actions import Admit
from ollama_router_core.exchange.admission_view import AdmissionView
from ollama_router_core.exchange.events import Queued, Refused
from ollama_router_core.exchange.open_slots import OpenSlots
from ollama_router_core.exchange.server_slot import ServerSlot, SlotClaims, Waiter
from ollama_router_core.exchange.shared_slots import SharedSlots
from ollama_router_core.exchange.slot_grants import Grant, SlotGrants
from ollama_router_core.fleet.clocked_fleet import ClockedFleet
from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.routing.decision import Decision
from ollama_router_core.routing.strategies import STRATEGIES

__all__ = ["AdmissionController"]

_WHILE_TROUBLED = 0.5
"""Seconds between queue checks while a server is suspended, as its suspension may end."""
_WHILE_SHARED = 0.05
"""Seconds between queue checks while other workers may free a server; slots of this worker need no check."""
_UNSEEN = FleetSnapshot()


class AdmissionController:
    """Admission of all requests, with one queue. Not thread-safe.

    Args:
        config: strategy, and the limits of servers and queue.
        fleet: the fleet state.
        now: the fleet's clock, in seconds.
        decided: called with the seconds that choosing a server took, for requests that did not queue.
        claims: grants slots of servers with a limit; None where this process alone counts them.

    Attributes:
        view: read access to the queue and to the facts that decisions use.
    """

    def __init__(
        self,
        config: Config,
        fleet: ClockedFleet,
        now: Callable[[], float],
        *,
        decided: Callable[[float], None] = lambda _: None,
        claims: SlotClaims | None = None,
    ) -> None:
        self.fleet = fleet
        self._now = now
        self._decided = decided
        self._admission = Admission(config)
        self._strategy = STRATEGIES[config.routing_strategy]
        self._slots = OpenSlots(config, fleet, self._admission, now)
        self._shared = SharedSlots(config, claims, fleet, now, moved=self._slots.move)
        self._grants = SlotGrants(config, self, self._admission, self._slots, self._shared, now, self._notify)
        self.view = AdmissionView(self._admission, fleet, self._slots, now)
        self._numbers = itertools.count(1)
        self._listeners: list[Callable[[], None]] = []

    def reconfigure(self, config: Config) -> None:
        """Apply a new config, also to queued requests."""
        self._strategy = STRATEGIES[config.routing_strategy]
        self._slots.reconfigure(config)
        self._shared.reconfigure(config)
        self._grants.reconfigure(config)
        self._admission.reconfigure(config)
        self.facts_changed()

    def renamed(self, names: Mapping[str, str]) -> None:
        """Rename servers; `names` maps old names to new names."""
        self._slots.renamed(names)

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return self._admission.waiting

    def turns_taken(self) -> dict[str, float]:
        """Return when each user last got a shared slot, since the previous call."""
        return self._grants.turns_taken()

    def hear_turns(self, moments: Mapping[str, float]) -> None:
        """Record when users got slots through other routers, which counts as their turn here."""
        self._admission.granted_elsewhere(moments)
        self._notify()

    # --- arriving and waiting -----------------------------------------------------------------------------------------

    def admit(self, asked: Admit, wake: Callable[[], None]) -> ServerSlot | Queued | Refused:
        """Return a slot, a place in the queue, or a refusal.

        `wake` is called synchronously when the waiter has its outcome: it may only record that.
        """
        now, number = self._now(), next(self._numbers)
        route = asked.request.route
        hosted = route.uses_cloud and is_cloud_name(route.model_text or "")
        if self._admission.waiting and not hosted:
            return self._arrive(_ticket(asked, number, now), None, now, wake)
        if self._strategy.binds_late and not hosted:
            return self._admit_late(_ticket(asked, number, now), now, wake)
        decision = self._admission.selector.decide(route, self.fleet.snapshot, now=now, tiebreak=number)
        self._decided(self._now() - now)
        if decision.error is not None:
            if isinstance(decision.error, NoServerFits):
                self._slots.count()
            return self._arrive(_ticket(asked, number, now), decision, now, wake)
        if not self._slots.counted:
            return ServerSlot(self, number, decision, wake=wake)
        ticket = _ticket(asked, number, now)
        self._admission.bound(ticket, decision.ranking[0], now)
        return self._grants.go(Grant(ticket, decision), wake)

    def _admit_late(self, ticket: Ticket, now: float, wake: Callable[[], None]) -> ServerSlot | Queued | Refused:
        """Admit a request ahead of which no request waits, under a strategy that binds late."""
        snapshot = self.fleet.snapshot
        found = self._admission.at_once(ticket, snapshot, now)
        self._decided(self._now() - now)
        if found is None:
            return self._arrive(ticket, None, now, wake)
        return self._grants.go(self._grants.by_line(found, snapshot, now, warm=True), wake)

    def _arrive(
        self, ticket: Ticket, decision: Decision | None, now: float, wake: Callable[[], None]
    ) -> ServerSlot | Queued | Refused:
        snapshot = self.fleet.snapshot
        waiter = self._grants.wait(ticket.number, wake, decision)
        self._grants.carry_out(self._admission.arrive(ticket, snapshot, now))
        if waiter.outcome is not None:
            return waiter.outcome
        if waiter.claims:
            return self._grants.queued(waiter)
        _, expected = self._admission.line.place(ticket.number, snapshot, now)
        self._notify()
        return self._grants.queued(waiter, self._admission.line.position(ticket.number), expected)

    def place(self, waiter: Waiter) -> Queued:
        """Return the queue position and expected wait of a request."""
        position, expected = self._admission.line.place(waiter.number, self.fleet.snapshot, self._now())
        return self._grants.queued(waiter, position, expected)

    def rank(self, waiter: Waiter) -> int:
        """Return a request's queue position, from 1; 0 when it does not wait. `place` adds a forecast."""
        return self._admission.line.rank(waiter.number)

    # --- what a slot reports ------------------------------------------------------------------------------------------

    def move(self, slot: ServerSlot, server: str, wake: Callable[[], None]) -> Queued | None:
        """Move a slot to the next server to try: immediately, or once other routers have granted a slot there."""
        if not self._shared.includes(server):
            self._slots.move(slot, server)
            return None
        waiter = self._shared.move(slot, server, wake)
        self._notify()
        return self._grants.queued(waiter)

    def has_room(self, server: str) -> bool:
        """Whether a server can take one more request immediately."""
        return self._slots.has_room(server)

    def take_retry(self) -> bool:
        """Take one retry from the fleet's budget, if any is left."""
        return self.fleet.take_retry(self.waiting)

    def answering(self, slot: ServerSlot) -> None:
        """Record the start of a response."""
        if self._strategy.binds_late or slot.preemption is not None:
            now = self._now()
            self._grants.carry_out(self._admission.first_byte(slot.number, self._facts(), now))

    def opened(self, slot: ServerSlot) -> None:
        """Record an opened slot."""
        self._slots.by_number[slot.number] = slot

    def finished(self, slot: ServerSlot) -> None:
        """Record a freed slot."""
        del self._slots.by_number[slot.number]
        if self._slots.counted:
            self._grants.carry_out(self._admission.finished(slot.number, self._facts(), self._now()))

    def requeue(self, slot: ServerSlot) -> Queued:
        """Free the slot of a preempted request and queue the request again."""
        del self._slots.by_number[slot.number]
        waiter = self._grants.wait(slot.number, slot.wake)
        self._grants.carry_out(self._admission.preempted(slot.number, self.fleet.snapshot, self._now()))
        self._notify()
        return self.place(waiter)

    def _facts(self) -> FleetSnapshot:
        """Return the snapshot for queued requests; an empty queue does not read it."""
        return self.fleet.snapshot if self._admission.waiting else _UNSEEN

    # --- time and facts -----------------------------------------------------------------------------------------------

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever the next queue check may be due earlier."""
        self._listeners.append(listener)

    def next_look(self) -> float | None:
        """Return when the next queue check is due, None while no request waits."""
        now = self._now()
        at = self._admission.next_tick(now)
        if self._shared.awaited:
            return now + _WHILE_SHARED
        if at is None:
            return None
        if self.fleet.health.troubled:
            at = min(at, now + _WHILE_TROUBLED)
        if self.fleet.shares:
            at = min(at, now + _WHILE_SHARED)
        return at

    def look(self) -> None:
        """Check the queue: dispatch requests that can go, and refuse those that waited too long."""
        self._shared.ask()
        self._grants.carry_out(self._admission.tick(self.fleet.snapshot, self._now()))
        if self.fleet.health.troubled or self.fleet.shares:
            self._grants.carry_out(self._admission.changed(self.fleet.snapshot, self._now()))
        self._notify()

    def facts_changed(self) -> None:
        """Dispatch queued requests that can go after a change of the fleet state."""
        if self._admission.waiting:
            self._grants.carry_out(self._admission.changed(self.fleet.snapshot, self._now()))
            self._notify()

    def _notify(self) -> None:
        for listener in self._listeners:
            listener()


def _ticket(asked: Admit, number: int, now: float) -> Ticket:
    """Make the ticket of a request that queues or is counted."""
    endpoint, batch = asked.request.endpoint, asked.waiting.batch
    return Ticket(
        number=number,
        request=asked.request.route,
        arrived=now,
        user=asked.user,
        tiebreak=number,
        conversation=asked.conversation,
        max_wait=asked.waiting.max_wait,
        batch=batch,
        preemptible=batch and endpoint.kind is Kind.INFER and not is_forwarded(endpoint),
    )
