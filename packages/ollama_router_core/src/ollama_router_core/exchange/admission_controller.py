"""A request gets its slot: at once when a server is free, else when its turn comes.

Most requests find a free server and nobody before them: they never enter the queue. One that waits gets its outcome
with a call about something else: another slot is closed, facts change, time passes. The driver calls `look` at
`next_look`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import assert_never

from ollama_router_core.admission import Admission, Dispatch, Outcome, Preempt, Refusal, Ticket, WaitingGroup
from ollama_router_core.api.endpoints import Kind
from ollama_router_core.api.forwarded import is_forwarded
from ollama_router_core.api.model_names import CanonicalName, is_cloud_name
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.config.settings import Config
from ollama_router_core.errors import NoServerFits
from ollama_router_core.exchange.actions import Admit
from ollama_router_core.exchange.events import Preemption, Queued, Refused
from ollama_router_core.exchange.server_slot import ServerSlot, SlotClaims, SlotFleet, Waiter
from ollama_router_core.exchange.slot_moves import SlotMoves
from ollama_router_core.fleet.health import USUAL_SLOTS
from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.routing.decision import Decision, LateExplanation
from ollama_router_core.routing.strategies import STRATEGIES

__all__ = ["AdmissionController"]

_WHILE_TROUBLED = 0.5
"""Seconds between looks at the queue while some server is out: its time may be up."""
_WHILE_SHARED = 0.05
"""The same while other workers may free a server; what this one frees is seen at once."""
_UNSEEN = FleetSnapshot()


class AdmissionController:
    """Every request that wants a server, in one queue. Not for two threads at once.

    Args:
        config: strategy, and the limits of servers and queue.
        fleet: what is believed about the servers.
        now: seconds of the fleet's clock.
        decided: told how many seconds choosing a server took, where nobody had to wait.
        claims: where the slots of servers with a limit are taken; None where what is known here is enough.
    """

    def __init__(
        self,
        config: Config,
        fleet: SlotFleet,
        now: Callable[[], float],
        *,
        decided: Callable[[float], None] = lambda _: None,
        claims: SlotClaims | None = None,
    ) -> None:
        self.fleet = fleet
        self._config = config
        self._now = now
        self._decided = decided
        self._claims = claims
        self._admission = Admission(config)
        self._strategy = STRATEGIES[config.routing_strategy]
        self._counting = _counts(config)
        self._open: dict[int, ServerSlot] = {}
        self._numbers = itertools.count(1)
        self._waiters: dict[int, Waiter] = {}
        self._moves = SlotMoves(claims, fleet, now, limit=self._limit, moved=self._moved)
        self._leaving: set[int] = set()  # preempted while the slot is asked for
        self._turns: dict[str, float] = {}
        self._listeners: list[Callable[[], None]] = []

    def reconfigure(self, config: Config) -> None:
        """Go by another config from now on, for those in the queue too."""
        self._config = config
        self._strategy = STRATEGIES[config.routing_strategy]
        if _counts(config):
            self._count()
        self._admission.reconfigure(config)
        self.facts_changed()

    def renamed(self, names: Mapping[str, str]) -> None:
        """Go by names that servers have now whose own are those of others; `names` has them by the old ones."""
        slots = [(slot, slot.server) for slot in self._open.values() if slot.server in names]
        for slot, old in slots:
            slot.server = names[old]
            self.fleet.moved(old, slot.server, slot.decision.request.model)
            if self._counting:
                self._admission.moved(slot.number, slot.server, self._now())

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return self._admission.waiting

    @property
    def waiting_since(self) -> float | None:
        """When the request arrived that waits longest; None while nobody waits."""
        return self._admission.line.since

    def longest_wait(self) -> tuple[float | None, frozenset[str]]:
        """Since when requests wait, for other routers to compare, and the full servers that could take the first."""
        return self._admission.line.longest_wait(self.fleet.snapshot, self._now())

    def heads(self) -> Mapping[str, float]:
        """Since when the first is in the line of each full server."""
        return self._admission.line.heads(self.fleet.snapshot, self._now())

    def turns_taken(self) -> dict[str, float]:
        """When users got slots that several routers share, since this was last asked."""
        turns, self._turns = self._turns, {}
        return turns

    def hear_turns(self, moments: Mapping[str, float]) -> None:
        """Take in when users got slots of other routers: they have had their turn here, too."""
        self._admission.granted_elsewhere(moments)
        self._tell()

    def line(self, user: str | None = None) -> tuple[WaitingGroup, ...]:
        """List what waits, by model, the longest wait first; of one user only where one is named."""
        return self._admission.line.groups(self.fleet.snapshot, self._now(), user)

    def traffic(self) -> FleetSnapshot:
        """Return the fleet with the load and the demand that admission knows of: what decisions are made from."""
        snapshot = self.fleet.snapshot
        return self._admission.traffic(snapshot, self._now()) if self._counting else snapshot

    def decide(self, request: RouteRequest) -> Decision:
        """Where a request would go that nobody makes."""
        return self._admission.selector.decide(request, self.traffic(), now=self._now())

    # --- arriving, waiting, leaving -----------------------------------------------------------------------------------

    def admit(self, asked: Admit, wake: Callable[[], None]) -> ServerSlot | Queued | Refused:
        """Return a slot, or a place in the queue, or why there is neither.

        `wake` is called when `outcome` has something, while the cause is still being dealt with: it must only note it.
        """
        now, number = self._now(), next(self._numbers)
        route = asked.request.route
        hosted = route.uses_cloud and is_cloud_name(route.model_text or "")
        if self._admission.waiting and not hosted:
            return self._arrive(_ticket(asked, number, now), None, now, wake)
        if self._strategy.binds_late and not hosted:
            ticket = _ticket(asked, number, now)
            found = self._admission.at_once(ticket, self.fleet.snapshot, now)
            self._decided(self._now() - now)
            if found is None:
                return self._arrive(ticket, None, now, wake)
            return self._go(ticket, self._decision(found, now, warm=True), found.unload, wake)
        decision = self._admission.selector.decide(route, self.fleet.snapshot, now=now, tiebreak=number)
        self._decided(self._now() - now)
        if decision.error is not None:
            if isinstance(decision.error, NoServerFits):
                self._count()
            return self._arrive(_ticket(asked, number, now), decision, now, wake)
        if not self._counting:
            return ServerSlot(self, number, decision, wake=wake)
        ticket = _ticket(asked, number, now)
        self._admission.bound(ticket, decision.ranking[0], now)
        return self._go(ticket, decision, (), wake)

    def _count(self) -> None:
        """Count from now on what runs where, as somebody may have to wait for it; those that run already, too."""
        if self._counting:
            return
        self._counting, now = True, self._now()
        for slot in self._open.values():
            self._admission.bound(
                Ticket(number=slot.number, request=slot.decision.request, arrived=now), slot.server, now
            )

    def outcome(self, waiter: Waiter) -> ServerSlot | Refused | None:
        """Return what has become of a request in the queue; None while it waits."""
        found = waiter.outcome
        return Refused(found.error, waiter.decision) if isinstance(found, Refused) else found

    def place(self, waiter: Waiter) -> Queued:
        """Where a request stands that still waits."""
        position, expected = self._admission.line.place(waiter.number, self.fleet.snapshot, self._now())
        return Queued(position, expected, waiter, partial(self.leave, waiter))

    def rank(self, waiter: Waiter) -> int:
        """Return a request's current position, from 1; 0 when it does not wait. Unlike `place` it makes no forecast."""
        return self._admission.line.rank(waiter.number)

    def leave(self, waiter: Waiter) -> None:
        """Drop a request that does not wait any more; give a slot that it got in the same moment to the next."""
        if isinstance(waiter.outcome, ServerSlot):
            waiter.outcome.close()
        elif not self._moves.leave(waiter) and self._waiters.pop(waiter.number, None) is not None:
            self._carry_out(self._admission.left(waiter.number, self.fleet.snapshot, self._now()))
            self._tell()

    def _arrive(
        self, ticket: Ticket, decision: Decision | None, now: float, wake: Callable[[], None]
    ) -> ServerSlot | Queued | Refused:
        snapshot = self.fleet.snapshot
        waiter = self._waiters[ticket.number] = Waiter(ticket.number, wake, decision)
        self._carry_out(self._admission.arrive(ticket, snapshot, now))
        found = self.outcome(waiter)
        if found is not None:
            return found
        if waiter.claims:
            return Queued(None, 0.0, waiter, partial(self.leave, waiter))
        _, expected = self._admission.line.place(ticket.number, snapshot, now)
        self._tell()
        return Queued(self._admission.line.position(ticket.number), expected, waiter, partial(self.leave, waiter))

    def _carry_out(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            match outcome:
                case Dispatch():
                    self._send(outcome, self._waiters.pop(outcome.ticket.number, None))
                case Refusal():
                    self._refuse(outcome, self._waiters.pop(outcome.ticket.number, None))
                case Preempt():
                    self._preempt(outcome)
                case _:
                    assert_never(outcome)

    def _refuse(self, refusal: Refusal, waiter: Waiter | None) -> None:
        if waiter is not None:
            waiter.outcome = Refused(refusal.error)
            waiter.wake()

    def _preempt(self, preempt: Preempt) -> None:
        number = preempt.ticket.number
        slot = self._open.get(number)
        if slot is None:
            self._leaving.add(number)
        elif slot.preemption is not None:
            slot.preemption.request()

    def _send(self, dispatch: Dispatch, waiter: Waiter | None) -> None:
        decision = self._decision(dispatch, self._now())
        if waiter is not None and self._is_shared(dispatch.server):
            self._claim(waiter, dispatch.ticket, decision, dispatch.unload, position=dispatch.position)
            return
        wake = None if waiter is None else waiter.wake
        slot = self._slot(dispatch.ticket, decision, dispatch.unload, wake or _nobody, position=dispatch.position)
        if waiter is None:
            slot.close()
        else:
            waiter.outcome = slot
            waiter.wake()

    def _slot(
        self,
        ticket: Ticket,
        decision: Decision,
        unload: tuple[CanonicalName, ...],
        wake: Callable[[], None],
        *,
        begun: bool = False,
        position: int = 0,
    ) -> ServerSlot:
        """Make the slot of a request that admission counts."""
        leaves = ticket.preemptible and ticket.preemptions < self._config.queue.max_preemptions
        preemption = Preemption() if leaves else None
        return ServerSlot(
            self,
            ticket.number,
            decision,
            unload=unload,
            begun=begun,
            wake=wake,
            preemption=preemption,
            position=position,
        )

    def _decision(self, dispatch: Dispatch, now: float, *, warm: bool | None = None) -> Decision:
        ticket, snapshot = dispatch.ticket, self.fleet.snapshot
        prefix = snapshot.held(ticket.conversation)
        explained = self._admission.selector.explained
        explain = partial(
            explained, ticket.request, snapshot, dispatch.ranking, dispatch.reason, now=now, prefix=prefix
        )
        return Decision(
            request=ticket.request,
            strategy=self._config.routing_strategy,
            ranking=dispatch.ranking,
            explanation=LateExplanation(dispatch.reason, explain, warm),
        )

    # --- slots that others share --------------------------------------------------------------------------------------

    def _go(
        self, ticket: Ticket, decision: Decision, unload: tuple[CanonicalName, ...], wake: Callable[[], None]
    ) -> ServerSlot | Queued:
        """Return a slot for a request that need not wait, or the wait for it to be granted."""
        if not self._is_shared(decision.ranking[0]):
            return self._slot(ticket, decision, unload, wake)
        waiter = Waiter(ticket.number, wake, None)
        self._claim(waiter, ticket, decision, unload, queued=False)
        return Queued(None, 0.0, waiter, partial(self.leave, waiter))

    def _is_shared(self, server: str) -> bool:
        return self._claims is not None and self._limit(server) is not None

    def _limit(self, server: str) -> int | None:
        settings = self._config.servers.get(server)
        return None if settings is None else settings.max_concurrent

    def _claim(
        self,
        waiter: Waiter,
        ticket: Ticket,
        decision: Decision,
        unload: tuple[CanonicalName, ...],
        *,
        queued: bool = True,
        position: int = 0,
    ) -> None:
        """Ask for the slot; a request that does not get it waits in its turn, as it did before if it was `queued`."""
        server, limit = decision.ranking[0], self._limit(decision.ranking[0])
        if self._claims is None or limit is None:
            raise AssertionError(f"{server} has no slots to claim")
        self._waiters[ticket.number] = waiter
        waiter.claims = True

        def done(granted: bool) -> None:  # noqa: FBT001 - an answer
            waiter.claims = False
            leaves = ticket.number in self._leaving
            self._leaving.discard(ticket.number)
            if self._waiters.get(ticket.number) is not waiter:  # it has left meanwhile
                if granted:
                    self.fleet.end(server, decision.request.model)
                    self._carry_out(self._admission.changed(self._facts(), self._now()))
            elif granted:
                del self._waiters[ticket.number]
                self._admission.granted(ticket, self._now())
                if not ticket.batch:
                    self._turns[ticket.user] = self._now()
                slot = waiter.outcome = self._slot(ticket, decision, unload, waiter.wake, begun=True, position=position)
                if leaves and slot.preemption is not None:
                    slot.preemption.request()
                waiter.wake()
                if queued:  # another one is the first now
                    self._tell()
            else:
                self._carry_out(self._admission.denied(ticket, self.fleet.snapshot, self._now()))
                waiter.wake()  # it has a position now
                self._tell()

        since = self._admission.in_line_since(ticket)
        self._claims.claim(server, decision.request.model, limit, done, arrived=since)

    def move(self, slot: ServerSlot, server: str, wake: Callable[[], None]) -> Queued | None:
        """Move a slot to the next server that is tried: at once, or when other routers have left it a slot there."""
        if not self._is_shared(server):
            self._moved(slot, server)
            return None
        waiter = self._moves.begin(slot, server, wake)
        self._tell()
        return Queued(None, 0.0, waiter, partial(self.leave, waiter))

    # --- what a slot reports ------------------------------------------------------------------------------------------

    def has_room(self, server: str) -> bool:
        """Whether a server takes one more request at once; where nothing limits it, up to as many as are usual.

        One that just refused or failed is not idle, however little it has to do.
        """
        snapshot, settings = self.fleet.snapshot, self._config.servers.get(server)
        if settings is None or self.fleet.health.fails(server):
            return False
        limits = (snapshot.slots.get(server), settings.max_concurrent)
        most = min([limit for limit in limits if limit is not None], default=USUAL_SLOTS)
        return snapshot.in_flight.get(server, 0) < most

    def take_retry(self) -> bool:
        """Take one of the fleet's retries, if there is one left."""
        return self.fleet.take_retry(self.waiting)

    def _moved(self, slot: ServerSlot, server: str, *, begun: bool = False) -> None:
        model = slot.decision.request.model
        self.fleet.end(slot.server, model)
        if not begun:
            self.fleet.begin(server, model)
        slot.moved(server)
        if self._counting:
            self._admission.moved(slot.number, server, self._now())

    def answering(self, slot: ServerSlot) -> None:
        """Note that an answer began."""
        if self._strategy.binds_late or slot.preemption is not None:
            now = self._now()
            self._carry_out(self._admission.first_byte(slot.number, self._facts(), now))

    def opened(self, slot: ServerSlot) -> None:
        """Note that a slot is taken."""
        self._open[slot.number] = slot

    def finished(self, slot: ServerSlot) -> None:
        """Note that a slot is free."""
        del self._open[slot.number]
        if self._counting:
            self._carry_out(self._admission.finished(slot.number, self._facts(), self._now()))

    def requeue(self, slot: ServerSlot) -> Queued:
        """Free the slot of a preempted request, which waits for another."""
        del self._open[slot.number]
        waiter = self._waiters[slot.number] = Waiter(slot.number, slot.wake, None)
        self._carry_out(self._admission.preempted(slot.number, self.fleet.snapshot, self._now()))
        self._tell()
        return self.place(waiter)

    def _facts(self) -> FleetSnapshot:
        """Return the fleet for those in the queue; while it is empty nobody looks at it."""
        return self.fleet.snapshot if self._admission.waiting else _UNSEEN

    # --- time and facts -----------------------------------------------------------------------------------------------

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever the queue may want to be looked at earlier than before."""
        self._listeners.append(listener)

    def next_look(self) -> float | None:
        """When the queue wants to be looked at, None while nobody waits."""
        now = self._now()
        at = self._admission.next_tick(now)
        if self._moves:
            return now + _WHILE_SHARED
        if at is None:
            return None
        if self.fleet.health.troubled:
            at = min(at, now + _WHILE_TROUBLED)
        if self.fleet.shares:
            at = min(at, now + _WHILE_SHARED)
        return at

    def look(self) -> None:
        """Time has passed: some may go, some have waited for too long."""
        self._moves.ask()
        self._carry_out(self._admission.tick(self.fleet.snapshot, self._now()))
        if self.fleet.health.troubled or self.fleet.shares:
            self._carry_out(self._admission.changed(self.fleet.snapshot, self._now()))
        self._tell()

    def facts_changed(self) -> None:
        """Let those go who may, now that what is believed about the servers has changed."""
        if self._admission.waiting:
            self._carry_out(self._admission.changed(self.fleet.snapshot, self._now()))
            self._tell()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()


def _nobody() -> None:
    """Do nothing: nobody waits for the request any more."""


def _ticket(asked: Admit, number: int, now: float) -> Ticket:
    """Make the ticket of a request that waits, or is counted."""
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


def _counts(config: Config) -> bool:
    """Whether what runs where has to be counted from the start."""
    if STRATEGIES[config.routing_strategy].binds_late or config.queue.max_preemptions:
        return True
    return any(server.max_concurrent for server in config.servers.values())
