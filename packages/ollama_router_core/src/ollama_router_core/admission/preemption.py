"""Which batch request yields its slot to an interactive one that would wait."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from msgspec.structs import replace

from ollama_router_core.admission.in_flight_table import InFlightTable, Running
from ollama_router_core.admission.tickets import Preempt, Ticket
from ollama_router_core.routing.candidates import Candidate

__all__ = ["Preemptor", "preempted"]

_TRIES = 8
"""Maximum candidates tried per ticket: the first almost always suffices."""


class Preemptor:
    """Chooses a victim among the requests in flight."""

    def __init__(self, in_flight: InFlightTable) -> None:
        self._in_flight = in_flight

    def victim(
        self, ticket: Ticket, able: Iterable[Candidate], most: int, now: float, can_start: Callable[[str], bool]
    ) -> Preempt | None:
        """Pick the request to preempt for a waiting ticket: the latest to start, as it loses the least work; or None.

        Args:
            ticket: the waiting ticket.
            able: the servers that could take it.
            most: maximum preemptions of one request.
            now: the time.
            can_start: returns whether the ticket could start on a server, by the requests in flight at the call.
        """
        model = ticket.request.model
        found = [
            (running.kind.model != model, -running.since, candidate.name, running)
            for candidate in able
            for running in self._preemptible(candidate, most, now)
        ]
        for _, _, server, running in sorted(found, key=lambda one: one[:3])[:_TRIES]:
            with self._in_flight.without(running.ticket.number):
                helps = can_start(server)
            if helps:
                running.preempted = True
                return Preempt(ticket=running.ticket, server=server)
        return None

    def _preemptible(self, candidate: Candidate, most: int, now: float) -> Iterator[Running]:
        """Yield requests whose response has not begun and whose model is loaded: aborting a load gains nothing."""
        if not candidate.server.cancels_on_disconnect:
            return
        for running in self._in_flight.server(candidate.name).running.values():
            ticket = running.ticket
            if not ticket.preemptible or ticket.preemptions >= most or running.answering or running.preempted:
                continue
            if not running.may_load(candidate.facts, now):
                yield running


def preempted(running: Running, patience: float, now: float) -> Ticket:
    """Return the ticket of a preempted request. Its time on the server does not count as waiting."""
    ticket = running.ticket
    return replace(ticket, max_wait=patience + (now - running.since), preemptions=ticket.preemptions + 1)
