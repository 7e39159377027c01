"""Who waits inside a program: the core's admission behind a lock, for the requests of all its threads or tasks."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable

from ollama_router_core.admission import Admission, Dispatch, Outcome, Ticket
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.client.fleet_book import FleetBook
from ollama_router_core.client.system import Clock
from ollama_router_core.config.settings import Config
from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.routing.decision import Decision, StatedExplanation
from ollama_router_core.routing.strategies import STRATEGIES

__all__ = ["WaitingLine", "as_decision"]

_LONGEST_PAUSE = 1.0
_PAUSE_IN_TROUBLE = 0.5
"""Seconds between looks while some server is left alone: its time may be up."""
_UNSEEN = FleetSnapshot()


class WaitingLine:
    """The line of one transport. `notify` wakes whoever waits; a driver sets it.

    It counts only where somebody may have to wait: with `max_concurrent`, and with the strategy `fastest`.
    """

    def __init__(self, config: Config, book: FleetBook, clock: Clock) -> None:
        self._book = book
        self._clock = clock
        self._config = config
        self._lock = threading.Lock()
        self._admission = Admission(config)
        self._numbers = itertools.count(1)
        self._outcomes: dict[int, Outcome] = {}
        self._seen = book.servers
        self.binds_late = STRATEGIES[config.routing_strategy].binds_late
        self.counts = self.binds_late or any(server.max_concurrent for server in config.servers.values())
        self.notify: Callable[[], None] = _nobody

    def snapshot(self, now: float) -> FleetSnapshot:
        """The fleet with the load that decisions are made from."""
        snapshot = self._book.snapshot(now)
        if not self.counts:
            return snapshot
        with self._lock:
            return self._admission.traffic(snapshot, now)

    def decide(self, route: RouteRequest, turn: int, now: float) -> Decision:
        """The decision as things stand, whoever waits."""
        return self._admission.selector.decide(route, self.snapshot(now), now=now, tiebreak=turn)

    def arrive(self, route: RouteRequest, turn: int) -> Ticket:
        """A request that may go, wait or be refused: `outcome` tells. Whoever has a ticket calls `leave` at its end."""
        now = self._clock.monotonic()
        ticket = Ticket(number=next(self._numbers), request=route, arrived=now, tiebreak=turn)
        self._run(lambda snapshot: self._admission.arrive(ticket, snapshot, now))
        return ticket

    def bind(self, route: RouteRequest, server: str) -> Ticket:
        """A request that was decided without the line: only counted."""
        now = self._clock.monotonic()
        ticket = Ticket(number=next(self._numbers), request=route, arrived=now)
        with self._lock:
            self._admission.bound(ticket, server, now)
        return ticket

    def outcome(self, ticket: Ticket) -> Outcome | None:
        """What became of a ticket, once; None while it waits."""
        return self._outcomes.pop(ticket.number, None)

    def wakes(self, ticket: Ticket) -> bool:
        """Whether somebody who waits has a reason to look: an outcome, or other facts about the fleet."""
        return ticket.number in self._outcomes or self._book.servers is not self._seen

    def standing(self, ticket: Ticket) -> tuple[int, float]:
        """The place in the line, from 1, and the seconds until its turn as far as anyone can tell."""
        now = self._clock.monotonic()
        snapshot = self._book.snapshot(now)
        with self._lock:
            return self._admission.position(ticket.number), self._admission.expected_wait(ticket, snapshot, now)

    def pause(self) -> float:
        """Seconds after which the line wants to be looked at."""
        now = self._clock.monotonic()
        with self._lock:
            at = self._admission.next_tick(now)
        longest = _PAUSE_IN_TROUBLE if self._book.troubled else _LONGEST_PAUSE
        return longest if at is None else min(longest, max(0.0, at - now))

    def look(self) -> None:
        """Time has passed, or facts have changed: some may go, some have waited for too long."""
        now = self._clock.monotonic()
        at = self._admission.next_tick(now)
        if self._book.troubled or self._book.servers is not self._seen:
            self._run(lambda snapshot: self._admission.changed(snapshot, now))
        if at is not None and at <= now:
            self._run(lambda snapshot: self._admission.tick(snapshot, now))

    def moved(self, ticket: Ticket, server: str) -> None:
        """Forwarding went on to another server."""
        with self._lock:
            self._admission.moved(ticket.number, server, self._clock.monotonic())

    def answered(self, ticket: Ticket) -> None:
        """The head of an answer came: its model is loaded."""
        if self.binds_late:
            self._tell(self._admission.first_byte, ticket)

    def leave(self, ticket: Ticket) -> None:
        """A request is over, or does not want to wait any longer: its slot, if it has one, is for the next."""
        self._outcomes.pop(ticket.number, None)
        self._tell(self._admission.left, ticket)

    def _tell(self, event: Callable[[int, FleetSnapshot, float], Iterable[Outcome]], ticket: Ticket) -> None:
        """Tell admission what can only concern others: without facts when nobody waits, as then nothing follows."""
        now = self._clock.monotonic()
        with self._lock:
            if not self._admission.waiting:
                event(ticket.number, _UNSEEN, now)
                return
        self._run(lambda snapshot: event(ticket.number, snapshot, now))

    def _run(self, event: Callable[[FleetSnapshot], Iterable[Outcome]]) -> None:
        """Tell admission, and wake whoever may go."""
        with self._lock:
            snapshot = self._book.snapshot(self._clock.monotonic())
            self._seen = snapshot.servers
            found = tuple(event(snapshot))
            for outcome in found:
                self._outcomes[outcome.ticket.number] = outcome
        if found:
            self.notify()


def as_decision(outcome: Outcome, config: Config) -> Decision:
    """What became of a ticket, as a decision."""
    if isinstance(outcome, Dispatch):
        ranking, reason, error = outcome.ranking, outcome.reason, None
    else:
        ranking, reason, error = (), "no server can take it", outcome.error
    return Decision(
        request=outcome.ticket.request,
        strategy=config.routing_strategy,
        ranking=ranking,
        error=error,
        explanation=StatedExplanation(reason),
    )


def _nobody() -> None:
    """Nobody waits."""
