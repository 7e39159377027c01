"""Load shedding: who is refused because too many wait, or would wait too long, and when to come back."""

from __future__ import annotations

from ollama_router_core.admission.tickets import Refusal, Ticket
from ollama_router_core.admission.wait_queue import WaitQueue
from ollama_router_core.admission.waiting_line import WaitingLine
from ollama_router_core.api.ollama_errors import SERVER_BUSY
from ollama_router_core.errors import Overloaded, RequestError, SelectionError, amount
from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.routing.candidates import RequestKind, kind_of

__all__ = ["MOST_RETRY_AFTER", "LoadShedding"]

MOST_RETRY_AFTER = 30.0
_TOLD_WAIT_LASTS = 0.1
"""Seconds for which those who are turned away are told the same time to come back."""
_DOUBT = 2.0
"""Expected waits are often wrong by so much: a request is refused only where its wait would end even then too late."""


class LoadShedding:
    """Keeps the queue within its bounds. Owned by one `Admission`."""

    def __init__(self, queue: WaitQueue, line: WaitingLine) -> None:
        self._queue = queue
        self._line = line
        self._told_wait: tuple[RequestKind | None, float, float] = None, 0.0, 0.0

    def turn_away(self, ticket: Ticket, snapshot: FleetSnapshot, now: float) -> Overloaded | None:
        """Refuse a request that a full queue has no room for, at the least cost; None where it may go or wait.

        Where others of its kind wait already, no server is considered for one more: whatever could have let one of
        them go was considered when it happened.
        """
        request, queue = ticket.request, self._queue
        if queue.has_room(ticket.user, request.model) or kind_of(request) not in queue.groups:
            return None
        if self._line.selector.fixed_decision(request, snapshot) is not None:
            return None
        if len(queue) >= queue.settings.max_waiting and queue.surplus_of(queue.waiting_of(ticket.user) + 1):
            return None
        kind, at, wait = self._told_wait
        if kind != kind_of(request) or now - at > _TOLD_WAIT_LASTS:
            wait = self._line.expected_wait(ticket, snapshot, now)
            self._told_wait = kind_of(request), now, wait
        return self._overloaded(wait, "the queue is full")

    def relieve(self, ticket: Ticket, snapshot: FleetSnapshot, now: float) -> Refusal | None:
        """Refuse a ticket that has joined if it waits in vain, or whoever has to give way to it in a full queue."""
        error = self._hopeless(ticket, snapshot, now)
        if error is not None:
            return self.refuse(ticket, error, now)
        queue = self._queue
        if queue.has_room(ticket.user, ticket.request.model, joined=True):
            return None
        is_full = len(queue) > queue.settings.max_waiting
        loser = (queue.surplus_of(queue.waiting_of(ticket.user)) if is_full else None) or ticket
        return self._refuse_overloaded(loser, "the queue is full", snapshot, now)

    def expired(self, snapshot: FleetSnapshot, now: float) -> list[Refusal]:
        """Refuse those whose time to wait is up."""
        over = self._queue.expired(now)
        return [self._refuse_overloaded(ticket, "waited for too long", snapshot, now) for ticket in over]

    def refuse(self, ticket: Ticket, error: SelectionError | RequestError, now: float) -> Refusal:
        """Take a ticket out of the queue."""
        position = self._queue.leave(ticket.number)
        return Refusal(ticket=ticket, error=error, waited=now - ticket.arrived, position=position)

    def _refuse_overloaded(self, ticket: Ticket, why: str, snapshot: FleetSnapshot, now: float) -> Refusal:
        return self.refuse(ticket, self._overloaded(self._line.expected_wait(ticket, snapshot, now), why), now)

    def _hopeless(self, ticket: Ticket, snapshot: FleetSnapshot, now: float) -> Overloaded | None:
        """Why waiting would be in vain: its turn is not expected before its time is up."""
        patience = self._queue.patience(ticket)
        wait = self._line.expected_wait(ticket, snapshot, now)
        if wait > _DOUBT * patience:  # a usual wait; who is next waits for what is left of one that runs
            _, turn = self._line.place(ticket.number, snapshot, now)
            wait = min(wait, turn)
        if wait <= _DOUBT * patience:
            return None
        return self._overloaded(wait, f"expected wait {wait:.0f} s, limit {patience:g} s")

    def _overloaded(self, wait: float, why: str) -> Overloaded:
        wait = min(MOST_RETRY_AFTER, max(1.0, wait))
        waiting = amount(len(self._queue), "request")
        text = f"{SERVER_BUSY} ({waiting} queued, {why}; try again in {wait:.0f} s)"
        return Overloaded(text, retry_after=wait)
