"""Late binding: which model to load next, on which server, for the tickets that wait for it.

A load is evaluated over its own duration plus the waiting work: the weight that it serves in that time must exceed the
weight that the evicted models would have served, plus the cost of reloading them, weighted by the probability of
demand. If the model is loaded elsewhere, only the share of the group that this server would take over counts; the load
has no value if the other servers would finish all tickets before this server finishes its first. If tickets wait for a
victim, its reload is part of the load's duration: of two models that alternate, each serves all its tickets before the
other is loaded, unless the other's have waited too long. A load that needs the memory of busy models reserves the
server: these models get no new tickets there until they are idle.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from msgspec import Struct

from ollama_router_core.admission.cost_model import CostModel
from ollama_router_core.admission.evictions import Evictions
from ollama_router_core.admission.in_flight_table import InFlightTable, ServerLoad
from ollama_router_core.admission.scheduler import ScheduledTicket, Scheduler
from ollama_router_core.admission.service_costs import ServiceCost
from ollama_router_core.admission.wait_queue import RequestGroup, WaitQueue
from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.routing.candidates import RequestKind

__all__ = ["LoadPlanner"]

CALM_MARGIN, CROWDED_MARGIN, CROWD = 1.1, 2.5, 4.0
"""Factor by which a load's gain must exceed its loss, as switching models has a cost of its own. The factor grows with
the queue, up to `CROWD` waiting per server: every waiting ticket pays for a load, and later batches serve the
others."""


class _LoadCandidate(Struct, frozen=True):
    """A load that pays: weight gained per second, group, server, bytes held there, and victims."""

    gain: float
    group: RequestGroup
    server: str
    held: int
    victims: tuple[CanonicalName, ...]


class LoadPlanner:
    """Evaluates loads by the cost model; its only state are reservations."""

    def __init__(self, queue: WaitQueue, in_flight: InFlightTable, costs: CostModel, scheduler: Scheduler) -> None:
        self._queue = queue
        self._in_flight = in_flight
        self._costs = costs
        self._scheduler = scheduler
        self._evictions = Evictions(in_flight, costs)

    def refresh(self, now: float) -> None:
        """Refresh the costs after a load was started."""
        self._costs.refresh(self._costs.snapshot, now)

    def reserved(self) -> Iterator[ScheduledTicket]:
        """Yield the reserved loads that now have room."""
        for server, server_load in self._in_flight.servers.items():
            kind = server_load.reserved_for
            if kind is None:
                continue
            group = self._queue.groups.get(kind)
            cost = None if group is None else self._costs.costs_of(group).get(server)
            if group is None or cost is None or cost.warm:
                server_load.reserved_for, server_load.evicting = None, ()
            elif (
                not any(server_load.runs(model) for model in server_load.evicting)
                and server_load.loading(cost.candidate.facts, self._costs.now) is None
            ):
                unload, server_load.reserved_for, server_load.evicting = server_load.evicting, None, ()
                yield self._load_for(group, cost, unload)

    def _load_for(self, group: RequestGroup, cost: ServiceCost, unload: tuple[CanonicalName, ...]) -> ScheduledTicket:
        gone = self._evictions.named(cost.candidate, unload)
        reason = f"loading takes ~{cost.load:.1f} s, pays off for {len(group.tickets)} waiting"
        return self._scheduler.schedule(
            group, self._scheduler.shortest(group, cost), cost, load=cost.load, unload=gone, reason=reason
        )

    def best(self, groups: Iterable[RequestGroup], servers: Iterable[str]) -> ScheduledTicket | None:
        """Find the load with the highest gain among these groups and servers, if its room is free.

        If a victim is busy, reserve the server instead and consider the next best load.
        """
        free = [name for name in servers if self._may_load(name)]
        pairs = [
            (group, name) for name in free for group in groups if group.tickets and name in self._costs.costs_of(group)
        ]
        worth = [found for group, name in pairs if (found := self._load_value(group, name)) is not None]
        reserved_for: set[str] = set()
        for best in sorted(worth, key=lambda one: (-one.gain, one.held, one.server, str(one.group.kind))):
            if best.server in reserved_for:
                continue
            server_load = self._in_flight.server(best.server)
            if not any(server_load.runs(model) for model in best.victims):
                return self._load_for(best.group, self._costs.costs_of(best.group)[best.server], best.victims)
            if not self._is_reserved(best.group.kind):
                server_load.reserved_for, server_load.evicting = best.group.kind, best.victims
            reserved_for.add(best.server)
        return None

    def _may_load(self, server: str) -> bool:
        server_load, facts = self._in_flight.server(server), self._costs.snapshot.servers.get(server)
        if facts is None or server_load.reserved_for is not None:
            return False
        return server_load.loading(facts, self._costs.now) is None

    def wanted_by_others(self, servers: Iterable[str]) -> set[str]:
        """Return the servers that could serve a waiting non-batch ticket, now or later."""
        costs = [self._costs.costs_of(group) for group in self._queue.groups.values() if not group.only_batch]
        return {name for name in servers if any(name in one for one in costs)}

    def _is_reserved(self, kind: RequestKind) -> bool:
        return any(server_load.reserved_for == kind for server_load in self._in_flight.servers.values())

    def _load_value(self, group: RequestGroup, server: str) -> _LoadCandidate | None:
        """Return the load of a group's model on a server, None if it does not pay."""
        cost = self._costs.costs_of(group)[server]
        server_load = cost.server_load
        if cost.warm or not self._scheduler.has_room(cost.candidate, server_load):
            return None
        found = self._served(group, cost, server_load)
        if found is None:
            return None
        weight, seconds = found
        margin = 0.0 if self._has_no_choice(group, server_load) else self._margin()
        victims, loss = self._evictions.choose(cost, seconds, weight / margin if margin else math.inf)
        if victims is None:
            return None
        more = max((server_load.rest(model, self._costs.now) for model in victims), default=0.0)
        more += self._costs.way_back(cost.candidate, victims, batch=group.only_batch)
        weight *= seconds / (seconds + more)
        if weight <= margin * loss:
            return None
        held = sum([one.size for one in cost.candidate.others])
        return _LoadCandidate((weight - loss) / (seconds + more), group, server, held, victims)

    def _has_no_choice(self, group: RequestGroup, server_load: ServerLoad) -> bool:
        """Whether a server is idle and no server serves the group, so that waiting gains nothing."""
        return not server_load.running and not self._costs.is_served(group)

    def _margin(self) -> float:
        crowd = self._queue.crowd / max(1, len(self._costs.snapshot.servers)) / CROWD
        return CALM_MARGIN + (CROWDED_MARGIN - CALM_MARGIN) * min(1.0, crowd)

    def _served(self, group: RequestGroup, cost: ServiceCost, server_load: ServerLoad) -> tuple[float, float] | None:
        """Return the weight served by a load and the seconds that it takes, loading included.

        None if the other servers would finish all tickets before this one finishes its first.
        """
        rate, ahead = self._costs.elsewhere(group, cost.candidate.name)
        work = cost.work(group.mean_tokens) * server_load.pace_with_one_more
        count = len(group.tickets)
        if not rate:
            return self._best_batch(group, cost, server_load.pace_with_one_more)
        coming = self._costs.arrivals(group) * cost.load
        if count + coming + ahead <= (cost.load + work) * rate:
            return None
        seconds = (count + coming + ahead + cost.load / work) / (rate + 1.0 / work)
        return self._costs.weight(group) / count * (seconds - cost.load) / work, seconds

    def _best_batch(self, group: RequestGroup, cost: ServiceCost, pace: float) -> tuple[float, float]:
        """Take the shortest tickets until one more would lower the weight per second."""
        queue, now = self._queue, self._costs.now
        pairs = sorted(
            [(cost.work(one.request.prompt_tokens) * pace, queue.weight(one, now)) for one in group.tickets.values()]
        )
        seconds, weight, best = cost.load, 0.0, (0.0, 1.0)
        for work, worth in pairs:
            seconds += work
            weight += worth
            if weight * best[1] > best[0] * seconds:
                best = (weight, seconds)
        return best
