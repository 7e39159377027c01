"""The cost of serving each waiting group on each server, and the value of the models loaded there."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from itertools import islice

from ollama_router_core.admission.arrival_rates import ArrivalRates
from ollama_router_core.admission.in_flight_table import InFlightTable
from ollama_router_core.admission.service_costs import KindCosts, ResidentValue, ServiceCost
from ollama_router_core.admission.wait_queue import BATCH_WEIGHT, RequestGroup, WaitQueue
from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.fleet.snapshot import FleetSnapshot, LoadedModel
from ollama_router_core.fleet.speeds import model_weight
from ollama_router_core.routing.candidates import RESPONSIVE, WARM, Candidate, RequestKind, reload_seconds
from ollama_router_core.routing.filters import in_service, proven_slots, runner_slots
from ollama_router_core.routing.selector import ServerSelector

__all__ = ["CostModel", "ServiceCost"]

RELOAD_PRICE = 0.1
"""Loss, in ticket weights, per second of a reload that an eviction makes likely."""

REUSE_HORIZON = 60.0
"""Seconds within which a request for an evicted model makes the eviction a loss."""

_MOST_LOADS = 4096
_COSTS_LAST = 1.0
_WEIGHTS_LAST = 0.5
_RENEWALS = 4
_SAMPLED = 4
"""Seconds for which cached costs and weights may be stale, the number of kinds whose costs one refresh renews, and the
number of a group's servers sampled for a rough estimate."""


class CostModel:
    """Derives costs from the queue, the in-flight table and the facts.

    Attributes:
        snapshot: the facts, as of the latest `refresh`.
        now: its time.
    """

    def __init__(
        self, selector: ServerSelector, queue: WaitQueue, in_flight: InFlightTable, rates: ArrivalRates
    ) -> None:
        self._selector = selector
        self._queue = queue
        self._in_flight = in_flight
        self._rates = rates
        self.snapshot = FleetSnapshot()
        self.now = 0.0
        self._refreshes = 0
        self._facts = 0
        self._renewals = _RENEWALS
        self._by_kind: dict[RequestKind, KindCosts] = {}
        self._weights: dict[RequestKind, tuple[int, float, float]] = {}
        self._residents: dict[tuple[str, CanonicalName], ResidentValue] = {}
        self._loads: dict[tuple[str, CanonicalName], tuple[object, float]] = {}

    def reconfigure(self, selector: ServerSelector) -> None:
        """Apply a new selector and drop all cached costs."""
        self._selector = selector
        self._by_kind.clear()

    def refresh(self, snapshot: FleetSnapshot, now: float) -> None:
        """Set the facts and the time. Costs are cached for a second, or until the facts change."""
        old = self.snapshot
        if (
            snapshot.servers is not old.servers
            or snapshot.draining != old.draining
            or snapshot.suspended != old.suspended
            or snapshot.suspended_models != old.suspended_models
        ):
            self._facts += 1
        if len(self._weights) > 4 * len(self._queue.groups) + 64:
            self._by_kind.clear()
            self._weights.clear()
        if len(self._loads) > _MOST_LOADS:
            self._loads.clear()
        self._residents.clear()
        self.snapshot, self.now = snapshot, now
        self._refreshes += 1
        self._renewals = _RENEWALS

    def costs_of(self, group: RequestGroup) -> dict[str, ServiceCost]:
        """Return the costs on the servers in service for a group, slow ones only if there is no other."""
        return self._current(group).by_name

    def _current(self, group: RequestGroup) -> KindCosts:
        found = self._by_kind.get(group.kind)
        if found is None or self._is_due(found):
            found = self._by_kind[group.kind] = KindCosts(self._make_costs(group, {}), self.now, self._facts)
        elif found.made_for != self._facts:
            kept = self._make_costs(group, found.by_name)
            found = self._by_kind[group.kind] = KindCosts(kept, found.made_at, self._facts)
        if found.marked != self._refreshes:
            found.marked = self._refreshes
            self._mark(found, group.kind)
        return found

    def _is_due(self, found: KindCosts) -> bool:
        """Whether to renew a kind's costs; at most a few per refresh, so that no refresh pays for all."""
        if self.now - found.made_at <= _COSTS_LAST or not self._renewals:
            return False
        self._renewals -= 1
        return True

    def _mark(self, found: KindCosts, kind: RequestKind) -> None:
        """Mark servers as warm whose response has begun since the facts were reported."""
        for cost in found.warmed:
            cost.warm = cost.loaded
        answering = self._in_flight.answering(kind)
        if not answering and not found.warmed:
            return
        found.warmed = [found.by_name[name] for name in answering if name in found.by_name] if answering else []
        for cost in found.warmed:
            cost.warm = True

    def _rated(self, group: RequestGroup) -> KindCosts:
        found = self._current(group)
        if found.derived != self._refreshes:
            found.derived = self._refreshes
            self._derive(found, group)
        return found

    def _make_costs(self, group: RequestGroup, known: Mapping[str, ServiceCost]) -> dict[str, ServiceCost]:
        """Compute the costs on the servers in service for a group; reuse `known` costs of the same candidates."""
        snapshot = self.snapshot
        able = self._selector.plan(group.sample.request, snapshot).able
        usable = [one for one in able if in_service(one, snapshot, self.now)]
        least = min((one.health_tier for one in usable), default=RESPONSIVE)
        costs = {}
        for one in usable:
            if one.health_tier > least:
                continue
            cost = known.get(one.name)
            if cost is None or cost.candidate is not one:
                cost = self._cost_on(one, group)
            cost.warm = cost.loaded
            costs[one.name] = cost
        return costs

    def _derive(self, found: KindCosts, group: RequestGroup) -> None:
        """Derive which servers serve the kind, at how many tickets per second, and from when."""
        kind, tokens = group.kind, group.mean_tokens
        running = self._in_flight.running(kind)
        found.rates, found.ahead = {}, {}
        for name, cost in found.by_name.items():
            server_load = cost.server_load
            if (
                cost.warm
                or name in running
                or (server_load.reserved_for is not None and server_load.reserved_for == kind)
            ):
                rate = cost.parallel / (cost.work(tokens) * server_load.pace)
                found.rates[name] = rate
                ahead = cost.load
                if cost.warm:
                    busy = server_load.running
                    ahead = server_load.busy_for(cost.candidate.runner, cost.parallel, self.now) if busy else 0.0
                found.ahead[name] = rate * ahead
        found.rate = sum(found.rates.values())
        found.all_ahead = sum(found.ahead.values())

    def _cost_on(self, candidate: Candidate, group: RequestGroup) -> ServiceCost:
        speed = candidate.speed(group.kind.model, self.snapshot.speeds)
        decode = 0.0 if "embedding" in group.kind.needs else speed.answer_tokens / speed.decode_rate
        return ServiceCost(
            candidate,
            self._in_flight.server(candidate.name),
            1.0 / speed.prefill_rate,
            decode,
            speed.load_seconds,
            proven_slots(candidate, self.snapshot),
            self._most_sent(candidate),
            loaded=candidate.warmth == WARM and candidate.loaded is not None,
        )

    def _most_sent(self, candidate: Candidate) -> int:
        slots, proven = runner_slots(candidate, self.snapshot), self.snapshot.proven.get(candidate.name)
        return slots or (1 if proven is None else proven + 1)

    def is_served(self, group: RequestGroup) -> bool:
        """Whether some server has a group's model loaded, is loading it or has room reserved for it."""
        return bool(self._rated(group).rates)

    def serving(self, group: RequestGroup) -> list[ServiceCost]:
        """Return the servers that have a group's model loaded, are loading it or have room reserved for it."""
        found = self._rated(group)
        return [found.by_name[name] for name in found.rates]

    def elsewhere(self, group: RequestGroup, server: str) -> tuple[float, float]:
        """Return the tickets per second that other servers serve, and the tickets lost until they can start."""
        found = self._rated(group)
        own = found.rates.get(server)
        if own is None:
            return found.rate, found.all_ahead
        if len(found.rates) == 1:
            return 0.0, 0.0
        return found.rate - own, found.all_ahead - found.ahead[server]

    def weight(self, group: RequestGroup) -> float:
        """Sum the weights of a group's tickets."""
        known = self._weights.get(group.kind)
        if known is not None and known[0] == group.version and self.now - known[1] < _WEIGHTS_LAST:
            return known[2]
        weight = self._queue.weight_of(group, self.now)
        self._weights[group.kind] = (group.version, self.now, weight)
        return weight

    def arrivals(self, group: RequestGroup) -> float:
        """Return the expected arrivals per second of a group's model."""
        model = group.kind.model
        return 0.0 if model is None else self._rates.rate(model, self.now)

    def loss(self, candidate: Candidate, loaded: LoadedModel, seconds: float) -> float:
        """Return the loss, in ticket weights, of evicting a loaded model for `seconds`."""
        return self._value_of(candidate, loaded).loss(seconds)

    def way_back(self, candidate: Candidate, victims: Collection[CanonicalName], *, batch: bool) -> float:
        """Return the seconds of reloading victims for the tickets that wait for them here.

        Models that only batch tickets wait for count only with `batch`.
        """
        others = [one for one in candidate.others if one.name in victims]
        values = [self._value_of(candidate, one) for one in others]
        return sum([max(one.reload, one.batch_reload) if batch else one.reload for one in values])

    def _value_of(self, candidate: Candidate, loaded: LoadedModel) -> ResidentValue:
        key = (candidate.name, loaded.name)
        value = self._residents.get(key)
        if value is None:
            value = self._residents[key] = self._resident_value(candidate.name, loaded)
        return value

    def _load_seconds(self, server: str, loaded: LoadedModel) -> float:
        """Return the learned load time of a model in seconds, cached by the version of the speeds."""
        speeds, key = self.snapshot.speeds, (server, loaded.name)
        if speeds is None:
            return reload_seconds(loaded.size)
        version, known = speeds.version(server), self._loads.get(key)
        if known is None or known[0] is not version:
            weight = model_weight(loaded.name, self.snapshot.servers[server].model(loaded.name))
            known = self._loads[key] = version, speeds.expect(server, loaded.name, weight).load_seconds
        return known[1]

    def _resident_value(self, server: str, loaded: LoadedModel) -> ResidentValue:
        model = loaded.name
        rate = self._rates.rate(model, self.now)
        replicas = self._replicas(model, server)
        waiting: list[tuple[float, float, float, int]] = []
        reload, back, batch_back, count = self._load_seconds(server, loaded), 0.0, 0.0, 0.0
        for group in self._queue.by_model.get(model, ()):
            cost = self.costs_of(group).get(server)
            if cost is None or not cost.warm:
                continue
            work = cost.work(group.mean_tokens) * cost.server_load.pace
            others, _ = self.elsewhere(group, server)
            part = 1.0 / (1.0 + work * others)
            waiting.append((self.weight(group), part, work, len(group.tickets)))
            count += len(group.tickets) - (1.0 - BATCH_WEIGHT) * group.batch
            if group.only_batch:
                batch_back = max(batch_back, part * reload)
            else:
                back = max(back, part * reload)
        missed = 1.0 - math.exp(-rate * REUSE_HORIZON)
        price = RELOAD_PRICE * reload * missed * (1 + count) / (1 + replicas)
        return ResidentValue(tuple(waiting), rate, replicas, price, back, batch_back)

    def _replicas(self, model: CanonicalName, besides: str) -> int:
        """Count the other servers that have a model loaded."""
        servers = self.snapshot.servers
        return sum(model in facts.loaded for name, facts in servers.items() if name != besides and facts.up)

    def backlog(self, group: RequestGroup, counts: Mapping[RequestKind, int] | None = None) -> float:
        """Return the seconds that a group's servers need for their share of other groups, or of `counts` tickets."""
        own, seconds = self.costs_of(group).keys(), 0.0
        for other in self._queue.groups.values():
            costs, count = self.costs_of(other), len(other.tickets) if counts is None else counts.get(other.kind, 0)
            if count and other is not group and not own.isdisjoint(costs):
                some = list(islice(costs.values(), _SAMPLED))
                load = 0.0 if any(one.warm for one in some) else min([one.load for one in some])
                work = min([one.work(other.mean_tokens) for one in some])
                seconds += (load + count * work) / len(costs)
        return seconds

    def expected_wait(self, group: RequestGroup) -> float:
        """Forecast the seconds until a newcomer to a group is dispatched, ignoring other groups."""
        rate, ahead = self.elsewhere(group, "")
        count = len(group.tickets)
        if rate:
            return (count + ahead) / rate
        return min(
            (cost.load + count * cost.work(group.mean_tokens) for cost in self.costs_of(group).values()), default=0.0
        )
