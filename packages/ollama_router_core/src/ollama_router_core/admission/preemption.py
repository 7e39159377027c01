"""Which batch request gives its slot up to an interactive one that would wait for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from msgspec.structs import replace

from ollama_router_core.admission.in_flight_table import InFlightTable, Running
from ollama_router_core.admission.tickets import Preempt, Ticket
from ollama_router_core.routing.candidates import Candidate

__all__ = ["Preemptor", "preempted"]

_TRIES = 8
"""Requests that are looked at for one that waits: the first is almost always the one."""


class Preemptor:
    """Chooses among the requests in flight. Owned by one `Admission`."""

    def __init__(self, in_flight: InFlightTable) -> None:
        self._in_flight = in_flight

    def victim(
        self, ticket: Ticket, able: Iterable[Candidate], most: int, now: float, goes: Callable[[str], bool]
    ) -> Preempt | None:
        """Pick the request that has to go for a ticket that waits, the one begun last, as least of it is lost; or None.

        Args:
            ticket: waits.
            able: the servers that could take it.
            most: how many times one may be preempted.
            now: the time.
            goes: whether the ticket could go to a server, by what is in flight at the time of the call.
        """
        model = ticket.request.model
        found = [
            (running.kind.model != model, -running.since, candidate.name, running)
            for candidate in able
            for running in self._preemptible(candidate, most, now)
        ]
        for _, _, server, running in sorted(found, key=lambda one: one[:3])[:_TRIES]:
            with self._in_flight.without(running.ticket.number):
                helps = goes(server)
            if helps:
                running.preempted = True
                return Preempt(ticket=running.ticket, server=server)
        return None

    def _preemptible(self, candidate: Candidate, most: int, now: float) -> Iterator[Running]:
        """Those of whose answer nothing has come, and whose model is loaded: a load that is cut off helps nobody."""
        if not candidate.server.cancels_on_disconnect:
            return
        for running in self._in_flight.server(candidate.name).running.values():
            ticket = running.ticket
            if not ticket.preemptible or ticket.preemptions >= most or running.answering or running.preempted:
                continue
            if not running.may_load(candidate.facts, now):
                yield running


def preempted(running: Running, patience: float, now: float) -> Ticket:
    """Return the ticket of a request that is off its server. Its time there does not count as waiting."""
    ticket = running.ticket
    return replace(ticket, max_wait=patience + (now - running.since), preemptions=ticket.preemptions + 1)
