"""Servers from the view of one kind of request: settings, facts and estimates, derived once and cached."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from ollama_router_core.api.endpoints import Versions
from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.config.settings import Config, Server
from ollama_router_core.fleet.capacity import Room
from ollama_router_core.fleet.memory.estimates import (
    MemoryEstimate,
    estimate_memory,
    gpus_there,
    known_model,
    memory_limit,
)
from ollama_router_core.fleet.memory.formulas import GIB
from ollama_router_core.fleet.memory.placement import share_on_cpu
from ollama_router_core.fleet.runners import Load, explicit_context, misfit, runner_names, runner_of
from ollama_router_core.fleet.slots import configured_slots
from ollama_router_core.fleet.snapshot import (
    FleetSnapshot,
    InstalledModel,
    LoadedModel,
    LoadOptions,
    ModelSpeed,
    ModelWeight,
    ServerFacts,
    Speeds,
)
from ollama_router_core.fleet.speeds import SpeedBook, model_weight

__all__ = [
    "COLD",
    "EVICTS",
    "PARTLY",
    "RESPONSIVE",
    "SLOW",
    "UNLISTED",
    "WARM",
    "Candidate",
    "Fit",
    "Reason",
    "RequestKind",
    "kind_of",
    "make_candidate",
    "reload_seconds",
]

WARM, COLD, EVICTS = 0, 1, 2
"""Warmth of a model: loaded or loading, loadable beside the others, loadable only by evicting others."""

Fit = Literal["loaded", "fits", "evicts", "partly_on_cpu", "too_large"]
"""How a model fits a server: loaded, has room, needs evictions, fits the GPUs only in part, or does not fit."""

RESPONSIVE, SLOW, PARTLY, UNLISTED = 0, 1, 2, 3
"""Health tiers, best first: a server of a worse tier is chosen only if no better one is left."""

_NOTHING_LEARNED = SpeedBook()
_DRIFT = 0.02
"""Relative change of the mean response length that recomputes speeds: every finished request changes it slightly."""


class Reason(Struct, frozen=True):
    """A reason: a stable code for programs, a text for people; `lacks` names missing capabilities."""

    code: str
    text: str
    lacks: frozenset[str] = frozenset()


class RequestKind(NamedTuple):
    """The properties of a request that candidates depend on: equal kinds have equal candidates."""

    model: CanonicalName | None
    num_ctx: int | None
    needs: frozenset[str]
    load_options: LoadOptions = frozenset()
    versions: Versions | None = None
    pin: str | None = None


def kind_of(request: RouteRequest) -> RequestKind:
    """Return a request's kind."""
    return RequestKind(
        request.model, request.num_ctx, request.needs, request.load_options, request.versions, request.pin
    )


@dataclass(slots=True, kw_only=True, eq=False)
class Candidate:
    """One server from the view of a kind of request.

    `model` is the requested model. `limit` is the maximum bytes of a model here, None without a limit; the part beyond
    `vram`, the limit of the GPUs, runs on the CPU. `warmth` is WARM, COLD or EVICTS, with the text in `warm_reason`.
    `loaded` is the loaded model at any context, `others` the other loaded models with their sizes; `room` is the memory
    beside them. `victims` are the models to evict, each with its reload time in seconds. `health_tier` is RESPONSIVE,
    SLOW (its last probe took longer than `server_busy_threshold_ms`), PARTLY (the model must be loaded and only a part
    of it fits the GPUs) or UNLISTED (it never listed its models and may be another program). `index` is the server's
    position among all configured servers by name, `salt` a hash of its name for tie-breaking. `slots` are the
    configured slots of the model's runner, `runner` the model names that the runner serves.
    """

    name: str
    model: CanonicalName | None
    server: Server
    facts: ServerFacts
    estimate: MemoryEstimate
    limit: int | None
    vram: int | None
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
    slots: int | None
    runner: tuple[CanonicalName, ...]
    _speed: ModelSpeed | None = field(default=None, repr=False)
    _version: Any = field(default=None, repr=False)
    _book: Any = field(default=None, repr=False)

    @property
    def fit(self) -> Fit:
        """How the model fits; a loaded model fits whatever its limit."""
        if self.warmth == WARM:
            return "loaded"
        if self.limit is not None and self.size > self.limit:
            return "too_large"
        if self.health_tier == PARTLY:
            return "partly_on_cpu"
        return "evicts" if self.warmth == EVICTS else "fits"

    @property
    def free(self) -> int | None:
        """Free bytes of video memory beside the other loaded models; None if the limit is unknown."""
        return max(0, self.room.limit - sum([one.held for one in self.others])) if self.room.is_known else None

    def speed(self, model: CanonicalName | None, speeds: Speeds | None) -> ModelSpeed:
        """Return the model's expected speeds here, recomputed only if the learned data changed."""
        book = speeds if speeds is not None else _NOTHING_LEARNED
        known = self._speed
        if known is None or (book is not self._book and self._has_changed(known, book, model or CanonicalName(""))):
            known = self._speed = book.expect(self.name, model or CanonicalName(""), self.weight)
            self._version = book.version(self.name)
        self._book = book
        return known

    def _has_changed(self, known: ModelSpeed, book: Speeds, model: CanonicalName) -> bool:
        """Whether something about this server was learned, or the mean response length changed."""
        if book.version(self.name) is not self._version:
            return True
        return abs(book.answer_tokens(model) - known.answer_tokens) > _DRIFT * known.answer_tokens


def make_candidate(
    name: str, kind: RequestKind, snapshot: FleetSnapshot, config: Config, *, index: int = 0
) -> Candidate:
    """Build the candidate of a configured server for a kind of request."""
    facts = snapshot.servers.get(name) or ServerFacts(name=name)
    server = config.servers[name]
    vram = memory_limit(server)
    loaded = None if kind.model is None else runner_of(facts, kind.model)
    running = (*facts.loaded.values(), *facts.outdated)
    others = tuple([_sized(one, snapshot, facts, config, server) for one in running if one is not loaded])
    estimate = estimate_memory(
        kind.model, facts, snapshot, config.models, num_ctx=kind.num_ctx, host=server, beside=others
    )
    size, held = estimate.size, sum([one.held for one in others])
    room = facts.capacity.room(vram, max_models=server.max_loaded_models, gpus=len(server.gpus or (0.0,)))
    fits = room.fits(size, held, len(others))
    free = room.limit - held if room.is_known else None
    installed = None if kind.model is None else known_model(kind.model, facts, snapshot.servers.values())
    warmth, reason = _warmth(kind, facts, server, loaded, fits=fits, free=free, gpus=gpus_there(size, server, others))
    on_cpu = share_on_cpu(facts, loaded) if loaded is not None else _foreseen_on_cpu(kind, facts, size, vram)
    return Candidate(
        name=name,
        model=kind.model,
        server=server,
        facts=facts,
        estimate=estimate,
        limit=None if vram is None else vram + round(server.system_memory_gb * GIB),
        vram=vram,
        installed=facts.model(kind.model),
        loaded=loaded,
        warmth=warmth,
        warm_reason=reason,
        loading_since=None if kind.model is None else facts.loading.get(kind.model),
        weight=model_weight(kind.model or "", installed, on_cpu=on_cpu),
        size=size,
        others=others,
        room=room,
        health_tier=_health_tier(kind, facts, config, partly=_is_partly(server, on_cpu, warmth)),
        victims=_victims(others, room, size),
        index=index,
        salt=zlib.crc32(name.encode()),
        slots=configured_slots(installed, server),
        runner=() if kind.model is None else runner_names(facts, kind.model),
    )


def reload_seconds(size: int) -> float:
    """Estimate the seconds of loading `size` bytes on a server without learned speeds."""
    return 0.5 + size / 1.5e9


def _foreseen_on_cpu(kind: RequestKind, facts: ServerFacts, size: int, vram: int | None) -> float:
    """Return the expected share on the CPU, at least that of the model's last load there."""
    beyond = 0.0 if vram is None or size <= vram else 1.0 - vram / size
    return beyond if kind.model is None else max(beyond, facts.on_cpu.get(kind.model, 0.0))


def _is_partly(server: Server, on_cpu: float, warmth: int) -> bool:
    """Whether the server may load models partly to the CPU, and would load this one so."""
    return on_cpu > 0 and warmth != WARM and server.system_memory_gb > 0


def _health_tier(kind: RequestKind, facts: ServerFacts, config: Config, *, partly: bool) -> int:
    if kind.model is not None and facts.installed is None and kind.model not in facts.loaded:
        return UNLISTED
    if partly:
        return PARTLY
    return SLOW if facts.probe_ms is not None and facts.probe_ms > config.server_busy_threshold_ms else RESPONSIVE


def _sized(
    one: LoadedModel, snapshot: FleetSnapshot, facts: ServerFacts, config: Config, server: Server
) -> LoadedModel:
    """Fill in the estimated size of a loaded model that `/api/ps` has not reported yet."""
    if one.size:
        return one
    estimate = estimate_memory(one.name, facts, snapshot, config.models, num_ctx=one.context_length, host=server)
    return replace(one, size=estimate.size, size_vram=estimate.size)


def _victims(others: tuple[LoadedModel, ...], room: Room, size: int) -> tuple[tuple[CanonicalName, float], ...]:
    """Choose the models to evict, next to expire first, until there is room."""
    victims: list[tuple[CanonicalName, float]] = []
    held, count = sum([one.held for one in others]), len(others)
    for model in sorted(others, key=lambda one: (one.expires_at or float("inf"), one.name)):
        if room.fits(size, held, count):
            break
        held, count = held - model.held, count - 1
        victims.append((model.name, reload_seconds(model.size)))
    return tuple(victims)


def _warmth(
    kind: RequestKind,
    facts: ServerFacts,
    server: Server,
    loaded: LoadedModel | None,
    *,
    fits: bool,
    free: int | None,
    gpus: int,
) -> tuple[int, Reason]:
    load = Load(kind.num_ctx, kind.load_options)
    if loaded is not None and kind.model is not None:
        return _reloaded(misfit(facts, kind.model, loaded, load, server.default_context), kind.model, loaded)
    if kind.model is not None and kind.model in facts.loading:
        context = explicit_context(facts.model(kind.model), kind.num_ctx, server.default_context)
        coming = facts.loading_at.get(kind.model) or None
        if context is None or coming is None or coming == context:
            return WARM, Reason("loading", "is loading it now")
        return COLD, Reason("reload", f"is loading it at {coming} tokens, must reload for {context}")
    if fits:
        return COLD, Reason(
            "cold", f"not loaded, fits beside the loaded models{f', split over {gpus} GPUs' * (gpus > 1)}"
        )
    held = f"{len(facts.loaded)} models loaded" if free is None else f"{max(free, 0) / GIB:.1f} GiB free"
    return EVICTS, Reason("evicts", f"not loaded, must evict: {held}")


def _reloaded(needed: str | None, model: CanonicalName, loaded: LoadedModel) -> tuple[int, Reason]:
    """Rate a runner loaded under this name or one with the same weights: usable as it is, or to be reloaded."""
    at = f" at {loaded.context_length} tokens" if loaded.context_length else ""
    by = "" if loaded.name == model else f" as {loaded.name}"
    if needed is None:
        return WARM, Reason("loaded", f"loaded{by}{at}")
    return COLD, Reason("reload", f"loaded{by}{at}, must reload for {needed}")
