"""Values of the cost model: a kind of request on one server and on all, and a loaded model's value."""

from __future__ import annotations

from msgspec import Struct

from ollama_router_core.admission.in_flight_table import ServerLoad
from ollama_router_core.routing.candidates import Candidate

__all__ = ["KindCosts", "ResidentValue", "ServiceCost"]


class ServiceCost(Struct, eq=False):
    """Cost of a kind of request on a server: seconds per prompt token, response and load; `parallel` slots per model.

    With a queue, up to `most` requests are sent: one more than `parallel`, where more may be possible, to test it.
    `loaded`: the facts show the model loaded as needed. `warm`: they do, or a response has begun since; valid for one
    refresh.
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
        """Return the seconds of a request with `tokens` prompt tokens, running alone."""
        return tokens * self.per_token + self.decode

    def seconds(self, tokens: float) -> float:
        """Return the seconds of a request with `tokens` prompt tokens, beside the running requests."""
        work = tokens * self.per_token + self.decode
        return work * self.server_load.pace_with_one_more if self.server_load.running else work


class KindCosts(Struct, eq=False):
    """The costs of a kind by server, cached over some refreshes, and the values derived in the latest one.

    `ahead`: tickets that each server could serve in the time until it starts on the kind's, while it loads or is full.

    Warm servers are marked first; rates are derived only to evaluate a load.
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
    """The value of a loaded model on its server: (weight, share of it, seconds per ticket, tickets) of each kind.

    `reload`: seconds of reloading the model for the tickets that wait for it here. `batch_reload`: the same where only
    batch tickets wait.
    """

    waiting: tuple[tuple[float, float, float, int], ...]
    rate: float
    replicas: int
    price: float
    reload: float
    batch_reload: float

    def loss(self, seconds: float) -> float:
        """Return the weight that it would serve here within `seconds`, plus the price of its reload."""
        if not self.waiting:
            return self.rate * seconds / (1 + self.replicas) + self.price
        share = 0.0
        for weight, part, work, count in self.waiting:
            share += min((weight + self.rate * seconds) * part, seconds / work * weight / count)
        return share + self.price
