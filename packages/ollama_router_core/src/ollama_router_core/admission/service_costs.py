"""Values of the cost model: a kind of request on one server and on all, and a loaded model's worth."""

from __future__ import annotations

from msgspec import Struct

from ollama_router_core.admission.in_flight_table import ServerLoad
from ollama_router_core.routing.candidates import Candidate

__all__ = ["KindCosts", "ResidentValue", "ServiceCost"]


class ServiceCost(Struct, eq=False):
    """What a kind of request costs on a server: seconds a prompt token, an answer, a load; `parallel` slots a model.

    In a line `most` are sent at once: one more than `parallel` where that may be too few, to see whether it waits.
    `loaded` says that the facts show it loaded as needed, `warm` that they do or an answer has begun since; that
    holds for one refresh.
    """

    candidate: Candidate
    server_load: ServerLoad
    per_token: float
    decode: float
    load: float
    parallel: int
    most: int
    loaded: bool
    warm: bool = False

    def work(self, tokens: float) -> float:
        """Undisturbed seconds of a request with so long a prompt."""
        return tokens * self.per_token + self.decode

    def seconds(self, tokens: float) -> float:
        """Return the seconds of a request with so long a prompt, beside what runs there now."""
        work = tokens * self.per_token + self.decode
        return work * self.server_load.pace_with_one_more if self.server_load.running else work


class KindCosts(Struct, eq=False):
    """The servers of a kind, kept over some refreshes, and what was derived from them in the latest one.

    `ahead` are the tickets that each could serve before it takes up the kind's: while it loads, or has no free slot.

    Who is warm is marked first; rates are worked out only when a load is weighed.
    """

    by_name: dict[str, ServiceCost]
    made_at: float
    made_for: int
    warmed: list[ServiceCost] = []
    marked: int = -1
    derived: int = -1
    rates: dict[str, float] = {}
    rate: float = 0.0
    ahead: dict[str, float] = {}
    all_ahead: float = 0.0


class ResidentValue(Struct, frozen=True):
    """What a loaded model is worth where it is: (weight, part of it, seconds a ticket, tickets) for each kind.

    `reload` are the seconds of the load that brings it back, as far as it must come back: tickets wait for it here.
    Where only a batch waits for it these are `batch_reload`: nobody else waits for them.
    """

    waiting: tuple[tuple[float, float, float, int], ...]
    rate: float
    replicas: int
    price: float
    reload: float
    batch_reload: float

    def loss(self, seconds: float) -> float:
        """Return the weight it would serve here within so many seconds, plus the price of its reload."""
        if not self.waiting:
            return self.rate * seconds / (1 + self.replicas) + self.price
        share = 0.0
        for weight, part, work, count in self.waiting:
            share += min((weight + self.rate * seconds) * part, seconds / work * weight / count)
        return share + self.price
