"""Small builders of configs, fleet facts and requests for routing tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.config.settings import Config
from ollama_router_core.fleet.snapshot import FleetSnapshot, InstalledModel, LoadedModel, ModelFacts, ServerFacts

GIB = 1024**3

LLAMA_8B = ModelFacts(
    architecture="llama", block_count=32, context_length=131_072, embedding_length=4096, head_count=32,
    head_counts_kv=(8,), vocabulary=128_256,
)  # fmt: skip
LLAMA_70B = ModelFacts(
    architecture="llama", block_count=80, context_length=131_072, embedding_length=8192, head_count=64,
    head_counts_kv=(8,), vocabulary=128_256,
)  # fmt: skip
SIZE_8B = 4_920_753_328
SIZE_70B = 42_520_413_916


def make_config(servers: Mapping[str, Mapping[str, Any]], **settings: Any) -> Config:
    """A config whose servers get a host of their own name."""
    written = {name: {"host": name, **fields} for name, fields in servers.items()}
    return Config.model_validate({"servers": written, **settings})


def installed(name: str, size: int = 4 * GIB, **fields: Any) -> InstalledModel:
    """A model on disk."""
    return InstalledModel(name=canonical_name(name), spelling=name, size=size, digest=f"sha256:{name}", **fields)


def loaded(name: str, size: int = 4 * GIB, **fields: Any) -> LoadedModel:
    """A model in memory, all of it on the GPU."""
    return LoadedModel(name=canonical_name(name), size=size, size_vram=size, **fields)


def make_facts(
    name: str, models: tuple[InstalledModel, ...] | None = (), held: tuple[LoadedModel, ...] = (), **fields: Any
) -> ServerFacts:
    """A server that is up; `models` None means that its list is not known."""
    return ServerFacts(
        name=name,
        installed=None if models is None else {model.name: model for model in models},
        loaded={model.name: model for model in held},
        **{"up": True, **fields},
    )


def make_fleet(*servers: ServerFacts, **fields: Any) -> FleetSnapshot:
    """A snapshot of these servers."""
    return FleetSnapshot(servers={facts.name: facts for facts in servers}, **fields)


def make_request(model: str | None = "llama3.1:8b", **fields: Any) -> RouteRequest:
    """A request for a model; None for a route without one."""
    return RouteRequest(model_text=model, model=None if model is None else canonical_name(model), **fields)
