"""Everybody who wants a server, in one queue: the core's admission with slots, permits and retries.

A request gets its slot at once, waits for one, or is refused. What it waits for comes with a call of something else:
another slot is closed, facts change, time passes. Whoever drives it calls `look` at `next_look`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Protocol

from ollama_router_core.admission import Admission, Dispatch, Outcome, Ticket
from ollama_router_core.api.model_names import CanonicalName, is_cloud_name
from ollama_router_core.api.requests import ParsedRequest, RouteRequest
from ollama_router_core.config.settings import Config
from ollama_router_core.exchange.events import Queued, Refused
from ollama_router_core.fleet.health import BreakerPermit, Health
from ollama_router_core.fleet.prefixes import HeldPrefix
from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.routing.decision import Decision, StatedExplanation
from ollama_router_core.routing.strategies import STRATEGIES

__all__ = ["AdmissionController", "ServerSlot", "Waiting"]

_WHILE_TROUBLED = 0.5
"""Seconds between looks at the queue while some server is suspended: its time may be up."""
_WHILE_SHARED = 0.05
"""The same while other processes may free a server; what this one frees is seen at once."""
_UNSEEN = FleetSnapshot()


class Fleet(Protocol):
    """What is believed about the servers, and who may send what there."""

    @property
    def snapshot(self) -> FleetSnapshot: ...
    @property
    def health(self) -> Health: ...
    @property
    def shares(self) -> bool: ...
    def begin(self, name: str) -> None: ...
    def end(self, name: str) -> None: ...
    def permit(self, server: str, *, forced: bool = False) -> BreakerPermit | None: ...
    def take_retry(self, waiting: int) -> bool: ...


class ServerSlot:
    """A request's slot on a server of its decision, until `close`. `unload` is what has to go there before."""

    __slots__ = ("_closed", "_controller", "_first", "_retries", "decision", "number", "server", "unload")

    def __init__(
        self, controller: AdmissionController, number: int, decision: Decision, unload: tuple[CanonicalName, ...] = ()
    ) -> None:
        self._controller = controller
        self._closed = False
        self._retries = 0
        self.number = number
        self.decision = decision
        self.server = decision.ranking[0]
        self.unload = unload
        controller.fleet.begin(self.server)
        forced = decision.strategy == "explicit_assignment"
        self._first: BreakerPermit | None = controller.fleet.permit(self.server, forced=forced)

    def permit(self, server: str) -> BreakerPermit | None:
        """Leave to send to a server of the ranking now; the slot moves there. None: it is left alone."""
        if server == self.server and self._first is not None:
            permit, self._first = self._first, None
            return permit
        if server != self.server:
            self._controller.moved(self, server)
        return self._controller.fleet.permit(server)

    def may_retry(self) -> bool:
        """Whether the retry budget of the whole router has one more try for this request."""
        if not self._controller.take_retry():
            return False
        self._retries += 1
        return True

    def answering(self) -> None:
        """Note that the head of the answer came: the model is loaded."""
        self._controller.answering(self)

    def close(self) -> None:
        """Give the slot back; the next request in the queue may go."""
        if self._closed:
            return
        self._closed = True
        if self._first is not None:
            self._first.left()
        for _ in range(self._retries):
            self._controller.fleet.health.retries.give_back()
        self._controller.fleet.end(self.server)
        self._controller.finished(self)


class Waiting:
    """A request in the queue: `outcome` is set once, and `settled` called then, unless it leaves before."""

    __slots__ = ("decision", "number", "outcome", "settled")

    def __init__(self, number: int, decision: Decision | None, settled: Callable[[], None]) -> None:
        self.number = number
        self.decision = decision
        self.outcome: ServerSlot | Refused | None = None
        self.settled = settled


class AdmissionController:
    """The queue of one router. Not for two threads at once.

    Args:
        config: strategy, limits of servers and queue.
        fleet: what is believed about the servers.
        now: seconds of the clock that the fleet uses.
    """

    def __init__(self, config: Config, fleet: Fleet, now: Callable[[], float]) -> None:
        self.fleet = fleet
        self._now = now
        self._config = config
        self._admission = Admission(config)
        self._strategy = STRATEGIES[config.routing_strategy]
        self._counting = _counts(config)
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Waiting] = {}

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return self._admission.waiting

    def reconfigure(self, config: Config) -> None:
        """Take over another config, for requests that wait too. What was once counted is counted to its end."""
        self._config = config
        self._strategy = STRATEGIES[config.routing_strategy]
        self._counting = self._counting or _counts(config)
        self._admission.reconfigure(config)
        self.facts_changed()

    def traffic(self) -> FleetSnapshot:
        """The fleet with the load and the demand that admission knows of: what decisions are made from."""
        snapshot = self.fleet.snapshot
        return self._admission.traffic(snapshot, self._now()) if self._counting else snapshot

    def decide(self, request: RouteRequest) -> Decision:
        """Where a request would go that nobody makes."""
        return self._admission.selector.decide(request, self.traffic(), now=self._now(), tiebreak=0)

    # --- arriving and leaving -----------------------------------------------------------------------------------------

    def admit(
        self,
        request: ParsedRequest,
        user: str = "",
        prefix: HeldPrefix | None = None,
        settled: Callable[[], None] = lambda: None,
    ) -> ServerSlot | Queued | Refused:
        """A slot now, a place in the queue, or why there is neither; `settled` is called when waiting ends."""
        now, number = self._now(), next(self._numbers)
        ticket = Ticket(number=number, request=request.route, arrived=now, user=user, tiebreak=number, prefix=prefix)
        decision = None
        if self._goes_past(ticket) or not (self._admission.waiting or self._strategy.binds_late):
            decision = self._admission.selector.decide(ticket.request, self.fleet.snapshot, now=now, tiebreak=number)
            if decision.error is None:
                if self._counting:
                    self._admission.bound(ticket, decision.ranking[0], now)
                return ServerSlot(self, number, decision)
        return self._in_turn(ticket, decision, settled)

    def leave(self, waiting: Waiting) -> None:
        """Take a request out of the queue; a slot that was given in the same moment goes to the next."""
        if isinstance(waiting.outcome, ServerSlot):
            waiting.outcome.close()
        elif self._waiting.pop(waiting.number, None) is not None:
            self._carry_out(self._admission.left(waiting.number, self.fleet.snapshot, self._now()))

    def _goes_past(self, ticket: Ticket) -> bool:
        """Whether a request waits for no server of ours: ollama.com takes it."""
        return ticket.request.uses_cloud and is_cloud_name(ticket.request.model_text or "")

    def _in_turn(
        self, ticket: Ticket, decision: Decision | None, settled: Callable[[], None]
    ) -> ServerSlot | Queued | Refused:
        now, snapshot = self._now(), self.fleet.snapshot
        waiting = self._waiting[ticket.number] = Waiting(ticket.number, decision, settled)
        self._carry_out(self._admission.arrive(ticket, snapshot, now))
        if waiting.outcome is not None:
            return waiting.outcome
        return Queued(
            position=self._admission.position(ticket.number),
            expected_wait=self._admission.expected_wait(ticket, snapshot, now),
            waiting=waiting,
        )

    # --- what slots report --------------------------------------------------------------------------------------------

    def take_retry(self) -> bool:
        """Take one of the fleet's retries, if there is one left."""
        return self.fleet.take_retry(self.waiting)

    def moved(self, slot: ServerSlot, server: str) -> None:
        """Forwarding went on to another server."""
        self.fleet.end(slot.server)
        self.fleet.begin(server)
        slot.server = server
        if self._counting:
            self._admission.moved(slot.number, server, self._now())

    def answering(self, slot: ServerSlot) -> None:
        """An answer began."""
        if self._strategy.binds_late:
            self._carry_out(self._admission.first_byte(slot.number, self._facts(), self._now()))

    def finished(self, slot: ServerSlot) -> None:
        """A slot is free."""
        if self._counting:
            self._carry_out(self._admission.finished(slot.number, self._facts(), self._now()))

    def _facts(self) -> FleetSnapshot:
        """The fleet for those that wait; with nobody in the queue nobody looks at it."""
        return self.fleet.snapshot if self._admission.waiting else _UNSEEN

    # --- time and facts -----------------------------------------------------------------------------------------------

    def next_look(self) -> float | None:
        """When the queue wants to be looked at, None while nobody waits."""
        now = self._now()
        at = self._admission.next_tick(now)
        if at is None:
            return None
        if self.fleet.health.troubled:
            at = min(at, now + _WHILE_TROUBLED)
        if self.fleet.shares:
            at = min(at, now + _WHILE_SHARED)
        return at

    def look(self) -> None:
        """Time has passed: some may go, some have waited for too long."""
        self._carry_out(self._admission.tick(self.fleet.snapshot, self._now()))
        if self.fleet.health.troubled or self.fleet.shares:
            self.facts_changed()

    def facts_changed(self) -> None:
        """What is believed about servers has changed: some may go."""
        if self._admission.waiting:
            self._carry_out(self._admission.changed(self.fleet.snapshot, self._now()))

    def _carry_out(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            waiting = self._waiting.pop(outcome.ticket.number, None)
            settled = self._settled(outcome, None if waiting is None else waiting.decision)
            if waiting is not None:
                waiting.outcome = settled
                waiting.settled()
            elif isinstance(settled, ServerSlot):
                settled.close()

    def _settled(self, outcome: Outcome, decision: Decision | None) -> ServerSlot | Refused:
        if not isinstance(outcome, Dispatch):
            return Refused(outcome.error, decision)
        made = Decision(
            request=outcome.ticket.request,
            strategy=self._config.routing_strategy,
            ranking=outcome.ranking,
            explanation=StatedExplanation(outcome.reason),
        )
        return ServerSlot(self, outcome.ticket.number, made, outcome.unload)


def _counts(config: Config) -> bool:
    """Whether what runs where has to be counted."""
    return STRATEGIES[config.routing_strategy].binds_late or any(
        server.max_concurrent for server in config.servers.values()
    )
