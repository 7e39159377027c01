"""The line as those see it who wait, who look, and other routers: who is where, since when, for how long."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter

from ollama_router_core.admission.cost_model import CostModel
from ollama_router_core.admission.dispatching import Dispatcher
from ollama_router_core.admission.full_servers import FullServers
from ollama_router_core.admission.tickets import Ticket, WaitingGroup
from ollama_router_core.admission.turn_forecast import seconds_to_turn
from ollama_router_core.admission.wait_queue import RequestGroup, WaitQueue
from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.routing.candidates import kind_of
from ollama_router_core.routing.selector import ServerSelector

__all__ = ["WaitingLine"]

_AFTER_ALL = 1e9
"""Thirty years: a batch is told to have come so much later than it did, and so after whoever is no batch."""


class WaitingLine:
    """Tells, and changes nothing. `selector` goes by the config that is in force."""

    def __init__(self, queue: WaitQueue, costs: CostModel, dispatcher: Dispatcher, selector: ServerSelector) -> None:
        self._queue = queue
        self._costs = costs
        self._dispatcher = dispatcher
        self.selector = selector

    @property
    def since(self) -> float | None:
        """When the request arrived that waits longest; None while nobody waits."""
        oldest = self._queue.oldest()
        return None if oldest is None else oldest.arrived

    def longest_wait(self, snapshot: FleetSnapshot, now: float) -> tuple[float | None, frozenset[str]]:
        """Since when requests wait here, for other routers to compare, and the full servers that could take the first.

        None and no servers while nobody waits. A batch comes after all that wait anywhere, and no slot is kept for it.
        """
        firsts = self._firsts()
        if not firsts:
            since = self.since
            return None if since is None else since + _AFTER_ALL, frozenset()
        since, group = firsts[0]
        full = self._full_servers(snapshot, now)
        return since, full.of(self.selector.plan(group.sample.request, snapshot))

    def heads(self, snapshot: FleetSnapshot, now: float) -> Mapping[str, float]:
        """Return since when the first is in the line of each full server, without those of a batch."""
        full, found = self._full_servers(snapshot, now), dict[str, float]()
        for since, group in self._firsts():  # of each server the first is who waits longest
            names = full.of(self.selector.plan(group.sample.request, snapshot), but=found.keys())
            found.update(dict.fromkeys(names, since))
        return found

    def _firsts(self) -> list[tuple[float, RequestGroup]]:
        """Since when the first of each kind is in the line of all routers, the longest wait first; no batches."""
        firsts = [(self._queue.first_since(group), group) for group in self._queue.groups.values()]
        return sorted([(since, group) for since, group in firsts if since is not None], key=itemgetter(0))

    def _full_servers(self, snapshot: FleetSnapshot, now: float) -> FullServers:
        seen = self._dispatcher.traffic(snapshot, now)
        return FullServers(seen, now, waits=self.selector.strategy.binds_late)

    def expected_wait(self, ticket: Ticket, snapshot: FleetSnapshot, now: float) -> float:
        """Seconds until such a request would get a server: what waits for the same, half of what else waits."""
        group = self._queue.groups.get(kind_of(ticket.request))
        if group is None:
            return 0.0
        self._costs.refresh(snapshot, now)
        return max(self._costs.expected_wait(group) + 0.5 * self._costs.backlog(group), 0.0)

    def groups(self, snapshot: FleetSnapshot, now: float, user: str | None = None) -> tuple[WaitingGroup, ...]:
        """List what waits, by model and context, the longest wait first; of one user only where one is named."""
        found: dict[tuple[CanonicalName | None, int | None], WaitingGroup] = {}
        for group in self._queue.groups.values():
            own = [one for one in group.tickets.values() if user is None or one.user == user]
            if own:
                waiting = WaitingGroup(
                    model=group.kind.model,
                    num_ctx=group.kind.num_ctx,
                    waiting=len(own),
                    batch=sum([one.batch for one in own]),
                    longest=now - own[0].arrived,
                    expected=self.expected_wait(own[-1], snapshot, now),
                )
                key = waiting.model, waiting.num_ctx
                found[key] = found[key] + waiting if key in found else waiting
        return tuple(sorted(found.values(), key=lambda one: -one.longest))

    def position(self, number: int) -> int:
        """Return the position a ticket had when it joined the queue, from 1; 0 when it does not wait."""
        return self._queue.position(number)

    def rank(self, number: int) -> int:
        """Return a ticket's current position, from 1; 0 when it does not wait."""
        return self._queue.rank(number)

    def place(self, number: int, snapshot: FleetSnapshot, now: float) -> tuple[int, float]:
        """Return a ticket's current position, from 1, and the seconds until its turn; zeros if it does not wait."""
        if number not in self._queue:
            return 0, 0.0
        self._costs.refresh(snapshot, now)
        return self._queue.rank(number), seconds_to_turn(self._costs, self._queue, number)
