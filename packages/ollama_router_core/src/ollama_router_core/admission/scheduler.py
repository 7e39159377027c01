"""Late binding: which ticket goes next to a free slot of a loaded model.

Such a slot is filled immediately: shortest expected work first, weighted by age and fairness (Smith's rule, which
minimizes the mean weighted wait). A load is in progress until its response begins or a report shows the model, whatever
its expected duration: it may wait in Ollama's own queue for an idle model to evict. During that time no other load
starts on the server, and where the room is an estimate, the other models get no new tickets.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator

from msgspec import Struct

from ollama_router_core.admission.cost_model import CostModel
from ollama_router_core.admission.in_flight_table import ServerLoad
from ollama_router_core.admission.service_costs import ServiceCost
from ollama_router_core.admission.tickets import Ticket
from ollama_router_core.admission.wait_queue import RequestGroup, WaitQueue
from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.errors import amount
from ollama_router_core.routing.candidates import Candidate, RequestKind
from ollama_router_core.routing.filters import slots_of

__all__ = ["ScheduledTicket", "Scheduler"]

_CROWDED = 2
"""Waiting tickets of a kind before the router sends a server one more request than its proven parallelism: such a trial
may wait in Ollama's queue and miss slots that become free elsewhere, and pays off only with a queue."""

_RISKED = 2.5
"""Maximum seconds of an average request per waiting ticket for such a trial: the trial may wait that long or several
times as long. Fast models thus try first, slow ones only with long queues."""

_REPORT_DUE = 2.0
"""Seconds to wait for a server's report after a load before trusting the existing facts."""


class ScheduledTicket(Struct, frozen=True, eq=False):
    """A ticket's assignment to a server, with a load of `load` seconds (0 if loaded) after `unload`."""

    ticket: Ticket
    server: str
    ranking: tuple[str, ...]
    work: float
    load: float
    size: int
    unload: tuple[CanonicalName, ...]
    reason: str


class Scheduler:
    """Chooses tickets by the cost model; stateless."""

    def __init__(self, queue: WaitQueue, costs: CostModel) -> None:
        self._queue = queue
        self._costs = costs

    def fill_free_slots(
        self, groups: Iterable[RequestGroup], servers: Collection[str] | None = None, *, batch: bool
    ) -> Iterator[ScheduledTicket]:
        """Yield tickets for free slots of loaded models; the caller starts each before it requests the next.

        Without `batch`, skip a group once only batch tickets remain.
        """
        for group in groups:
            while group.tickets and (batch or not group.only_batch):
                scheduled = self.next_warm(group, servers)
                if scheduled is None:
                    break
                yield scheduled

    def next_warm(self, group: RequestGroup, servers: Collection[str] | None = None) -> ScheduledTicket | None:
        """Return one ticket of a group for a free slot of its loaded model, None if there is none."""
        costs = self._costs.costs_of(group)
        where = costs.values() if servers is None else [costs[name] for name in servers if name in costs]
        open_ = [cost for cost in where if cost.warm and self._has_slot(cost, group)]
        if not open_:
            return None
        tokens, usual = group.mean_tokens, open_[0]
        if len(open_) > 1:
            usual = min(open_, key=lambda cost: cost.seconds(tokens))
        ticket, cost, held = self.shortest(group, usual), usual, 0
        if group.conversations:
            ticket, cost, held = self._next_by_prefix(group, usual, ticket, open_)
        reason = "loaded, a slot is free"
        if held:
            reason += f", holds {amount(held, 'token')} of the conversation cached"
        return self.schedule(group, ticket, cost, load=0.0, unload=(), reason=reason, held=held)

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
        return self.has_room(cost.candidate, server_load)

    def _is_leaving(self, cost: ServiceCost, kind: RequestKind, server_load: ServerLoad) -> bool:
        """Whether the server may evict the model once it is idle, as another load waits for room."""
        now, candidate = self._costs.now, cost.candidate
        coming = server_load.loading(candidate.facts, now) if server_load.running else None
        if coming is None:
            return self._may_be_gone(candidate, now)
        if coming.kind == kind:
            return False
        sure = candidate.room.surely_holds_one_more(len(candidate.facts.loaded))
        return not sure or now > coming.since + coming.load

    def _may_be_gone(self, candidate: Candidate, now: float) -> bool:
        """Whether another model was just loaded, perhaps in its place, and the server's report is pending."""
        facts, own = candidate.facts, candidate.loaded
        if not facts.noted or own is None or own.name in facts.noted:
            return False
        came = max([at for name, at in facts.noted.items() if name in facts.loaded], default=-math.inf)
        return now - came < _REPORT_DUE and not candidate.room.surely_holds_one_more(len(facts.loaded) - 1)

    def has_room(self, candidate: Candidate, server_load: ServerLoad) -> bool:
        """Whether a server can take one more request immediately, counting all processes."""
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
        """Pick the ticket with the least work, given cached prompts; return it with its cost and cached tokens."""
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
        """Return a ticket's weight within its group; a single ticket need not be in the queue."""
        return 1.0 if len(group.tickets) == 1 else self._queue.weight(ticket, self._costs.now)

    def shortest(self, group: RequestGroup, cost: ServiceCost) -> Ticket:
        """Pick the ticket with the least work per weight."""
        queue, now = self._queue, self._costs.now
        tickets = group.tickets.values()
        if len(tickets) == 1:
            return next(iter(tickets))
        return min(tickets, key=lambda one: cost.work(one.request.prompt_tokens) / queue.weight(one, now))

    def schedule(
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
        """Assign a ticket to a server, with the others ranked by cost as alternatives."""
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


def _may_try(group: RequestGroup, cost: ServiceCost) -> bool:
    """Whether the queue justifies one request more than the server's proven parallelism."""
    waiting = 0 if group.only_batch else len(group.tickets)
    return waiting >= _CROWDED and cost.work(group.mean_tokens) <= _RISKED * waiting
