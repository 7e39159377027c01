"""Admission: the wait queue, the requests in flight and the choice of a server, driven by events."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from ollama_router_core.admission.arrival_rates import ArrivalRates
from ollama_router_core.admission.availability import Availability
from ollama_router_core.admission.cost_model import CostModel
from ollama_router_core.admission.dispatching import Dispatcher, able, decide
from ollama_router_core.admission.in_flight_table import InFlightTable
from ollama_router_core.admission.load_planning import LoadPlanner
from ollama_router_core.admission.load_shedding import LoadShedding
from ollama_router_core.admission.preemption import Preemptor, preempted
from ollama_router_core.admission.scheduler import Scheduler
from ollama_router_core.admission.tickets import Dispatch, Outcome, Preempt, Refusal, Ticket
from ollama_router_core.admission.wait_queue import BATCH_WEIGHT, WaitQueue, group_of_one
from ollama_router_core.admission.waiting_line import WaitingLine
from ollama_router_core.config.settings import Config
from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.routing.candidates import RequestKind, kind_of
from ollama_router_core.routing.decision import Decision
from ollama_router_core.routing.filters import FULL, in_service
from ollama_router_core.routing.selector import ServerSelector

__all__ = ["Admission"]

_RECHECK_SECONDS = 0.5
"""Seconds until a server is reconsidered without an event, as the age of waiting tickets changes which loads pay."""


class Admission:
    """The wait queue, the requests in flight and the choice of servers. Not thread-safe.

    Under a late-binding strategy, a request waits for a slot of its model (`num_parallel`), and the scheduler chooses
    among all waiting requests. Under the others, a request waits only if every server is full, and users take turns.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._queue = WaitQueue(config.queue)
        self._in_flight = InFlightTable()
        self._rates = ArrivalRates()
        self.selector = ServerSelector(config)
        self._costs = CostModel(self.selector, self._queue, self._in_flight, self._rates)
        self._scheduler = Scheduler(self._queue, self._costs)
        planner = LoadPlanner(self._queue, self._in_flight, self._costs, self._scheduler)
        self._dispatcher = Dispatcher(self._queue, self._in_flight, self._scheduler, planner, self._rates)
        self.line = WaitingLine(self._queue, self._costs, self._dispatcher, self.selector)
        self.shedding = LoadShedding(self._queue, self.line)
        self._preemptor = Preemptor(self._in_flight)
        self._rotation = 0
        self._last_check = float("-inf")
        self._last_snapshot = FleetSnapshot()

    def reconfigure(self, config: Config) -> None:
        """Apply a new config; the next `changed` reconsiders waiting requests."""
        self._config = config
        self._queue.reconfigure(config.queue)
        self.selector = ServerSelector(config)
        self._costs.reconfigure(self.selector)
        self.line.selector = self.selector

    # --- events ----------------------------------------------------------------------------------------------------

    def arrive(self, ticket: Ticket, snapshot: FleetSnapshot, now: float) -> tuple[Outcome, ...]:
        """Dispatch a request now, let it wait, or refuse it."""
        sent = self.at_once(ticket, snapshot, now)
        if sent is not None:
            return (sent,)
        self._note_arrival(ticket, now)
        error = self.shedding.turn_away(ticket, snapshot, now)
        return self._admit(ticket, snapshot, now) if error is None else (Refusal(ticket=ticket, error=error),)

    def at_once(self, ticket: Ticket, snapshot: FleetSnapshot, now: float) -> Dispatch | None:
        """Dispatch to a free slot of a loaded model, under late binding with an empty queue; else return None."""
        request = ticket.request
        if not self._binds_late or len(self._queue) or self.selector.fixed_decision(request, snapshot) is not None:
            return None
        self._costs.refresh(snapshot, now)
        scheduled = self._scheduler.next_warm(group_of_one(ticket))
        if scheduled is None:
            return None
        self._note_arrival(ticket, now)
        return self._dispatcher.start(scheduled, now, 0)

    def bound(self, ticket: Ticket, server: str, now: float) -> None:
        """Count a request whose server was decided elsewhere."""
        self._note_arrival(ticket, now)
        self._in_flight.start(ticket, server, now)

    def first_byte(self, number: int, snapshot: FleetSnapshot, now: float) -> tuple[Outcome, ...]:
        """Record the start of a response: its model is loaded, and the next load may start there."""
        server = self._in_flight.server_of(number)
        if server is None:
            return ()
        self._in_flight.answered(number)
        if not self._binds_late:
            return ()
        return self._dispatch_waiting(snapshot, now, servers=frozenset({server}))

    def denied(self, ticket: Ticket, snapshot: FleetSnapshot, now: float) -> tuple[Outcome, ...]:
        """Record that another process got a ticket's slot: the ticket waits at its original position."""
        self._in_flight.end(ticket.number)
        self._queue.join_again(ticket)
        self._last_snapshot = FleetSnapshot()  # the next `changed` must reconsider all servers
        return self._dispatch_waiting(snapshot, now, kinds=(kind_of(ticket.request),))

    def preempted(self, number: int, snapshot: FleetSnapshot, now: float) -> tuple[Outcome, ...]:
        """Record that a ticket left its server: it waits again, ahead of later tickets of its priority.

        Raises:
            KeyError: the ticket is on no server.
        """
        found = self._in_flight.end(number)
        if found is None:
            raise KeyError(number)
        _, running = found
        self._queue.join_again(preempted(running, self._queue.patience(running.ticket), now))
        return self._dispatch_waiting(snapshot, now)

    def moved(self, number: int, server: str, now: float) -> None:
        """Record that a retry went to another server."""
        found = self._in_flight.end(number)
        if found is not None:
            self._in_flight.start(found[1].ticket, server, now, work=found[1].work)

    def finished(self, number: int, snapshot: FleetSnapshot, now: float) -> tuple[Outcome, ...]:
        """Record the end of an exchange, which frees its slot."""
        found = self._in_flight.end(number)
        return () if found is None else self._dispatch_waiting(snapshot, now, servers=frozenset({found[0]}))

    def left(self, number: int, snapshot: FleetSnapshot, now: float) -> tuple[Outcome, ...]:
        """Record that the client disconnected; its ticket gets no outcome."""
        return () if self._queue.leave(number) else self.finished(number, snapshot, now)

    def changed(self, snapshot: FleetSnapshot, now: float) -> tuple[Outcome, ...]:
        """Apply changed facts: dispatch tickets that can go, and refuse those that no server can take any more."""
        before, self._last_snapshot = self._last_snapshot, snapshot
        if not len(self._queue):
            self._last_check = now
            return ()
        outcomes = list(self._dispatch_waiting(snapshot, now, servers=_changed_servers(before, snapshot)))
        availability = Availability(self.traffic(snapshot, now), now)
        for group in list(self._queue.groups.values()):
            if availability.any_later(able(self.selector, group.sample, snapshot)):
                continue
            decision = decide(self.selector, group.sample, availability.snapshot, now)
            if decision.error is not None and not _only_full(decision):
                outcomes += [
                    self.shedding.refuse(ticket, decision.error, now) for ticket in list(group.tickets.values())
                ]
        return tuple(outcomes)

    def tick(self, snapshot: FleetSnapshot, now: float) -> tuple[Outcome, ...]:
        """Refuse tickets whose wait has expired; under late binding, reconsider one more server."""
        refused = self.shedding.expired(snapshot, now)
        servers = sorted(self._config.servers)
        if not servers or not self._binds_late:
            return tuple(refused)
        self._rotation = (self._rotation + 1) % len(servers)
        return (*refused, *self._dispatch_waiting(snapshot, now, servers=frozenset({servers[self._rotation]})))

    def next_tick(self, now: float) -> float | None:
        """Return when to call `tick`; None while the queue is empty."""
        end = self._queue.next_deadline()
        if end is None:
            return None
        return max(now, min(end, self._last_check + _RECHECK_SECONDS)) if self._binds_late else max(now, end)

    # --- state -----------------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    def in_line_since(self, ticket: Ticket) -> float:
        """Return since when a ticket counts in the queue of all routers; infinity for a batch ticket."""
        return math.inf if ticket.batch else self._queue.in_line_since(ticket)

    def granted(self, ticket: Ticket, now: float) -> None:
        """Record a shared slot grant: users who are waiting now come before this user's next turn."""
        if not ticket.batch:
            self._queue.granted(ticket.user, now)

    def granted_elsewhere(self, moments: Mapping[str, float]) -> None:
        """Record when users got slots through other routers; only users who wait here are affected."""
        for user, moment in moments.items():
            if self._queue.waiting_of(user):
                self._queue.granted(user, moment)

    def traffic(self, snapshot: FleetSnapshot, now: float) -> FleetSnapshot:
        """Return the snapshot that decisions use, with the load and demand known to admission."""
        return self._dispatcher.traffic(snapshot, now)

    def _note_arrival(self, ticket: Ticket, now: float) -> None:
        """Count demand for the ticket's model; batch tickets hardly count."""
        if ticket.request.model is not None:
            self._rates.arrived(ticket.request.model, now, BATCH_WEIGHT if ticket.batch else 1.0)

    @property
    def _binds_late(self) -> bool:
        return self.selector.strategy.binds_late

    # --- dispatch and queue ----------------------------------------------------------------------------------------

    def _admit(self, ticket: Ticket, snapshot: FleetSnapshot, now: float) -> tuple[Outcome, ...]:
        fixed = self.selector.fixed_decision(ticket.request, snapshot)
        if self._binds_late and fixed is None and self._is_servable(ticket, snapshot, now):
            return self._enqueue(ticket, snapshot, now)
        decision = fixed or decide(self.selector, ticket, self.traffic(snapshot, now), now)
        if decision.error is not None:
            if not _only_full(decision):
                return (Refusal(ticket=ticket, error=decision.error),)
            return self._enqueue(ticket, snapshot, now)
        if len(self._queue) and fixed is None and self._must_queue(ticket, snapshot):
            return self._enqueue(ticket, snapshot, now)
        return (self._dispatcher.bind(ticket, decision, now, 0),)

    def _is_servable(self, ticket: Ticket, snapshot: FleetSnapshot, now: float) -> bool:
        """Whether some server can take the ticket, now or later."""
        return any(in_service(one, snapshot, now) for one in able(self.selector, ticket, snapshot))

    def _enqueue(self, ticket: Ticket, snapshot: FleetSnapshot, now: float) -> tuple[Outcome, ...]:
        """Join the queue, dispatch what can go, and preempt or refuse a ticket if necessary."""
        kind = kind_of(ticket.request)
        self._queue.join(ticket)
        outcomes = self._dispatch_waiting(snapshot, now, kinds=(kind,))
        if ticket.number not in self._queue:
            return outcomes
        if _limits_of(self._last_snapshot) != _limits_of(snapshot):
            self._last_snapshot = FleetSnapshot()  # so that the end of these limits counts as a change
        preempt = self._preempt(ticket, snapshot, now)
        if preempt is not None:
            return (*outcomes, preempt)
        refused = self.shedding.relieve(ticket, snapshot, now)
        return outcomes if refused is None else (*outcomes, refused)

    def _preempt(self, ticket: Ticket, snapshot: FleetSnapshot, now: float) -> Preempt | None:
        """Find the batch request to preempt for a waiting ticket, None if there is none."""
        most = self._config.queue.max_preemptions
        if not most or ticket.batch:
            return None
        candidates = able(self.selector, ticket, snapshot)
        group = self._queue.groups[kind_of(ticket.request)]

        def can_start(server: str) -> bool:
            among = frozenset({server})
            if self._binds_late:
                return self._scheduler.next_warm(group, among) is not None
            return Availability(self.traffic(snapshot, now), now, among).any_now(candidates)

        return self._preemptor.victim(ticket, candidates, most, now, can_start)

    def _must_queue(self, ticket: Ticket, snapshot: FleetSnapshot) -> bool:
        """Whether another request waits for a server that this one could take."""
        names = {one.name for one in able(self.selector, ticket, snapshot)}
        for group in self._queue.groups.values():
            if any(one.name in names for one in able(self.selector, group.sample, snapshot)):
                return True
        return False

    def _dispatch_waiting(
        self,
        snapshot: FleetSnapshot,
        now: float,
        *,
        servers: frozenset[str] | None = None,
        kinds: Iterable[RequestKind] | None = None,
    ) -> tuple[Outcome, ...]:
        self._last_check = now
        if not len(self._queue):
            return ()
        if not self._binds_late:
            return tuple(self._dispatcher.in_turn(self.selector, snapshot, now, servers))
        groups = self._queue.groups
        chosen = list(groups.values()) if kinds is None else [groups[kind] for kind in kinds if kind in groups]
        self._costs.refresh(snapshot, now)
        return tuple(self._dispatcher.scheduled(chosen, self._config.servers, servers, now))


def _changed_servers(old: FleetSnapshot, new: FleetSnapshot) -> frozenset[str] | None:
    """Return the servers whose facts changed; None, meaning all, if a fleet-wide fact changed."""
    if _limits_of(old) != _limits_of(new):
        return None
    return frozenset([name for name, facts in new.servers.items() if old.servers.get(name) is not facts])


def _limits_of(one: FleetSnapshot) -> tuple[object, ...]:
    return one.draining, one.suspended, one.suspended_models, one.slots, one.parallel, one.proven, one.elsewhere


def _only_full(decision: Decision) -> bool:
    """Whether some server lacks only a free slot."""
    return any(verdict.reasons[0].code == FULL for verdict in decision.verdicts)
