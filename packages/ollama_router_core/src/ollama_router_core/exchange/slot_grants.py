"""Carries out admission's decisions: grants, refusals and preemptions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import assert_never

from msgspec import Struct

from ollama_router_core.admission import Admission, Dispatch, Outcome, Preempt, Refusal, Ticket
from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.config.settings import Config
from ollama_router_core.exchange.events import Preemption, Queued, Refused
from ollama_router_core.exchange.open_slots import OpenSlots
from ollama_router_core.exchange.server_slot import ServerSlot, SlotIssuer, Waiter
from ollama_router_core.exchange.shared_slots import SharedSlots
from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.routing.decision import Decision

__all__ = ["Grant", "SlotGrants"]


class Grant(Struct, frozen=True, eq=False):
    """A request may go to the first server of a decision, once the models in `unload` are unloaded there.

    `position` is the one at which it joined the queue, None if it did not queue.
    """

    ticket: Ticket
    decision: Decision
    unload: tuple[CanonicalName, ...] = ()
    position: int | None = None


class SlotGrants:
    """The waiting requests, and the grants of their slots.

    Args:
        config: how often a request may be preempted.
        issuer: notified of changes to slots.
        admission: makes the decisions.
        slots: the open slots.
        shared: claims slots shared with other routers.
        now: the fleet's clock, in seconds.
        notify: called when the queue has changed.
    """

    def __init__(
        self,
        config: Config,
        issuer: SlotIssuer,
        admission: Admission,
        slots: OpenSlots,
        shared: SharedSlots,
        now: Callable[[], float],
        notify: Callable[[], None],
    ) -> None:
        self._config = config
        self._issuer = issuer
        self._fleet = issuer.fleet
        self._admission = admission
        self._slots = slots
        self._shared = shared
        self._now = now
        self._notify = notify
        self._waiters: dict[int, Waiter] = {}
        self._turns: dict[str, float] = {}

    def reconfigure(self, config: Config) -> None:
        """Apply a new config."""
        self._config = config

    def turns_taken(self) -> dict[str, float]:
        """Return when each user last got a shared slot, since the previous call."""
        turns, self._turns = self._turns, {}
        return turns

    # --- who waits ----------------------------------------------------------------------------------------------------

    def wait(self, number: int, wake: Callable[[], None], decision: Decision | None = None) -> Waiter:
        """Register a waiting request; `decision` is the one that makes it wait."""
        waiter = self._waiters[number] = Waiter(number, wake, decision)
        return waiter

    def queued(self, waiter: Waiter, position: int | None = None, expected: float = 0.0) -> Queued:
        """Return the queue entry of a waiting request."""
        return Queued(position, expected, waiter, partial(self._leave, waiter))

    def _leave(self, waiter: Waiter) -> None:
        """Remove a request from the queue; pass on a slot granted in the meantime."""
        if isinstance(waiter.outcome, ServerSlot):
            waiter.outcome.close()
        elif not self._shared.leave(waiter) and self._waiters.pop(waiter.number, None) is not None:
            self.carry_out(self._admission.left(waiter.number, self._fleet.snapshot, self._now()))
            self._notify()

    # --- what comes of it ---------------------------------------------------------------------------------------------

    def carry_out(self, outcomes: Iterable[Outcome]) -> None:
        """Carry out admission's decisions."""
        for outcome in outcomes:
            match outcome:
                case Dispatch():
                    self._send(outcome, self._waiters.pop(outcome.ticket.number, None))
                case Refusal():
                    self._refuse(outcome, self._waiters.pop(outcome.ticket.number, None))
                case Preempt():
                    self._preempt(outcome.ticket.number)
                case _:
                    assert_never(outcome)

    def _refuse(self, refusal: Refusal, waiter: Waiter | None) -> None:
        if waiter is not None:
            waiter.outcome = Refused(refusal.error, waiter.decision)
            waiter.wake()

    def _preempt(self, number: int) -> None:
        """Preempt a request: now, or once its pending claim is granted."""
        slot, waiter = self._slots.by_number.get(number), self._waiters.get(number)
        if slot is not None and slot.preemption is not None:
            slot.preemption.request()
        elif slot is None and waiter is not None:
            waiter.preempted = True

    def _send(self, dispatch: Dispatch, waiter: Waiter | None) -> None:
        grant = self.by_line(dispatch, self._fleet.snapshot, self._now(), position=dispatch.position)
        if waiter is None:
            self._slot(grant, lambda: None).close()  # the request has left
        elif self._shared.includes(dispatch.server):
            self._claim(waiter, grant)
        else:
            waiter.outcome = self._slot(grant, waiter.wake)
            waiter.wake()

    def by_line(
        self,
        dispatch: Dispatch,
        snapshot: FleetSnapshot,
        now: float,
        *,
        position: int | None = None,
        warm: bool | None = None,
    ) -> Grant:
        """Return the grant of a request whose server the queue chose; `warm` as in `LateExplanation`."""
        ticket = dispatch.ticket
        decision = self._admission.selector.ranked_by_line(
            ticket.request,
            snapshot,
            dispatch.ranking,
            dispatch.reason,
            now=now,
            prefix=snapshot.held(ticket.conversation),
            warm=warm,
        )
        return Grant(ticket, decision, dispatch.unload, position)

    def go(self, grant: Grant, wake: Callable[[], None]) -> ServerSlot | Queued:
        """Return a slot for a request that need not queue, or the wait for a shared slot."""
        if not self._shared.includes(grant.decision.ranking[0]):
            return self._slot(grant, wake)
        waiter = Waiter(grant.ticket.number, wake)
        self._claim(waiter, grant)
        return self.queued(waiter)

    def _slot(self, grant: Grant, wake: Callable[[], None], *, begun: bool = False) -> ServerSlot:
        """Make the slot of a request that admission counts."""
        ticket = grant.ticket
        leaves = ticket.preemptible and ticket.preemptions < self._config.queue.max_preemptions
        return ServerSlot(
            self._issuer,
            ticket.number,
            grant.decision,
            unload=grant.unload,
            begun=begun,
            wake=wake,
            preemption=Preemption() if leaves else None,
            position=grant.position or 0,
        )

    # --- slots that others share --------------------------------------------------------------------------------------

    def _claim(self, waiter: Waiter, grant: Grant) -> None:
        """Claim a shared slot; a denied request stays in the queue."""
        self._waiters[waiter.number] = waiter
        waiter.claims, waiter.preempted = True, False
        server, model = grant.decision.ranking[0], grant.decision.request.model
        since = self._admission.in_line_since(grant.ticket)
        self._shared.claim(server, model, partial(self._claimed, waiter, grant), arrived=since)

    def _claimed(self, waiter: Waiter, grant: Grant, granted: bool) -> None:  # noqa: FBT001 - an answer
        waiter.claims = False
        if self._waiters.get(waiter.number) is not waiter:  # it has left in the meantime
            if granted:
                self._fleet.end(grant.decision.ranking[0], grant.decision.request.model)
                if self._admission.waiting:
                    self.carry_out(self._admission.changed(self._fleet.snapshot, self._now()))
        elif granted:
            del self._waiters[waiter.number]
            self._granted(waiter, grant)
        else:
            self.carry_out(self._admission.denied(grant.ticket, self._fleet.snapshot, self._now()))
            waiter.wake()  # it has a position now
            self._notify()

    def _granted(self, waiter: Waiter, grant: Grant) -> None:
        ticket, now = grant.ticket, self._now()
        self._admission.granted(ticket, now)
        if not ticket.batch:
            self._turns[ticket.user] = now
        slot = waiter.outcome = self._slot(grant, waiter.wake, begun=True)
        if waiter.preempted and slot.preemption is not None:
            slot.preemption.request()
        waiter.wake()
        if grant.position is not None:  # the head of the queue has changed
            self._notify()
