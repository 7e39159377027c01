"""Which models a load evicts from a server's memory, and the loss."""

from __future__ import annotations

from ollama_router_core.admission.cost_model import CostModel
from ollama_router_core.admission.in_flight_table import InFlightTable
from ollama_router_core.admission.service_costs import ServiceCost
from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.fleet.snapshot import LoadedModel
from ollama_router_core.routing.candidates import Candidate

__all__ = ["RISK", "Evictions"]

RISK = 0.7
"""Share of the eviction loss charged to a load that fits only by an estimate of the room."""


class Evictions:
    """Chooses victims by the cost model; stateless."""

    def __init__(self, in_flight: InFlightTable, costs: CostModel) -> None:
        self._in_flight = in_flight
        self._costs = costs

    def choose(
        self, cost: ServiceCost, seconds: float, most: float
    ) -> tuple[tuple[CanonicalName, ...], float] | tuple[None, float]:
        """Choose victims, lowest loss per byte first; return them and the loss, None if the loss exceeds `most`."""
        candidate = cost.candidate
        own, room = candidate.loaded, candidate.room
        loss = 0.0 if own is None else self._costs.loss(candidate, own, seconds)
        arriving = self._arriving(candidate)
        held = sum([one.held for one in candidate.others]) + sum(arriving)
        count = len(candidate.others) + len(arriving)
        gone: list[LoadedModel] | None = []
        if not room.fits(candidate.size, held, count):
            gone, loss = self._driven_out(candidate, held, count, seconds, loss, most)
        elif held and not room.measured:
            loss += RISK * sum([self._costs.loss(candidate, one, seconds) for one in candidate.others])
        if gone is None:
            return None, loss
        return tuple([one.name for one in (*([] if own is None else [own]), *gone)]), loss

    def _driven_out(
        self, candidate: Candidate, held: int, count: int, seconds: float, loss: float, most: float
    ) -> tuple[list[LoadedModel] | None, float]:
        """Pick victims among `count` models with `held` bytes; return them and the total loss."""
        room = candidate.room
        priced = sorted(
            [(self._costs.loss(candidate, one, seconds) / max(one.held, 1), one.name, one) for one in candidate.others],
        )
        gone: list[LoadedModel] = []
        for price, _, one in priced:
            if room.fits(candidate.size, held, count):
                break
            gone.append(one)
            held, count = held - one.held, count - 1
            loss += price * one.held
            if loss > most:
                return None, loss
        if not room.fits(candidate.size, held, count):
            return None, loss
        for one in list(gone):  # a later, larger victim may have made it unnecessary
            if room.fits(candidate.size, held + one.held, count + 1):
                gone.remove(one)
                held, count = held + one.held, count + 1
                loss -= self._costs.loss(candidate, one, seconds)
        return gone, loss

    def named(self, candidate: Candidate, victims: tuple[CanonicalName, ...]) -> tuple[CanonicalName, ...]:
        """Pick the victims to unload in advance: those without whose removal there is certainly no room.

        Empty if only an estimated limit on the number of models blocks the load.
        """
        room, own = candidate.room, candidate.loaded
        sizes = {one.name: one.held for one in candidate.others}
        held = sum(sizes.values()) + sum(self._arriving(candidate))
        known = room.counted if room.holds(candidate.size, held) else room.measured
        loaded, gone = candidate.facts.loaded, []
        for one in victims:
            if one in loaded and (known or room.surely_lacks(candidate.size, held) or (own and one == own.name)):
                gone.append(one)
                held -= sizes.get(one, 0)
        return tuple(gone)

    def _arriving(self, candidate: Candidate) -> list[int]:
        """Return the bytes of each model that in-flight requests are loading and no report shows yet."""
        loaded = candidate.facts.loaded
        running = self._in_flight.server(candidate.name).running.values()
        return [one.size for one in running if one.load and not one.answering and one.kind.model not in loaded]
