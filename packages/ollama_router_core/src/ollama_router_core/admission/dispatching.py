"""Dispatch of tickets to free slots, in the order of the strategy's binding."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ollama_router_core.admission.arrival_rates import ArrivalRates
from ollama_router_core.admission.availability import Availability
from ollama_router_core.admission.in_flight_table import InFlightTable
from ollama_router_core.admission.load_planning import LoadPlanner
from ollama_router_core.admission.scheduler import ScheduledTicket, Scheduler
from ollama_router_core.admission.tickets import Dispatch, Outcome, Ticket
from ollama_router_core.admission.wait_queue import RequestGroup, WaitQueue
from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.routing.candidates import Candidate, kind_of
from ollama_router_core.routing.decision import Decision
from ollama_router_core.routing.selector import ServerSelector

__all__ = ["Dispatcher", "able", "decide"]


def able(selector: ServerSelector, ticket: Ticket, snapshot: FleetSnapshot) -> tuple[Candidate, ...]:
    """List the servers that could take a ticket, now or later."""
    return selector.plan(ticket.request, snapshot).able


def decide(selector: ServerSelector, ticket: Ticket, snapshot: FleetSnapshot, now: float) -> Decision:
    """Decide on a server for a ticket."""
    held = snapshot.held(ticket.conversation)
    return selector.decide(ticket.request, snapshot, now=now, tiebreak=ticket.tiebreak, prefix=held)


class Dispatcher:
    """Moves tickets from the queue to the in-flight table."""

    def __init__(
        self,
        queue: WaitQueue,
        in_flight: InFlightTable,
        scheduler: Scheduler,
        planner: LoadPlanner,
        rates: ArrivalRates,
    ) -> None:
        self._queue = queue
        self._in_flight = in_flight
        self._scheduler = scheduler
        self._planner = planner
        self._rates = rates

    def traffic(self, snapshot: FleetSnapshot, now: float) -> FleetSnapshot:
        """Add the load and demand known to admission to a snapshot."""
        in_flight, active = self._in_flight.counts()
        return snapshot.with_traffic(in_flight, active, self._rates.rates(now))

    def scheduled(
        self, groups: list[RequestGroup], servers: Collection[str], changed: frozenset[str] | None, now: float
    ) -> Iterator[Outcome]:
        """Fill free slots under late binding, then start loads that pay; `changed` limits both to some servers.

        Batch tickets get the remaining slots, on all servers: none starts where a load was just started, as the facts
        still show the evicted models, nor where another waiting ticket could be served.
        """
        for scheduled in self._scheduler.fill_free_slots(groups, changed, batch=False):
            yield self._carry_out(scheduled, now)
        among = servers if changed is None else changed
        batch = [one for one in groups if one.batch]
        begun = set()
        for load in self._loads_of_others(groups, among, now, only=bool(batch)):
            begun.add(load.server)
            yield load
        if batch:
            begun |= self._planner.wanted_by_others(servers)
            left = [name for name in sorted(servers) if name not in begun]
            for scheduled in self._scheduler.fill_free_slots(batch, left, batch=True):
                yield self._carry_out(scheduled, now)
            yield from self._loads(batch, left, now)

    def _loads_of_others(
        self, groups: list[RequestGroup], servers: Collection[str], now: float, *, only: bool
    ) -> Iterator[Dispatch]:
        """Yield the reserved loads that now have room, then those that pay; with `only`, none for batch groups."""
        for scheduled in self._planner.reserved():
            yield self._carry_out(scheduled, now)
        yield from self._loads([one for one in groups if not one.only_batch] if only else groups, servers, now)

    def _loads(self, groups: list[RequestGroup], servers: Collection[str], now: float) -> Iterator[Dispatch]:
        """Yield the loads that pay, best first, at most one per server."""
        for _ in servers:
            load = self._planner.best(groups, servers)
            if load is None:
                return
            yield self._carry_out(load, now)
            self._planner.refresh(now)

    def _carry_out(self, scheduled: ScheduledTicket, now: float) -> Dispatch:
        return self.start(scheduled, now, self._queue.leave(scheduled.ticket.number))

    def start(self, scheduled: ScheduledTicket, now: float, position: int) -> Dispatch:
        """Dispatch a ticket as scheduled; `position` is the one it had in the queue, 0 for none."""
        ticket = scheduled.ticket
        self._queue.served(ticket.user)
        self._in_flight.start(
            ticket, scheduled.server, now, work=scheduled.work, load=scheduled.load, size=scheduled.size
        )
        waited = now - ticket.arrived
        return Dispatch(
            ticket=ticket,
            server=scheduled.server,
            ranking=scheduled.ranking,
            reason=scheduled.reason if waited < 0.05 else f"{scheduled.reason}, waited {waited:.1f} s",
            waited=waited,
            position=position if waited > 0 else 0,
            unload=scheduled.unload,
        )

    def in_turn(
        self, selector: ServerSelector, snapshot: FleetSnapshot, now: float, servers: frozenset[str] | None
    ) -> Iterator[Outcome]:
        """Dispatch under strategies that bind on arrival: users take turns, as long as a server has a free slot."""
        availability = Availability(self.traffic(snapshot, now), now, servers)
        groups = self._queue.groups.items()
        ready = {kind for kind, group in groups if availability.any_now(able(selector, group.sample, snapshot))}
        for ticket in self._queue.in_turn() if ready else ():
            kind = kind_of(ticket.request)
            if kind not in ready:
                continue
            has_slot = availability.any_now(able(selector, ticket, snapshot))
            decision = decide(selector, ticket, availability.snapshot, now) if has_slot else None
            if decision is not None and decision.server is not None:
                yield self.bind(ticket, decision, now, self._queue.leave(ticket.number))
                availability = Availability(self.traffic(snapshot, now), now, servers)
                continue
            ready.discard(kind)
            if not ready:
                return

    def bind(self, ticket: Ticket, decision: Decision, now: float, position: int) -> Dispatch:
        """Dispatch a ticket to the first server of a decision's ranking."""
        server = decision.ranking[0]
        self._queue.served(ticket.user)
        self._in_flight.start(ticket, server, now)
        waited = now - ticket.arrived
        return Dispatch(
            ticket=ticket,
            server=server,
            ranking=decision.ranking,
            reason=decision.reason if not position else f"{decision.reason}, waited {waited:.1f} s",
            waited=waited,
            position=position,
        )
