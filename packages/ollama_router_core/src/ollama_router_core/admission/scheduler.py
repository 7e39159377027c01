"""Late binding: when something changes, what should run where next.

A slot of a loaded model that is free is filled at once: shortest expected work first, weighed with age and fairness
(Smith's rule, so that the mean wait is short). A load is judged over the time it takes together with the work that
waits for it: the weight it serves in that time must exceed the weight that the evicted models would have served, plus
the price of loading them again, as likely as they will be asked for. Where a model is loaded elsewhere only the share
of the group counts that this server would take over, and nothing does where the others would be done with all of them
before this server is with its first.
Where tickets wait for a victim its reload is part of the load's time: of two models that take turns each serves all its
tickets before the other is loaded, unless those have waited too long.
A load that needs the room of busy models reserves the server: those models get nothing new there until they are idle.
A load is under way until its answer begins or a report shows the model, however long it was expected to take: it may
wait in Ollama's own queue until some model is idle, which then goes. Nothing else is loaded there meanwhile, and where
room is a guess the other models get nothing new.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator

from msgspec import Struct

from ollama_router_core.admission.cost_model import CostModel
from ollama_router_core.admission.evictions import Evictions
from ollama_router_core.admission.in_flight_table import InFlightTable, ServerLoad
from ollama_router_core.admission.service_costs import ServiceCost
from ollama_router_core.admission.tickets import Ticket
from ollama_router_core.admission.wait_queue import RequestGroup, WaitQueue
from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.errors import amount
from ollama_router_core.routing.candidates import Candidate, RequestKind
from ollama_router_core.routing.filters import slots_of

__all__ = ["ScheduledTicket", "Scheduler"]

CALM_MARGIN, CROWDED_MARGIN, CROWD = 1.1, 2.5, 4.0
"""A load must gain this much more than it costs: changing one's mind is not free. The more requests wait (`CROWD` for
each server), the more: all who wait pay for a load, and who is passed over now is served by the next batch."""

_CROWDED = 2
"""Tickets of a kind that wait before one more than a server surely serves at once is sent there: a trial may wait in
Ollama, out of reach of what gets free meanwhile, and more slots are worth something in a line."""

_RISKED = 2.5
"""Seconds of a usual request of the kind for each of them: what a trial waits behind takes as long as that, or several
times as long. So quick models try first, and slow ones in long lines."""

_ASKED_WITHIN = 2.0
"""Seconds in which a server tells what it holds after a load; where it does not, the facts are all there is."""


class ScheduledTicket(Struct, frozen=True, eq=False):
    """A ticket goes to a server, perhaps into a load of `load` seconds, after `unload`."""

    ticket: Ticket
    server: str
    ranking: tuple[str, ...]
    work: float
    load: float
    size: int
    unload: tuple[CanonicalName, ...]
    reason: str


class _LoadCandidate(Struct, frozen=True):
    """A load that pays: weight gained a second, whose it is, where, the bytes held there, and who must go."""

    gain: float
    group: RequestGroup
    server: str
    held: int
    victims: tuple[CanonicalName, ...]


class Scheduler:
    """Chooses by the cost model; writes only reservations."""

    def __init__(self, queue: WaitQueue, in_flight: InFlightTable, costs: CostModel) -> None:
        self._queue = queue
        self._in_flight = in_flight
        self._costs = costs
        self._evictions = Evictions(in_flight, costs)

    # --- free slots ------------------------------------------------------------------------------------------------

    def refresh(self, now: float) -> None:
        """Weigh servers anew after a load was begun."""
        self._costs.refresh(self._costs.snapshot, now)

    def fill_free_slots(
        self, groups: Iterable[RequestGroup], servers: Collection[str] | None = None, *, batch: bool
    ) -> Iterator[ScheduledTicket]:
        """Tickets for free slots of loaded models; the caller starts each before it asks for the next.

        Without `batch` a group is left as soon as only tickets of that priority remain.
        """
        for group in groups:
            while group.tickets and (batch or not group.only_batch):
                scheduled = self.next_warm(group, servers)
                if scheduled is None:
                    break
                yield scheduled

    def next_warm(self, group: RequestGroup, servers: Collection[str] | None = None) -> ScheduledTicket | None:
        """One ticket of a group for a free slot of its loaded model, None where there is none."""
        costs = self._costs.costs_of(group)
        where = costs.values() if servers is None else [costs[name] for name in servers if name in costs]
        open_ = [cost for cost in where if cost.warm and self._has_slot(cost, group)]
        if not open_:
            return None
        tokens, usual = group.mean_tokens, open_[0]
        if len(open_) > 1:
            usual = min(open_, key=lambda cost: cost.seconds(tokens))
        ticket, cost, held = self._next(group, usual), usual, 0
        if group.conversations:
            ticket, cost, held = self._next_by_prefix(group, usual, ticket, open_)
        reason = "loaded, a slot is free"
        if held:
            reason += f", holds {amount(held, 'token')} of the conversation"
        return self._schedule(group, ticket, cost, load=0.0, unload=(), reason=reason, held=held)

    def _has_slot(self, cost: ServiceCost, group: RequestGroup) -> bool:
        server_load, kind = cost.server_load, group.kind
        if server_load.evicting and kind.model in server_load.evicting and server_load.reserved_for != kind:
            return False
        if server_load.by_kind:
            slots = cost.most if _may_try(group, cost) else cost.parallel
            if server_load.running_of(cost.candidate.runner) >= slots:
                return False
        if self._is_leaving(cost, kind, server_load):
            return False
        return self._has_room(cost.candidate, server_load)

    def _is_leaving(self, cost: ServiceCost, kind: RequestKind, server_load: ServerLoad) -> bool:
        """Whether a model may go as soon as it is idle, as another waits there for room."""
        now, candidate = self._costs.now, cost.candidate
        coming = server_load.loading(candidate.facts, now) if server_load.running else None
        if coming is None:
            return self._may_be_gone(candidate, now)
        if coming.kind == kind:
            return False
        sure = candidate.room.surely_holds_one_more(len(candidate.facts.loaded))
        return not sure or now > coming.since + coming.load

    def _may_be_gone(self, candidate: Candidate, now: float) -> bool:
        """Whether another model came a moment ago, perhaps in its place: the server is being asked."""
        facts, own = candidate.facts, candidate.loaded
        if not facts.noted or own is None or own.name in facts.noted:
            return False
        came = max([at for name, at in facts.noted.items() if name in facts.loaded], default=-math.inf)
        return now - came < _ASKED_WITHIN and not candidate.room.surely_holds_one_more(len(facts.loaded) - 1)

    def _has_room(self, candidate: Candidate, server_load: ServerLoad) -> bool:
        snapshot = self._costs.snapshot
        running = len(server_load.running)
        if snapshot.elsewhere:
            running += snapshot.elsewhere.get(candidate.name, 0)
        if not running:
            return True
        slots = slots_of(candidate, snapshot)
        return slots is None or running < slots

    def _next_by_prefix(
        self, group: RequestGroup, usual: ServiceCost, ticket: Ticket, open_: list[ServiceCost]
    ) -> tuple[Ticket, ServiceCost, int]:
        """Pick the ticket with least left to read where its conversation is held, and count the tokens held there."""
        snapshot = self._costs.snapshot
        by_name = {cost.candidate.name: cost for cost in open_}
        best, least = (ticket, usual, 0), usual.seconds(ticket.request.prompt_tokens) / self._worth(group, ticket)
        for one in group.tickets.values():
            found = snapshot.held(one.conversation)
            cost = None if found is None else by_name.get(found.server)
            if found is None or cost is None:
                continue
            tokens = one.request.prompt_tokens
            held = min(found.tokens, tokens)
            seconds = cost.seconds(tokens - held) / self._worth(group, one)
            if seconds < least:
                best, least = (one, cost, held), seconds
        return best

    def _worth(self, group: RequestGroup, ticket: Ticket) -> float:
        """Return a ticket's weight among its group; the only one need not be in the queue."""
        return 1.0 if len(group.tickets) == 1 else self._queue.weight(ticket, self._costs.now)

    def _next(self, group: RequestGroup, cost: ServiceCost) -> Ticket:
        """Pick the shortest ticket, with age and fairness weighed in."""
        queue, now = self._queue, self._costs.now
        tickets = group.tickets.values()
        if len(tickets) == 1:
            return next(iter(tickets))
        return min(tickets, key=lambda one: cost.work(one.request.prompt_tokens) / queue.weight(one, now))

    def _schedule(
        self,
        group: RequestGroup,
        ticket: Ticket,
        cost: ServiceCost,
        *,
        load: float,
        unload: tuple[CanonicalName, ...],
        reason: str,
        held: int = 0,
    ) -> ScheduledTicket:
        name, tokens = cost.candidate.name, group.mean_tokens
        others = [
            (not other.warm, tokens * other.per_token + other.decode + other.load, other_name)
            for other_name, other in self._costs.costs_of(group).items()
            if other is not cost
        ]
        others.sort()
        ranking = (name, *[other[2] for other in others])
        work = cost.work(ticket.request.prompt_tokens - held)
        return ScheduledTicket(ticket, name, ranking, work, load, cost.candidate.size, unload, reason)

    # --- loads -----------------------------------------------------------------------------------------------------

    def start_reserved_loads(self) -> Iterator[ScheduledTicket]:
        """Reserved loads whose room has been made by now."""
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
        reason = f"a load of ~{cost.load:.1f} s pays for {len(group.tickets)} waiting"
        return self._schedule(group, self._next(group, cost), cost, load=cost.load, unload=gone, reason=reason)

    def best_load(self, groups: Iterable[RequestGroup], servers: Iterable[str]) -> ScheduledTicket | None:
        """Find the load that pays most among these groups and servers, if one does and its room is free.

        Where busy models must go first, the server is reserved instead, and the next best is considered.
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
        """Those that could serve somebody who waits and is no batch, now or later."""
        costs = [self._costs.costs_of(group) for group in self._queue.groups.values() if not group.only_batch]
        return {name for name in servers if any(name in one for one in costs)}

    def _is_reserved(self, kind: RequestKind) -> bool:
        return any(server_load.reserved_for == kind for server_load in self._in_flight.servers.values())

    def _load_value(self, group: RequestGroup, server: str) -> _LoadCandidate | None:
        """Whether loading a group's model pays, and how much a second."""
        cost = self._costs.costs_of(group)[server]
        server_load = cost.server_load
        if cost.warm or not self._has_room(cost.candidate, server_load):
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
        """Whether a server is idle and nobody serves a group: its load comes anyhow, and waiting wins nothing."""
        return not server_load.running and not self._costs.is_served(group)

    def _margin(self) -> float:
        crowd = self._queue.crowd / max(1, len(self._costs.snapshot.servers)) / CROWD
        return CALM_MARGIN + (CROWDED_MARGIN - CALM_MARGIN) * min(1.0, crowd)

    def _served(self, group: RequestGroup, cost: ServiceCost, server_load: ServerLoad) -> tuple[float, float] | None:
        """Return the weight served by a load and the seconds that takes, the load included.

        None where the other servers would be done with all tickets before this one is with its first.
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
        """Take the shortest tickets up to where one more would lower the weight a second."""
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


def _may_try(group: RequestGroup, cost: ServiceCost) -> bool:
    """Whether enough of a group wait, for how long its requests take, to send one more than are proven to be served."""
    waiting = 0 if group.only_batch else len(group.tickets)
    return waiting >= _CROWDED and cost.work(group.mean_tokens) <= _RISKED * waiting
