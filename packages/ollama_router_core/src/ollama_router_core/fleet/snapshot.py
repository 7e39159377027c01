"""Immutable snapshots of the fleet state.

Times are in seconds of the caller's monotonic clock; sizes are in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol

from msgspec import Struct

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.fleet.capacity import Capacity, HeldModel
from ollama_router_core.fleet.prefixes import HeldPrefix, Prefixes

__all__ = [
    "FleetSnapshot",
    "InstalledModel",
    "LoadOptions",
    "LoadedModel",
    "ModelFacts",
    "ServerFacts",
    "SuspendedModel",
    "stubs",
    "unloaded",
    "writes_text",
]

LoadOptions = frozenset[tuple[str, object]]
"""Options that a runner is started with, beside its context: `num_batch`, `num_gpu`, `shift` and the like."""

MLX = "safetensors"
"""The format of models that the MLX runner runs, one request at a time."""

EMPTY: Mapping[Any, Any] = MappingProxyType({})
"""The shared empty mapping."""


class ModelFacts(Struct, frozen=True, kw_only=True):
    """Architecture facts from `/api/show`, for the memory formulas.

    `head_counts_kv` has one entry per layer, or a single one for all. None means that the server did not report it.
    `weights` is the digest of the weights file, which derived names share; `adapters` are the digests of LoRA files,
    `num_ctx` the Modelfile's context in tokens.
    """

    architecture: str | None = None
    parameter_count: int | None = None
    block_count: int | None = None
    context_length: int | None = None
    embedding_length: int | None = None
    head_count: int | None = None
    head_counts_kv: tuple[int, ...] = ()
    key_length: int | None = None
    value_length: int | None = None
    sliding_window: int | None = None
    vocabulary: int | None = None
    capabilities: frozenset[str] | None = None
    expert_count: int | None = None
    expert_used_count: int | None = None
    ssm_conv_kernel: int | None = None
    ssm_inner_size: int | None = None
    ssm_state_size: int | None = None
    ssm_group_count: int | None = None
    weights: str | None = None
    adapters: tuple[str, ...] = ()
    num_ctx: int | None = None


class InstalledModel(Struct, frozen=True, kw_only=True):
    """A model that a server has on disk, from `/api/tags`.

    `spelling` is the name as that server writes it. `size` is the sum of its layers in bytes. `capabilities` is None
    if the server is too old to report them.
    """

    name: CanonicalName
    spelling: str
    size: int
    digest: str
    parameter_size: str | None = None
    quantization: str | None = None
    family: str | None = None
    format: str | None = None
    context_length: int | None = None
    capabilities: frozenset[str] | None = None
    remote_host: str | None = None
    facts: ModelFacts | None = None

    @property
    def is_mlx(self) -> bool:
        """Whether the MLX runner serves the model: it is keyed by manifest and ignores options."""
        return self.format == MLX

    @property
    def reported_capabilities(self) -> frozenset[str] | None:
        """The capabilities in `/api/show`, else those in `/api/tags`; None if the server reports none."""
        found = None if self.facts is None else self.facts.capabilities
        return self.capabilities if found is None else found


class LoadedModel(Struct, frozen=True, kw_only=True):
    """A model in a server's memory, from `/api/ps`.

    Sizes are bytes, `size_vram` the part of `size` that is in video memory. `expires_at` is seconds of the snapshot's
    clock, None when it never expires or is not known. `automatic` says whether Ollama chose the context by itself,
    `options` what else it was loaded with; None where another client may have loaded it.
    """

    name: CanonicalName
    size: int
    size_vram: int
    digest: str = ""
    context_length: int | None = None
    expires_at: float | None = None
    automatic: bool | None = None
    options: LoadOptions | None = None

    @property
    def held(self) -> int:
        """Bytes of the limiting memory: video memory, or main memory if it uses none."""
        return self.size_vram or self.size


class ServerFacts(Struct, frozen=True, kw_only=True):
    """One server's state.

    `up` is None until the first probe, `error` the reason why it is down, `probe_ms` the duration of the last probe.
    Names ending in `_at` are seconds of the snapshot's clock, except `loading_at`. `installed` is None until the
    server has reported its models.
    `loading` maps a model to when the router's traffic first started its load, `loading_at` to the context requested
    with that load, 0 if Ollama chooses it. `measured` has the memory of models when `/api/ps` last listed them, by
    model and context length. `automatic` has the contexts that Ollama chose. `on_cpu` has the shares of models in main
    memory, beside the GPUs, when `/api/ps` last listed them.
    `outdated` are runners of replaced files whose new version is loaded too: they only occupy memory. `missing_routes`
    are paths that this version of the server answered as unknown.
    `capacity` is the observed memory capacity. `noted` maps a model to when the router's traffic showed that it was
    loaded or unloaded, if that is newer than the latest report. `driven_out` are models unloaded during the load of
    another.
    """

    name: str
    up: bool | None = None
    error: str | None = None
    probe_ms: float | None = None
    probed_at: float | None = None
    version: str | None = None
    installed: Mapping[CanonicalName, InstalledModel] | None = None
    installed_at: float | None = None
    loaded: Mapping[CanonicalName, LoadedModel] = EMPTY
    loaded_at: float | None = None
    loading: Mapping[CanonicalName, float] = EMPTY
    loading_at: Mapping[CanonicalName, int] = EMPTY
    measured: Mapping[tuple[CanonicalName, int | None], int] = EMPTY
    on_cpu: Mapping[CanonicalName, float] = EMPTY
    capacity: Capacity = Capacity()
    automatic: Mapping[CanonicalName, int] = EMPTY
    outdated: tuple[LoadedModel, ...] = ()
    missing_routes: frozenset[str] = frozenset()
    noted: Mapping[CanonicalName, float] = EMPTY
    driven_out: Mapping[CanonicalName, HeldModel] = EMPTY

    def model(self, name: CanonicalName | None) -> InstalledModel | None:
        """Return a model on this server's disk; None if it lacks the model or never listed its models."""
        return self.installed.get(name) if self.installed and name is not None else None


class ModelSpeed(Struct, frozen=True, kw_only=True):
    """The expected speed of one model on one server.

    `load_seconds` is the time from disk to ready, `prefill_rate` and `decode_rate` are tokens a second,
    `answer_tokens` is the usual response length. `samples` is the number of finished requests behind it; 0 means an
    estimate from sizes.
    """

    load_seconds: float
    prefill_rate: float
    decode_rate: float
    answer_tokens: float
    samples: int = 0


class ModelWeight(Struct, frozen=True, kw_only=True):
    """The basis of a model's speed: weights in bytes, parameters, and the share of them that each token uses.

    `on_cpu` is the share in main memory, with the rest on GPUs.
    """

    size: float
    parameters: float
    active: float = 1.0
    on_cpu: float = 0.0


class Speeds(Protocol):
    """Learned speeds; see `speeds.SpeedBook`."""

    def expect(self, server: str, model: CanonicalName, weight: ModelWeight) -> ModelSpeed:
        """Return the expected speed of one model on one server."""

    def version(self, server: str) -> object:
        """Return an object that changes whenever something about this server is learned."""

    def answer_tokens(self, model: CanonicalName) -> float:
        """Return the mean response length in tokens, learned from all servers."""


class SuspendedModel(Struct, frozen=True):
    """A model suspended on a server until `until`; `words` is the server's error text."""

    until: float
    words: str


class FleetSnapshot(Struct, frozen=True, kw_only=True):
    """All servers at one time. Writers replace the snapshot; readers may keep an old one.

    `in_flight` counts the router's in-flight requests by server, `active` the same by server and model; `elsewhere`
    are those of `in_flight` that other processes of the router sent.
    `suspended` maps a server with an open circuit breaker to the time of the next attempt, `suspended_models` likewise
    by server and model. `slots` are limits below `max_concurrent` for servers that have just recovered. `parallel` are
    the learned slots of each loaded model, by server, and `proven` their lower bounds. `draining` servers get no new
    requests.
    `speeds` are learned from finished requests, `demand` is the recent requests a second of each model. `prefixes` are
    the conversations cached on servers; they are current, whatever the snapshot's age.

    Snapshots of the same servers should share one `servers` mapping, as decisions cache values derived from it.
    """

    servers: Mapping[str, ServerFacts] = EMPTY
    in_flight: Mapping[str, int] = EMPTY
    elsewhere: Mapping[str, int] = EMPTY
    active: Mapping[str, Mapping[CanonicalName, int]] = EMPTY
    suspended: Mapping[str, float] = EMPTY
    suspended_models: Mapping[str, Mapping[CanonicalName, SuspendedModel]] = EMPTY
    slots: Mapping[str, int] = EMPTY
    parallel: Mapping[str, int] = EMPTY
    proven: Mapping[str, int] = EMPTY
    draining: frozenset[str] = frozenset()
    speeds: Speeds | None = None
    demand: Mapping[CanonicalName, float] = EMPTY
    prefixes: Prefixes | None = None

    def held(self, conversation: int | None) -> HeldPrefix | None:
        """Return the server that has a conversation's prompt cached now, None if none has."""
        return None if conversation is None or self.prefixes is None else self.prefixes.of(conversation)

    def with_traffic(
        self,
        in_flight: Mapping[str, int],
        active: Mapping[str, Mapping[CanonicalName, int]],
        demand: Mapping[CanonicalName, float],
    ) -> FleetSnapshot:
        """Return the snapshot with this process's counts replaced; written out, as it runs for every request."""
        if self.elsewhere:
            names = in_flight.keys() | self.elsewhere.keys()
            in_flight = {name: in_flight.get(name, 0) + self.elsewhere.get(name, 0) for name in names}
        return FleetSnapshot(
            servers=self.servers,
            in_flight=in_flight,
            elsewhere=self.elsewhere,
            active=active,
            suspended=self.suspended,
            suspended_models=self.suspended_models,
            slots=self.slots,
            parallel=self.parallel,
            proven=self.proven,
            draining=self.draining,
            speeds=self.speeds,
            demand=demand,
            prefixes=self.prefixes,
        )


def stubs(servers: Mapping[str, ServerFacts]) -> frozenset[CanonicalName]:
    """Return the models that any server has as a stub of Ollama's hosted service."""
    known = [row for facts in servers.values() if facts.installed for row in facts.installed.values()]
    return frozenset([row.name for row in known if row.remote_host is not None])


def writes_text(servers: Mapping[str, ServerFacts], model: CanonicalName | None) -> bool:
    """Return whether any server reports that a model can generate text."""
    rows = [facts.model(model) for facts in servers.values()]
    reported = [(row.facts and row.facts.capabilities) or row.capabilities or () for row in rows if row is not None]
    return any("completion" in capabilities for capabilities in reported)


def unloaded(
    before: Mapping[CanonicalName, LoadedModel], after: Mapping[CanonicalName, LoadedModel]
) -> list[CanonicalName]:
    """List the models that were unloaded, or reloaded with another context."""
    found = []
    for model, old in before.items():
        new = after.get(model)
        if new is None or len({old.context_length, new.context_length} - {None}) > 1:
            found.append(model)
    return found
