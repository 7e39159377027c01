"""Servers as one kind of request sees them: settings, facts and estimates, derived once and kept."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from msgspec import Struct

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.config.settings import Config, Server
from ollama_router_core.fleet.capacity import Room
from ollama_router_core.fleet.memory import GIB, MemoryEstimate, context_on, estimate_memory, known_model
from ollama_router_core.fleet.snapshot import (
    FleetSnapshot,
    InstalledModel,
    LoadedModel,
    ModelSpeed,
    ModelWeight,
    ServerFacts,
    Speeds,
)
from ollama_router_core.fleet.speeds import SpeedBook, model_weight

__all__ = [
    "COLD",
    "EVICTS",
    "RESPONSIVE",
    "SLOW",
    "UNLISTED",
    "WARM",
    "Candidate",
    "Reason",
    "RequestKind",
    "kind_of",
    "make_candidate",
    "reload_seconds",
]

WARM, COLD, EVICTS = 0, 1, 2
"""How far a model is from running: loaded or loading, loadable beside the others, only in place of others."""

RESPONSIVE, SLOW, UNLISTED = 0, 1, 2
"""Health tiers, best first: a server of a worse tier is chosen only when no better one is left."""

_NOTHING_LEARNED = SpeedBook()


class Reason(Struct, frozen=True):
    """Why: a stable code for programs, a text for people; `lacks` names the capabilities that are missing."""

    code: str
    text: str
    lacks: frozenset[str] = frozenset()


class RequestKind(NamedTuple):
    """What a candidate depends on: requests that agree in this see the same candidates."""

    model: CanonicalName | None
    num_ctx: int | None
    needs: frozenset[str]


def kind_of(request: RouteRequest) -> RequestKind:
    """A request's kind."""
    return RequestKind(request.model, request.num_ctx, request.needs)


@dataclass(slots=True, kw_only=True, eq=False)
class Candidate:
    """One server as a kind of request sees it.

    `model` is what is asked for. `limit` is `max_memory_gb` in bytes, None without one. `warmth` is WARM, COLD or
    EVICTS and `warm_reason` says it in words. `loaded` is the model there with whatever context, `others` what else is
    loaded there, each with its size; `room` says what fits beside them. `victims` are the models that would have to go,
    each with the seconds of its reload. `health_tier` is RESPONSIVE, SLOW (its last probe took longer than
    `server_busy_threshold_ms`) or UNLISTED (it never listed its models: it may be another program). `index` is the
    server's position among all configured servers by name, `salt` a hash of its name that tie-breaking mixes.
    """

    name: str
    model: CanonicalName | None
    server: Server
    facts: ServerFacts
    estimate: MemoryEstimate
    limit: int | None
    installed: InstalledModel | None
    loaded: LoadedModel | None
    warmth: int
    warm_reason: Reason
    loading_since: float | None
    weight: ModelWeight
    size: int
    others: tuple[LoadedModel, ...]
    room: Room
    health_tier: int
    victims: tuple[tuple[CanonicalName, float], ...]
    index: int
    salt: int
    _speed: ModelSpeed | None = field(default=None, repr=False)
    _version: Any = field(default=None, repr=False)

    def speed(self, model: CanonicalName | None, speeds: Speeds | None) -> ModelSpeed:
        """The model's expected speeds here; worked out anew only when something was learned about this server."""
        book = speeds if speeds is not None else _NOTHING_LEARNED
        version = book.version(self.name)
        if self._speed is None or version is not self._version:
            self._speed = book.expect(self.name, model or CanonicalName(""), self.weight)
            self._version = version
        return self._speed


def make_candidate(
    name: str, kind: RequestKind, snapshot: FleetSnapshot, config: Config, *, index: int = 0
) -> Candidate:
    """A server of the config as a kind of request sees it."""
    facts = snapshot.servers.get(name) or ServerFacts(name=name)
    server = config.servers[name]
    estimate = estimate_memory(kind.model, facts, snapshot, config.models, num_ctx=kind.num_ctx, host=server)
    limit = None if server.max_memory_gb is None else round(server.max_memory_gb * GIB)
    loaded = None if kind.model is None else facts.loaded.get(kind.model)
    size = estimate.size
    others = tuple([_sized(one, snapshot, facts, config, server) for one in facts.loaded.values() if one is not loaded])
    room = facts.capacity.room(limit)
    held = sum([one.size for one in others])
    fits = room.fits(size, held, len(others))
    free = room.limit - held if room.is_known else None
    installed = None if kind.model is None else known_model(kind.model, facts, snapshot.servers.values())
    warmth, reason = _warmth(kind, facts, loaded, _context(kind, server, installed), fits=fits, free=free)
    return Candidate(
        name=name,
        model=kind.model,
        server=server,
        facts=facts,
        estimate=estimate,
        limit=limit,
        installed=None if facts.installed is None or kind.model is None else facts.installed.get(kind.model),
        loaded=loaded,
        warmth=warmth,
        warm_reason=reason,
        loading_since=None if kind.model is None else facts.loading.get(kind.model),
        weight=model_weight(kind.model or "", installed),
        size=size,
        others=others,
        room=room,
        health_tier=_health_tier(kind, facts, config),
        victims=_victims(others, room, size),
        index=index,
        salt=zlib.crc32(name.encode()),
    )


def reload_seconds(size: int) -> float:
    """A guess at how long bytes take from disk to GPU on a server of which nothing is known."""
    return 0.5 + size / 1.5e9


def _health_tier(kind: RequestKind, facts: ServerFacts, config: Config) -> int:
    if kind.model is not None and facts.installed is None and kind.model not in facts.loaded:
        return UNLISTED
    return SLOW if facts.probe_ms is not None and facts.probe_ms > config.server_busy_threshold_ms else RESPONSIVE


def _sized(
    one: LoadedModel, snapshot: FleetSnapshot, facts: ServerFacts, config: Config, server: Server
) -> LoadedModel:
    """A loaded model with its size: one that was seen to answer is measured only when the server is asked next."""
    if one.size:
        return one
    estimate = estimate_memory(one.name, facts, snapshot, config.models, num_ctx=one.context_length, host=server)
    return replace(one, size=estimate.size)


def _victims(others: tuple[LoadedModel, ...], room: Room, size: int) -> tuple[tuple[CanonicalName, float], ...]:
    """Who goes: the model that would expire first, then the next, until there is room."""
    victims: list[tuple[CanonicalName, float]] = []
    held, count = sum([one.size for one in others]), len(others)
    for model in sorted(others, key=lambda one: (one.expires_at or float("inf"), one.name)):
        if room.fits(size, held, count):
            break
        held, count = held - model.size, count - 1
        victims.append((model.name, reload_seconds(model.size)))
    return tuple(victims)


def _context(kind: RequestKind, server: Server, installed: InstalledModel | None) -> int | None:
    """The context the request would get, None when the server chooses by itself."""
    if kind.num_ctx is None and server.default_context is None:
        return None
    return context_on(server, kind.num_ctx, installed.facts if installed is not None else None)


def _warmth(
    kind: RequestKind,
    facts: ServerFacts,
    loaded: LoadedModel | None,
    context: int | None,
    *,
    fits: bool,
    free: int | None,
) -> tuple[int, Reason]:
    if loaded is not None and (context is None or loaded.context_length in {None, context}):
        at = f" at {loaded.context_length} tokens" if loaded.context_length else ""
        return WARM, Reason("loaded", f"loaded{at}")
    if kind.model is not None and kind.model in facts.loading:
        coming = facts.loading_at.get(kind.model)
        if context is None or coming is None or coming == context:
            return WARM, Reason("loading", "is loading it now")
        return COLD, Reason("reload", f"is loading it at {coming} tokens, must reload for {context}")
    if loaded is not None:
        return COLD, Reason("reload", f"loaded at {loaded.context_length} tokens, must reload for {context}")
    if fits:
        return COLD, Reason("cold", "not loaded, fits beside what is")
    held = f"{len(facts.loaded)} models loaded" if free is None else f"{max(free, 0) / GIB:.1f} GiB free"
    return EVICTS, Reason("evicts", f"not loaded, must evict: {held}")
