"""The expected time of a request on a server, by term, in seconds."""

from __future__ import annotations

from msgspec import Struct

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.fleet.prefixes import HeldPrefix
from ollama_router_core.fleet.snapshot import FleetSnapshot, ModelSpeed
from ollama_router_core.fleet.speeds import SHARING
from ollama_router_core.routing.candidates import EVICTS, WARM, Candidate, reload_seconds
from ollama_router_core.routing.filters import proven_slots

__all__ = ["ExpectedTime", "expected_time"]

_HORIZON = 60.0
"""Seconds within which a request for an evicted model makes the eviction a loss."""


class ExpectedTime(Struct, frozen=True, kw_only=True):
    """Seconds. `affinity` is negative: prefill saved by a cached prefix. `harm` is others' loss by an eviction."""

    wait: float
    load: float
    prefill: float
    decode: float
    harm: float = 0.0
    affinity: float = 0.0

    @property
    def ready(self) -> float:
        """Seconds until the first token."""
        return self.wait + self.load + self.prefill + self.affinity

    @property
    def done(self) -> float:
        """Seconds until the last token."""
        return self.ready + self.decode

    @property
    def cost(self) -> float:
        """Sort key of `fastest`: this request's time plus the time that it costs others."""
        return self.done + self.harm

    def __str__(self) -> str:
        parts = ("wait", "load", "prefill", "decode", "harm", "affinity")
        shown = [f"{name} {getattr(self, name):.1f}" for name in parts if abs(getattr(self, name)) >= 0.05]
        return f"{' + '.join(shown) or 'nothing'} s"


def expected_time(
    candidate: Candidate,
    request: RouteRequest,
    snapshot: FleetSnapshot,
    *,
    now: float,
    prefix: HeldPrefix | None = None,
) -> ExpectedTime:
    """Return the expected time of a request that is sent to a server now."""
    speed = candidate.speed(request.model, snapshot.speeds)
    running = snapshot.in_flight.get(candidate.name, 0)
    crowd = (running + 1.0) ** SHARING if running else 1.0
    prefill = request.prompt_tokens / speed.prefill_rate * crowd
    decode = _answer(request, speed) / speed.decode_rate * crowd
    wait = load = harm = affinity = 0.0
    if snapshot.active and running:
        wait = _ahead(candidate, request, snapshot) * (prefill + decode)
    if candidate.warmth != WARM:
        load = speed.load_seconds
        if candidate.facts.loading:
            wait += _loads_ahead(candidate, now)
        if candidate.warmth == EVICTS:
            harm = _harm(candidate, snapshot) if snapshot.demand else 0.0
            wait += prefill + decode if running else 0.0
    elif candidate.loading_since is not None:
        load = max(0.0, speed.load_seconds - (now - candidate.loading_since))
    elif prefix is not None and prefix.server == candidate.name:
        affinity = -min(prefill, prefix.tokens / speed.prefill_rate * crowd)
    return ExpectedTime(wait=wait, load=load, prefill=prefill, decode=decode, harm=harm, affinity=affinity)


def _ahead(candidate: Candidate, request: RouteRequest, snapshot: FleetSnapshot) -> float:
    """Return the number of requests to wait for, per slot of the model."""
    active = snapshot.active.get(candidate.name)
    if not active or request.model is None:
        return 0.0
    slots = proven_slots(candidate, snapshot)
    running = sum([active.get(name, 0) for name in candidate.runner])
    return max(0, running - slots + 1) / slots


def _answer(request: RouteRequest, speed: ModelSpeed) -> float:
    if "embedding" in request.needs:
        return 0.0
    usual, most = speed.answer_tokens, request.max_tokens
    return usual if most is None or most > usual else most


def _loads_ahead(candidate: Candidate, now: float) -> float:
    """Sum the remaining seconds of the server's loads in progress: loads are serial."""
    loading = candidate.facts.loading
    return sum(max(0.0, _load_of(candidate, model) - (now - since)) for model, since in loading.items())


def _load_of(candidate: Candidate, model: CanonicalName) -> float:
    found = candidate.facts.model(model)
    return reload_seconds(found.size if found is not None else candidate.size)


def _harm(candidate: Candidate, snapshot: FleetSnapshot) -> float:
    """Sum the reload seconds of the evicted models, each weighted by the probability of demand."""
    demand = snapshot.demand
    return sum(min(1.0, demand.get(name, 0.0) * _HORIZON) * seconds for name, seconds in candidate.victims)
