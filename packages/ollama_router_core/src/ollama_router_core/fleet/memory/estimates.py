"""The memory estimate of one model on one server: the most trusted source wins, and every term names its source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from ollama_router_core.api.model_names import CanonicalName, canonical_name
from ollama_router_core.config.destination_settings import KvCacheType
from ollama_router_core.config.linear_patterns import linear_pattern
from ollama_router_core.config.settings import ModelSettings, Server
from ollama_router_core.fleet.memory.formulas import (
    GIB,
    GPU_MINIMUM,
    KV_BYTES,
    compute_buffer_size,
    effective_context,
    kv_cache_size,
)
from ollama_router_core.fleet.memory.names import parse_size_from_name
from ollama_router_core.fleet.memory.placement import gpus_for, place_models
from ollama_router_core.fleet.runners import explicit_context, runner_of
from ollama_router_core.fleet.slots import parallel_slots
from ollama_router_core.fleet.snapshot import FleetSnapshot, InstalledModel, LoadedModel, ModelFacts, ServerFacts

__all__ = [
    "MemoryEstimate",
    "MemorySource",
    "MemoryTerm",
    "automatic_contexts",
    "computed_memory",
    "context_tiers",
    "estimate_memory",
    "gpu_sizes",
    "gpus_there",
    "known_model",
    "measured_memory",
    "memory_limit",
    "placed_memory",
]

_TIERS = ((47, 262_144), (23, 32_768), (0, 4096))
"""Total GiB of the GPUs and the context that Ollama chooses from there; it falls to the next that fits."""


class MemorySource(StrEnum):
    """Sources of an estimate, most trusted first."""

    OVERRIDE = "override"
    MEASURED = "ps"
    SHOW = "show"
    TAGS = "tags"
    NAME = "name"
    PATTERN = "pattern"
    DEFAULT = "default"


class MemoryTerm(Struct, frozen=True, kw_only=True):
    """One addend: its name, bytes and source."""

    name: str
    size: int
    source: str


class MemoryEstimate(Struct, frozen=True, kw_only=True):
    """The bytes that a model needs, as a sum of terms."""

    source: MemorySource
    terms: tuple[MemoryTerm, ...]

    @property
    def size(self) -> int:
        """The sum of the terms, in bytes."""
        return sum(term.size for term in self.terms)

    @property
    def gib(self) -> float:
        """The sum of the terms, in GiB."""
        return self.size / GIB

    def __str__(self) -> str:
        if len(self.terms) == 1:
            return f"{self.gib:.1f} GiB ({self.terms[0].source})"
        parts = " + ".join(_term_text(term) for term in self.terms)
        return f"{self.gib:.1f} GiB = {parts}"


def _term_text(term: MemoryTerm) -> str:
    source = f" ({term.source})" if term.source else ""
    return f"{term.size / GIB:.1f} {term.name}{source}"


def estimate_memory(
    model: CanonicalName | None,
    server: ServerFacts,
    fleet: FleetSnapshot,
    settings: ModelSettings,
    *,
    num_ctx: int | None = None,
    host: Server | None = None,
    beside: Sequence[LoadedModel] = (),
) -> MemoryEstimate:
    """Estimate a model's memory on a server: override, then measured, computed, reported, named, matched, assumed.

    `num_ctx` is the requested context in tokens, `host` the server's settings: default context, slots, KV cache type,
    overhead and GPUs. A model that no single GPU can hold `beside` the other loaded models is split over all GPUs.
    Measured values are the video memory that `/api/ps` reports, or the main memory if the model uses none. A request
    without a model gets the default. All sizes are bytes; `MemorySource` has the order of trust, `memory.formulas` the
    formulas with their sources.
    """
    if model is None:
        return _single(MemorySource.DEFAULT, round(settings.default_memory_gb * GIB))
    override = _override(model, settings.memory_overrides)
    if override is not None:
        return _single(MemorySource.OVERRIDE, round(override * GIB))
    installed = _with_facts(known_model(model, server, fleet.servers.values()), fleet.servers.values())
    wanted = explicit_context(installed, num_ctx, host.default_context if host is not None else None)
    measured = _measured(model, server, installed, wanted, host)
    if measured is not None:
        return measured
    if installed is not None and installed.size > 0:
        contexts = (wanted,) if wanted is not None else automatic_contexts(server, model, host)
        return _largest(installed, contexts, host, beside)
    return _from_text(model, settings)


def automatic_contexts(server: ServerFacts, model: CanonicalName, host: Server | None) -> tuple[int, ...]:
    """Return the contexts in tokens that Ollama tries without an explicit one, largest first.

    A context that Ollama was seen to choose is the only one; otherwise they depend on the configured memory, and
    without that only the smallest is returned.
    """
    seen = server.automatic.get(model)
    if seen is not None:
        return (seen,)
    total = 0.0 if host is None else _usable_gib(host)
    return context_tiers(total)


def context_tiers(gib: float) -> tuple[int, ...]:
    """Return the contexts in tokens that Ollama tries with `gib` of memory, largest first."""
    return tuple(context for least, context in _TIERS if gib >= least) or (_TIERS[-1][1],)


def _usable_gib(host: Server) -> float:
    """Return the GiB by which Ollama chooses a context: all GPUs without the overhead of each."""
    gpus = host.gpus or (host.max_memory_gb or 0.0,)
    return sum(gpus) - host.gpu_overhead_gb * len(gpus)


def memory_limit(host: Server) -> int | None:
    """Return the memory limit of models on a server in bytes, None if neither a limit nor GPUs are configured."""
    gib = host.max_memory_gb if host.max_memory_gb is not None else sum(host.gpus or ()) or None
    return None if gib is None else round(gib * GIB)


def gpu_sizes(host: Server | None) -> tuple[int, ...]:
    """Return the bytes of each of a server's GPUs, empty if not configured."""
    return tuple([round(gib * GIB) for gib in host.gpus]) if host is not None and host.gpus else ()


def _largest(
    installed: InstalledModel, contexts: Sequence[int], host: Server | None, beside: Sequence[LoadedModel]
) -> MemoryEstimate:
    """Return the estimate for the first context that fits the server, or for the last one if none does."""
    limit = None if host is None else memory_limit(host)
    estimates = (placed_memory(installed, context, host, beside) for context in contexts)
    found = placed_memory(installed, contexts[-1], host, beside)
    return next((one for one in estimates if limit is not None and one.size <= limit), found)


def placed_memory(
    installed: InstalledModel, num_ctx: int, host: Server | None, beside: Sequence[LoadedModel] = ()
) -> MemoryEstimate:
    """Compute as `computed_memory` does, with buffers on every GPU that the model is split over."""
    found = computed_memory(installed, num_ctx, host)
    count = 1 if host is None else gpus_there(found.size, host, beside)
    return found if count == 1 else computed_memory(installed, num_ctx, host, gpus=count)


def gpus_there(size: int, host: Server, beside: Sequence[LoadedModel]) -> int:
    """Return the number of a server's GPUs that a model of `size` bytes would use, 1 if unknown."""
    sizes, spread = gpu_sizes(host), host.sched_spread
    return gpus_for(size, place_models(sizes, beside, spread=spread).free, spread=spread) if len(sizes) > 1 else 1


def _single(source: MemorySource, size: int) -> MemoryEstimate:
    name = "measured" if source is MemorySource.MEASURED else "weights"
    return MemoryEstimate(source=source, terms=(MemoryTerm(name=name, size=size, source=str(source)),))


def _override(model: CanonicalName, overrides: Mapping[str, float]) -> float | None:
    return next((gib for text, gib in overrides.items() if canonical_name(text) == model), None)


def known_model(model: CanonicalName, server: ServerFacts, others: Iterable[ServerFacts]) -> InstalledModel | None:
    """Return the model as this server has it; else the largest that another server has under this name."""
    own = server.model(model)
    if own is not None:
        return own
    found = [facts.installed[model] for facts in others if facts.installed and model in facts.installed]
    return max(found, key=lambda one: (one.size, one.digest), default=None)


def _with_facts(installed: InstalledModel | None, others: Iterable[ServerFacts]) -> InstalledModel | None:
    """Add a model's architecture from another server with the same digest, if this one's is unknown."""
    if installed is None or installed.facts is not None:
        return installed
    for server in others:
        found = server.model(installed.name)
        if found is not None and found.facts is not None and found.digest == installed.digest:
            return replace(installed, facts=found.facts)
    return installed


def _measured(
    model: CanonicalName,
    server: ServerFacts,
    installed: InstalledModel | None,
    wanted: int | None,
    host: Server | None,
) -> MemoryEstimate | None:
    """Return the size from `/api/ps`, current or earlier; correct it by the KV cache for another context."""
    loaded = runner_of(server, model)
    if loaded is not None and loaded.size > 0 and wanted is not None and loaded.context_length not in {None, wanted}:
        return _corrected(loaded, installed.facts if installed is not None else None, wanted, host)
    found = measured_memory(server, model, wanted or server.automatic.get(model))
    return None if found is None else _single(MemorySource.MEASURED, found)


def measured_memory(server: ServerFacts, model: CanonicalName, context: int | None) -> int | None:
    """Return the bytes from `/api/ps` at a context in tokens (None for any), current or of the last load.

    The MLX runner's memory grows with use, so its maximum counts.
    """
    loaded, earlier = runner_of(server, model), server.measured.get((model, context))
    if loaded is None or loaded.size <= 0 or (context is not None and loaded.context_length not in {None, context}):
        return earlier
    installed = server.model(model)
    grows = installed is not None and installed.is_mlx
    return max(loaded.held, earlier or 0) if grows else loaded.held


def _corrected(
    loaded: LoadedModel, facts: ModelFacts | None, wanted: int, host: Server | None
) -> MemoryEstimate | None:
    if facts is None or loaded.context_length is None:
        return None
    now, then = _kv(facts, wanted, host), _kv(facts, loaded.context_length, host)
    if now is None or then is None:
        return None
    text = f"KV at {wanted} instead of {loaded.context_length} tokens"
    terms = (
        MemoryTerm(name="measured", size=loaded.held, source=str(MemorySource.MEASURED)),
        MemoryTerm(name=text, size=now - then, source=str(MemorySource.SHOW)),
    )
    return MemoryEstimate(source=MemorySource.MEASURED, terms=terms)


def _kv(facts: ModelFacts, context: int, host: Server | None) -> int | None:
    parallel = parallel_slots(facts, host)
    return kv_cache_size(facts, context, parallel=parallel, element_bytes=KV_BYTES[_kv_type(host)])


def _kv_type(host: Server | None) -> KvCacheType:
    """Return the KV cache type in effect: without flash attention Ollama does not quantise the cache."""
    return "f16" if host is None or not host.flash_attention else host.kv_cache_type


def computed_memory(installed: InstalledModel, num_ctx: int, host: Server | None, *, gpus: int = 1) -> MemoryEstimate:
    """Compute weights, KV cache and scratch buffers; the weights alone if the architecture is unknown.

    `gpus` is the number of GPUs that the model is split over, each with its own buffers.
    """
    facts = installed.facts
    weights = MemoryTerm(name="weights", size=installed.size, source=str(MemorySource.TAGS))
    if facts is None:
        return MemoryEstimate(source=MemorySource.TAGS, terms=(weights,))
    context = effective_context(facts, num_ctx)
    kv = _kv(facts, context, host)
    parallel, flash = parallel_slots(facts, host), host.flash_attention if host is not None else True
    compute = compute_buffer_size(facts, context, parallel=parallel, flash_attention=flash)
    if kv is None or compute is None:
        return MemoryEstimate(source=MemorySource.TAGS, terms=(weights,))
    overhead = round(host.gpu_overhead_gb * GIB) if host is not None else 0
    cache = f"KV {_kv_type(host)} at {_context_text(context, parallel)}"
    terms = (
        weights,
        MemoryTerm(name=cache, size=kv, source=str(MemorySource.SHOW)),
        MemoryTerm(
            name="compute" if gpus == 1 else f"compute on {gpus} GPUs",
            size=gpus * (compute + GPU_MINIMUM + overhead),
            source="",
        ),
    )
    return MemoryEstimate(source=MemorySource.SHOW, terms=terms)


def _context_text(context: int, parallel: int) -> str:
    tokens = f"{context // 1024}k" if context % 1024 == 0 else f"{context}"
    return f"{tokens} x {parallel}" if parallel > 1 else tokens


def _from_text(model: CanonicalName, settings: ModelSettings) -> MemoryEstimate:
    named = parse_size_from_name(model)
    if named is not None:
        return _single(MemorySource.NAME, named)
    for row in settings.memory_patterns:
        if linear_pattern(row.pattern).search(model):
            return _single(MemorySource.PATTERN, round(row.memory_gb * GIB))
    return _single(MemorySource.DEFAULT, round(settings.default_memory_gb * GIB))
