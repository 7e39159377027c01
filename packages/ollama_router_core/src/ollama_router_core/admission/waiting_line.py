"""Read-only view of the queue for clients, status displays and other routers: positions, ages, expected waits."""

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
"""Seconds (thirty years) added to the arrival of a batch request, so that it comes after all others."""


class WaitingLine:
    """Reads the queue without changing it. `selector` uses the current config."""

    def __init__(self, queue: WaitQueue, costs: CostModel, dispatcher: Dispatcher, selector: ServerSelector) -> None:
        self._queue = queue
        self._costs = costs
        self._dispatcher = dispatcher
        self.selector = selector

    @property
    def since(self) -> float | None:
        """When the longest-waiting request arrived; None while the queue is empty."""
        oldest = self._queue.oldest()
        return None if oldest is None else oldest.arrived

    def longest_wait(self, snapshot: FleetSnapshot, now: float) -> tuple[float | None, frozenset[str]]:
        """Return since when requests wait, for other routers, and the full servers that could take the first.

        None and no servers while the queue is empty. A batch request comes after all others and keeps no slot.
        """
        firsts = self._firsts()
        if not firsts:
            since = self.since
            return None if since is None else since + _AFTER_ALL, frozenset()
        since, group = firsts[0]
        full = self._full_servers(snapshot, now)
        return since, full.of(self.selector.plan(group.sample.request, snapshot))

    def heads(self, snapshot: FleetSnapshot, now: float) -> Mapping[str, float]:
        """Return since when the first non-batch request waits for each full server."""
        full, found = self._full_servers(snapshot, now), dict[str, float]()
        for since, group in self._firsts():  # the longest wait of each server comes first
            names = full.of(self.selector.plan(group.sample.request, snapshot), but=found.keys())
            found.update(dict.fromkeys(names, since))
        return found

    def _firsts(self) -> list[tuple[float, RequestGroup]]:
        """Return since when each group's first non-batch ticket counts in the queue of all routers, longest first."""
        firsts = [(self._queue.first_since(group), group) for group in self._queue.groups.values()]
        return sorted([(since, group) for since, group in firsts if since is not None], key=itemgetter(0))

    def _full_servers(self, snapshot: FleetSnapshot, now: float) -> FullServers:
        seen = self._dispatcher.traffic(snapshot, now)
        return FullServers(seen, now, waits=self.selector.strategy.binds_late)

    def expected_wait(self, ticket: Ticket, snapshot: FleetSnapshot, now: float) -> float:
        """Return the expected seconds until such a request gets a server: its group's wait plus half the backlog."""
        group = self._queue.groups.get(kind_of(ticket.request))
        if group is None:
            return 0.0
        self._costs.refresh(snapshot, now)
        return max(self._costs.expected_wait(group) + 0.5 * self._costs.backlog(group), 0.0)

    def groups(self, snapshot: FleetSnapshot, now: float, user: str | None = None) -> tuple[WaitingGroup, ...]:
        """List waiting requests by model and context, longest wait first; only those of `user` if given."""
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
        """Return the position at which a ticket joined, from 1; 0 if it does not wait."""
        return self._queue.position(number)

    def rank(self, number: int) -> int:
        """Return a ticket's current position, from 1; 0 if it does not wait."""
        return self._queue.rank(number)

    def place(self, number: int, snapshot: FleetSnapshot, now: float) -> tuple[int, float]:
        """Return a ticket's position, from 1, and the expected seconds until its turn; zeros if it does not wait."""
        if number not in self._queue:
            return 0, 0.0
        self._costs.refresh(snapshot, now)
        return self._queue.rank(number), seconds_to_turn(self._costs, self._queue, number)
