"""Load shedding: which requests are refused because the queue is full or the wait too long, and their Retry-After."""

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
_WAIT_REUSED = 0.1
"""Seconds for which refusals reuse one computed Retry-After."""
_DOUBT = 2.0
"""Error factor of expected waits: a request is refused only if its expected wait exceeds its patience by this
factor."""


class LoadShedding:
    """Keeps the queue within its bounds."""

    def __init__(self, queue: WaitQueue, line: WaitingLine) -> None:
        self._queue = queue
        self._line = line
        self._last_wait: tuple[RequestKind | None, float, float] = None, 0.0, 0.0

    def turn_away(self, ticket: Ticket, snapshot: FleetSnapshot, now: float) -> Overloaded | None:
        """Refuse a request cheaply if the queue has no room for it; None if it may be dispatched or wait.

        If others of its kind already wait, no server is considered for it: the events that could dispatch one of them
        were handled when they happened.
        """
        request, queue = ticket.request, self._queue
        if queue.has_room(ticket.user, request.model) or kind_of(request) not in queue.groups:
            return None
        if self._line.selector.fixed_decision(request, snapshot) is not None:
            return None
        if len(queue) >= queue.settings.max_waiting and queue.surplus_of(queue.waiting_of(ticket.user) + 1):
            return None
        kind, at, wait = self._last_wait
        if kind != kind_of(request) or now - at > _WAIT_REUSED:
            wait = self._line.expected_wait(ticket, snapshot, now)
            self._last_wait = kind_of(request), now, wait
        return self._overloaded(wait, "the queue is full")

    def relieve(self, ticket: Ticket, snapshot: FleetSnapshot, now: float) -> Refusal | None:
        """Refuse a ticket that has joined if its wait is hopeless, or the ticket that yields to it in a full queue."""
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
        """Refuse the tickets whose wait has expired."""
        over = self._queue.expired(now)
        return [self._refuse_overloaded(ticket, "waited for too long", snapshot, now) for ticket in over]

    def refuse(self, ticket: Ticket, error: SelectionError | RequestError, now: float) -> Refusal:
        """Remove a ticket from the queue and refuse it."""
        position = self._queue.leave(ticket.number)
        return Refusal(ticket=ticket, error=error, waited=now - ticket.arrived, position=position)

    def _refuse_overloaded(self, ticket: Ticket, why: str, snapshot: FleetSnapshot, now: float) -> Refusal:
        return self.refuse(ticket, self._overloaded(self._line.expected_wait(ticket, snapshot, now), why), now)

    def _hopeless(self, ticket: Ticket, snapshot: FleetSnapshot, now: float) -> Overloaded | None:
        """Return the refusal if the ticket's turn is expected only after its deadline."""
        patience = self._queue.patience(ticket)
        wait = self._line.expected_wait(ticket, snapshot, now)
        if wait > _DOUBT * patience:  # an average; the next in line may wait only for the rest of a running request
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
