"""The memory that a model needs on a server, with the source of each number.

All sizes are bytes; GiB means 1024^3 bytes.
"""

from __future__ import annotations

from ollama_router_core.fleet.memory.estimates import (
    MemoryEstimate,
    MemorySource,
    MemoryTerm,
    automatic_contexts,
    context_tiers,
    estimate_memory,
    gpu_sizes,
    gpus_there,
    known_model,
    measured_memory,
    memory_limit,
)
from ollama_router_core.fleet.memory.forecasts import MemoryForecast, forecast_memory
from ollama_router_core.fleet.memory.formulas import (
    GIB,
    KV_BYTES,
    compute_buffer_size,
    effective_context,
    kv_cache_size,
    predicted_vram,
)
from ollama_router_core.fleet.memory.names import parse_active_parameters, parse_size_from_name
from ollama_router_core.fleet.memory.placement import Placed, Placement, gpus_for, place_models, share_on_cpu

__all__ = [
    "GIB",
    "KV_BYTES",
    "MemoryEstimate",
    "MemoryForecast",
    "MemorySource",
    "MemoryTerm",
    "Placed",
    "Placement",
    "automatic_contexts",
    "compute_buffer_size",
    "context_tiers",
    "effective_context",
    "estimate_memory",
    "forecast_memory",
    "gpu_sizes",
    "gpus_for",
    "gpus_there",
    "known_model",
    "kv_cache_size",
    "measured_memory",
    "memory_limit",
    "parse_active_parameters",
    "parse_size_from_name",
    "place_models",
    "predicted_vram",
    "share_on_cpu",
]
