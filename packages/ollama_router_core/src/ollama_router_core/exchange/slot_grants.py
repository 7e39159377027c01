"""Carries out what admission decides: requests get their slots, or why there is none, and leave when they have to."""

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
    """A request may go to the first server of a decision, once the models in `unload` have left that.

    `position` is the one with which it joined the queue, None where it came at a time when nobody had to wait.
    """

    ticket: Ticket
    decision: Decision
    unload: tuple[CanonicalName, ...] = ()
    position: int | None = None


class SlotGrants:
    """Who waits for a slot, and what comes of it.

    Args:
        config: how often a request may be preempted.
        issuer: told what becomes of each slot.
        admission: decides.
        slots: those that are held.
        shared: where slots are asked for that other routers use, too.
        now: seconds of the fleet's clock.
        tell: called when the line has changed.
    """

    def __init__(
        self,
        config: Config,
        issuer: SlotIssuer,
        admission: Admission,
        slots: OpenSlots,
        shared: SharedSlots,
        now: Callable[[], float],
        tell: Callable[[], None],
    ) -> None:
        self._config = config
        self._issuer = issuer
        self._fleet = issuer.fleet
        self._admission = admission
        self._slots = slots
        self._shared = shared
        self._now = now
        self._tell = tell
        self._waiters: dict[int, Waiter] = {}
        self._turns: dict[str, float] = {}

    def reconfigure(self, config: Config) -> None:
        """Go by another config from now on."""
        self._config = config

    def turns_taken(self) -> dict[str, float]:
        """When users got slots that several routers share, since this was last asked."""
        turns, self._turns = self._turns, {}
        return turns

    # --- who waits ----------------------------------------------------------------------------------------------------

    def wait(self, number: int, wake: Callable[[], None], decision: Decision | None = None) -> Waiter:
        """Have a request wait for what will be carried out; `decision` is the one by which it has to."""
        waiter = self._waiters[number] = Waiter(number, wake, decision)
        return waiter

    def queued(self, waiter: Waiter, position: int | None = None, expected: float = 0.0) -> Queued:
        """Return what a request that waits is told."""
        return Queued(position, expected, waiter, partial(self._leave, waiter))

    def _leave(self, waiter: Waiter) -> None:
        """Drop a request that does not wait any more; give a slot that it got in the same moment to the next."""
        if isinstance(waiter.outcome, ServerSlot):
            waiter.outcome.close()
        elif not self._shared.leave(waiter) and self._waiters.pop(waiter.number, None) is not None:
            self.carry_out(self._admission.left(waiter.number, self._fleet.snapshot, self._now()))
            self._tell()

    # --- what comes of it ---------------------------------------------------------------------------------------------

    def carry_out(self, outcomes: Iterable[Outcome]) -> None:
        """Do what admission has decided, for whoever is concerned."""
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
        """Have a request leave its server: now, or as soon as it is granted the slot that it has asked for."""
        slot, waiter = self._slots.by_number.get(number), self._waiters.get(number)
        if slot is not None and slot.preemption is not None:
            slot.preemption.request()
        elif slot is None and waiter is not None:
            waiter.preempted = True

    def _send(self, dispatch: Dispatch, waiter: Waiter | None) -> None:
        grant = self.by_line(dispatch, self._fleet.snapshot, self._now(), position=dispatch.position)
        if waiter is None:
            self._slot(grant, _nobody).close()
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
        """Return the grant of a request whose server the line chose; `warm` is that of `LateExplanation`."""
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
        """Return a slot for a request that need not wait, or the wait for all routers to grant it."""
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
        """Ask for the slot; a request that does not get it waits in its turn."""
        self._waiters[waiter.number] = waiter
        waiter.claims, waiter.preempted = True, False
        server, model = grant.decision.ranking[0], grant.decision.request.model
        since = self._admission.in_line_since(grant.ticket)
        self._shared.claim(server, model, partial(self._claimed, waiter, grant), arrived=since)

    def _claimed(self, waiter: Waiter, grant: Grant, granted: bool) -> None:  # noqa: FBT001 - an answer
        waiter.claims = False
        if self._waiters.get(waiter.number) is not waiter:  # it has left meanwhile
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
            self._tell()

    def _granted(self, waiter: Waiter, grant: Grant) -> None:
        ticket, now = grant.ticket, self._now()
        self._admission.granted(ticket, now)
        if not ticket.batch:
            self._turns[ticket.user] = now
        slot = waiter.outcome = self._slot(grant, waiter.wake, begun=True)
        if waiter.preempted and slot.preemption is not None:
            slot.preemption.request()
        waiter.wake()
        if grant.position is not None:  # another one is the first now
            self._tell()


def _nobody() -> None:
    """Do nothing: nobody waits for the request any more."""
