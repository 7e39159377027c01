"""The line, the floor and the choice, put together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ollama_router_core.admission.demand import Demand
from ollama_router_core.admission.in_flight_table import InFlightTable
from ollama_router_core.admission.line import Group, Line, alone
from ollama_router_core.admission.openings import Openings
from ollama_router_core.admission.outlook import Outlook
from ollama_router_core.admission.slot_ranking import Move, Placement
from ollama_router_core.admission.tickets import Dispatch, Outcome, Refusal, Ticket
from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.api.ollama_errors import SERVER_BUSY
from ollama_router_core.config.settings import Config
from ollama_router_core.errors import ModelIncapable, Overloaded, SelectionError
from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.routing.candidates import Candidate, RequestKind, kind_of
from ollama_router_core.routing.decision import Decision
from ollama_router_core.routing.filters import FULL, in_service
from ollama_router_core.routing.selector import ServerSelector

__all__ = ["Admission"]

MOST_RETRY_AFTER = 30.0
_WAITS_LAST = 0.1
"""Seconds for which those who are turned away are told the same time to come back."""
_SECOND_THOUGHTS = 0.5
"""Seconds after which one server is looked at again even if nothing happened: waiting alone changes what pays."""


class Admission:
    """Who waits, who goes next, who is refused. Not for two threads at once.

    With a strategy that binds late a request waits for a slot of its model (`num_parallel`), and the choice is made
    among all that wait. With the others it waits only where `max_concurrent` is reached, and goes in its turn.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._line = Line(config.queue.max_waiting)
        self._floor = InFlightTable()
        self._demand = Demand()
        self.selector = ServerSelector(config)
        self._outlook = Outlook(self.selector, self._line, self._floor, self._demand)
        self._placement = Placement(self._line, self._floor, self._outlook)
        self._rotation = 0
        self._told: tuple[RequestKind | None, float, float] = None, 0.0, 0.0
        self._looked = float("-inf")
        self._seen = FleetSnapshot()

    def reconfigure(self, config: Config) -> None:
        """Go by another config from now on; who waits goes on waiting, and is looked at with the next `changed`."""
        self._config = config
        self._line.most = config.queue.max_waiting
        self.selector = ServerSelector(config)
        self._outlook.reconfigure(self.selector)

    # --- what happened ---------------------------------------------------------------------------------------------

    def arrive(self, ticket: Ticket, snapshot: FleetSnapshot, now: float) -> tuple[Outcome, ...]:
        """A request that may go now, wait, or be refused."""
        sent = self.at_once(ticket, snapshot, now)
        if sent is not None:
            return (sent,)
        error = self.turn_away(ticket, snapshot, now)
        return self._received(ticket, snapshot, now) if error is None else (Refusal(ticket=ticket, error=error),)

    def at_once(self, ticket: Ticket, snapshot: FleetSnapshot, now: float) -> Dispatch | None:
        """The way of most requests under late binding: nobody waits and a loaded model has a free slot; else None."""
        request = ticket.request
        if not self._binds_late or len(self._line) or self.selector.fixed_decision(request, snapshot) is not None:
            return None
        self._outlook.look(snapshot, now)
        move = self._placement.warm_move(alone(ticket))
        if move is None:
            return None
        if request.model is not None:
            self._demand.arrived(request.model, now)
        return self._send(move, now, 0)

    def turn_away(self, ticket: Ticket, snapshot: FleetSnapshot, now: float) -> Overloaded | None:
        """The refusal of a newcomer whom a full line has no place for, at the least cost; None: `arrive` knows.

        Where others wait for the same and are more than may wait, nothing is looked at for one more: whatever could
        let one of them go has been looked at when it happened.
        """
        request, line = ticket.request, self._line
        waiting = line.waiting_of(ticket.user) + 1
        if len(line) < self._allowed(waiting) or kind_of(request) not in line.groups:
            return None
        if self.selector.fixed_decision(request, snapshot) is not None:
            return None
        if len(line) >= line.most and line.surplus_of(waiting):
            return None
        if request.model is not None:
            self._demand.arrived(request.model, now)
        kind, at, wait = self._told
        if kind != kind_of(request) or now - at > _WAITS_LAST:
            wait = self.expected_wait(ticket, snapshot, now)
            self._told = kind_of(request), now, wait
        return self._overloaded(wait, "the line is full")

    def bound(self, ticket: Ticket, server: str, now: float) -> None:
        """Somebody else decided, by an assignment or by hand: only count it."""
        if ticket.request.model is not None:
            self._demand.arrived(ticket.request.model, now)
        self._floor.start(ticket, server, now)

    def first_byte(self, number: int, snapshot: FleetSnapshot, now: float) -> tuple[Outcome, ...]:
        """An answer began: its model is loaded, and the next load may start there."""
        server = self._floor.server_of(number)
        if server is None:
            return ()
        self._floor.answered(number)
        if not self._binds_late:
            return ()
        return self._pump(snapshot, now, servers=frozenset({server}))

    def moved(self, number: int, server: str, now: float) -> None:
        """Forwarding went on to another server."""
        found = self._floor.end(number)
        if found is not None:
            self._floor.start(found[1].ticket, server, now, work=found[1].work)

    def finished(self, number: int, snapshot: FleetSnapshot, now: float) -> tuple[Outcome, ...]:
        """An exchange is over: its slot is free."""
        found = self._floor.end(number)
        return () if found is None else self._pump(snapshot, now, servers=frozenset({found[0]}))

    def left(self, number: int, snapshot: FleetSnapshot, now: float) -> tuple[Outcome, ...]:
        """The client is gone; nothing is said about its ticket any more."""
        if self._line.leave(number) is not None:
            return ()
        return self.finished(number, snapshot, now)

    def changed(self, snapshot: FleetSnapshot, now: float) -> tuple[Outcome, ...]:
        """Facts changed: some may go elsewhere, some have nowhere left to go."""
        outcomes = list(self._pump(snapshot, now, servers=_changed_servers(self._seen, snapshot)))
        self._seen = snapshot
        openings = Openings(self.traffic(snapshot, now), now)
        for group in list(self._line.groups.values()):
            if openings.hope(self._able(group.sample, snapshot)):
                continue
            decision = self._decide(group.sample, openings.snapshot, now)
            if decision.error is not None and not _only_full(decision):
                outcomes += [self._refuse(ticket, decision.error, now) for ticket in list(group.tickets.values())]
        return tuple(outcomes)

    def tick(self, snapshot: FleetSnapshot, now: float) -> tuple[Outcome, ...]:
        """Waits end; with late binding one more server is thought about."""
        refused = [
            self._refuse(
                ticket, self._overloaded(self.expected_wait(ticket, snapshot, now), "waited for too long"), now
            )
            for ticket in self._line.expired(now, self._config.queue.max_wait)
        ]
        servers = sorted(self._config.servers)
        if not servers or not self._binds_late:
            return tuple(refused)
        self._rotation = (self._rotation + 1) % len(servers)
        return (*refused, *self._pump(snapshot, now, servers=frozenset({servers[self._rotation]})))

    def next_tick(self, now: float) -> float | None:
        """When `tick` wants to be called; None while nobody waits."""
        oldest = self._line.oldest()
        if oldest is None:
            return None
        end = oldest + self._config.queue.max_wait
        return max(now, min(end, self._looked + _SECOND_THOUGHTS)) if self._binds_late else max(now, end)

    # --- what is going on ------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Requests in the line."""
        return len(self._line)

    def position(self, number: int) -> int:
        """What a ticket's place was when it joined, from 1; 0 when it does not wait."""
        return self._line.position(number)

    def traffic(self, snapshot: FleetSnapshot, now: float) -> FleetSnapshot:
        """The snapshot with the load and the demand that admission knows of; decisions should be shown this one."""
        in_flight, active = self._floor.counts()
        return snapshot.with_traffic(in_flight, active, self._demand.rates(now))

    def demand(self, now: float) -> Mapping[CanonicalName, float]:
        """Requests a second by model."""
        return self._demand.rates(now)

    @property
    def _binds_late(self) -> bool:
        return self.selector.strategy.binds_late

    # --- going and waiting -----------------------------------------------------------------------------------------

    def _received(self, ticket: Ticket, snapshot: FleetSnapshot, now: float) -> tuple[Outcome, ...]:
        request = ticket.request
        if request.model is not None:
            self._demand.arrived(request.model, now)
        fixed = self.selector.fixed_decision(request, snapshot)
        if self._binds_late and fixed is None and self._has_fit(ticket, snapshot, now):
            return self._stand(ticket, snapshot, now)
        decision = fixed or self._decide(ticket, self.traffic(snapshot, now), now)
        if decision.error is not None:
            if not _only_full(decision):
                return (Refusal(ticket=ticket, error=decision.error),)
            return self._stand(ticket, snapshot, now)
        if len(self._line) and fixed is None and self._contended(ticket, snapshot):
            return self._stand(ticket, snapshot, now)
        return (self._dispatch(ticket, decision, now, 0),)

    def _has_fit(self, ticket: Ticket, snapshot: FleetSnapshot, now: float) -> bool:
        """Whether some server could take it, be it later: then it pays to wait."""
        return any(in_service(one, snapshot, now) for one in self._able(ticket, snapshot))

    def _stand(self, ticket: Ticket, snapshot: FleetSnapshot, now: float) -> tuple[Outcome, ...]:
        """Join the line, if there is a place, and see who can go."""
        kind = kind_of(ticket.request)
        place = self._line.join(ticket)
        outcomes = self._pump(snapshot, now, kinds=(kind,))
        if ticket.number not in self._line or place <= self._allowed(self._line.waiting_of(ticket.user)):
            return outcomes
        loser = self._line.surplus_of(self._line.waiting_of(ticket.user)) if place > self._line.most else None
        loser = loser or ticket
        error = self._overloaded(self.expected_wait(loser, snapshot, now), "the line is full")
        return (*outcomes, self._refuse(loser, error, now))

    def _allowed(self, waiting: int) -> int:
        """How long the line may be with one more ticket of a user who then has so many in it."""
        most = self._config.queue.max_waiting_per_user
        return 0 if most is not None and waiting > most else self._line.most

    def _contended(self, ticket: Ticket, snapshot: FleetSnapshot) -> bool:
        """Whether somebody waits for a server that this request could take: then it has to queue as well."""
        able = {one.name for one in self._able(ticket, snapshot)}
        for group in self._line.groups.values():
            if any(one.name in able for one in self._able(group.sample, snapshot)):
                return True
        return False

    def _pump(
        self,
        snapshot: FleetSnapshot,
        now: float,
        *,
        servers: frozenset[str] | None = None,
        kinds: Iterable[RequestKind] | None = None,
    ) -> tuple[Outcome, ...]:
        self._looked = now
        if not len(self._line):
            return ()
        if not self._binds_late:
            return tuple(self._in_turn(snapshot, now, servers))
        groups = self._line.groups
        chosen = list(groups.values()) if kinds is None else [groups[kind] for kind in kinds if kind in groups]
        self._outlook.look(snapshot, now)
        return tuple(self._place(chosen, servers, now))

    def _place(self, groups: list[Group], servers: frozenset[str] | None, now: float) -> Iterator[Outcome]:
        for move in self._placement.fill(groups, servers):
            yield self._carry_out(move, now)
        for move in self._placement.keep_promises():
            yield self._carry_out(move, now)
        where = self._config.servers if servers is None else servers
        for _ in self._config.servers:
            load = self._placement.load(groups, where)
            if load is None:
                return
            yield self._carry_out(load, now)
            self._outlook.look(self._outlook.snapshot, now)

    def _carry_out(self, move: Move, now: float) -> Dispatch:
        position = self._line.position(move.ticket.number)
        self._line.leave(move.ticket.number)
        return self._send(move, now, position)

    def _send(self, move: Move, now: float, position: int) -> Dispatch:
        ticket = move.ticket
        self._line.served(ticket.user)
        self._floor.start(ticket, move.server, now, work=move.work, load=move.load, size=move.size)
        waited = now - ticket.arrived
        return Dispatch(
            ticket=ticket,
            server=move.server,
            ranking=move.ranking,
            reason=move.reason if waited < 0.05 else f"{move.reason}, waited {waited:.1f} s",
            waited=waited,
            position=position if waited > 0 else 0,
            unload=move.unload,
        )

    def _in_turn(self, snapshot: FleetSnapshot, now: float, servers: frozenset[str] | None) -> Iterator[Outcome]:
        """Strategies that bind on arrival: whoever's turn it is and whose server has a place."""
        openings = Openings(self.traffic(snapshot, now), now, servers)
        ready = {kind for kind, group in self._line.groups.items() if openings.any(self._able(group.sample, snapshot))}
        for ticket in self._line.in_turn() if ready else ():
            kind = kind_of(ticket.request)
            if kind not in ready:
                continue
            if not openings.any(self._able(ticket, snapshot)):
                ready.discard(kind)
                if not ready:
                    return
                continue
            decision = self._decide(ticket, openings.snapshot, now)
            if decision.server is None:
                ready.discard(kind)
                continue
            position = self._line.position(ticket.number)
            self._line.leave(ticket.number)
            yield self._dispatch(ticket, decision, now, position)
            openings = Openings(self.traffic(snapshot, now), now, servers)

    def _able(self, ticket: Ticket, snapshot: FleetSnapshot) -> tuple[Candidate, ...]:
        return self.selector.plan(ticket.request, snapshot).able

    def _decide(self, ticket: Ticket, snapshot: FleetSnapshot, now: float) -> Decision:
        return self.selector.decide(ticket.request, snapshot, now=now, tiebreak=ticket.tiebreak, prefix=ticket.prefix)

    def _dispatch(self, ticket: Ticket, decision: Decision, now: float, position: int) -> Dispatch:
        server = decision.ranking[0]
        self._line.served(ticket.user)
        self._floor.start(ticket, server, now)
        waited = now - ticket.arrived
        return Dispatch(
            ticket=ticket,
            server=server,
            ranking=decision.ranking,
            reason=decision.reason if not position else f"{decision.reason}, waited {waited:.1f} s",
            waited=waited,
            position=position,
        )

    # --- refusing --------------------------------------------------------------------------------------------------

    def _refuse(self, ticket: Ticket, error: SelectionError | ModelIncapable, now: float) -> Refusal:
        position = self._line.position(ticket.number)
        self._line.leave(ticket.number)
        return Refusal(ticket=ticket, error=error, waited=now - ticket.arrived, position=position)

    def _overloaded(self, wait: float, why: str) -> Overloaded:
        wait = min(MOST_RETRY_AFTER, max(1.0, wait))
        text = f"{SERVER_BUSY} ({len(self._line)} requests wait for a server, {why}; try again in {wait:.0f} s)"
        return Overloaded(text, retry_after=wait)

    def expected_wait(self, ticket: Ticket, snapshot: FleetSnapshot, now: float) -> float:
        """Seconds until such a request would get a server: what waits for the same, and its part of all that waits."""
        group = self._line.groups.get(kind_of(ticket.request))
        if group is None:
            return 0.0
        self._outlook.look(snapshot, now)
        usable = max(1, len(self._outlook.fits(group)))
        return max(self._outlook.expected_wait(group) * len(self._line) / len(group.tickets) / usable, 0.0)


def _changed_servers(old: FleetSnapshot, new: FleetSnapshot) -> frozenset[str] | None:
    """The servers of which something else is known; None for all, when it is more than facts of some."""
    if (old.draining, old.suspended, old.slots) != (new.draining, new.suspended, new.slots):
        return None
    return frozenset([name for name, facts in new.servers.items() if old.servers.get(name) is not facts])


def _only_full(decision: Decision) -> bool:
    """Whether a server could take it as soon as it has a place."""
    return any(verdict.reasons[0].code == FULL for verdict in decision.verdicts)
