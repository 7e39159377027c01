"""What Ollama predicts for a model, what is computed and what was measured, side by side.

Ollama loads a model beside others only where its prediction is at most 80 % of the free memory. It knows neither
projector nor buffers, nor the type of the KV cache, so it foretells evictions and not what is taken.
"""

from __future__ import annotations

from msgspec import Struct

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.config.settings import Server
from ollama_router_core.fleet.memory.estimates import (
    automatic_contexts,
    gpu_sizes,
    known_model,
    measured_memory,
    placed_memory,
)
from ollama_router_core.fleet.memory.formulas import effective_context, predicted_vram
from ollama_router_core.fleet.memory.placement import Placement, place_models
from ollama_router_core.fleet.runners import explicit_context, runner_of
from ollama_router_core.fleet.slots import slots_for
from ollama_router_core.fleet.snapshot import FleetSnapshot, InstalledModel, ServerFacts

__all__ = ["MemoryForecast", "forecast_memory"]


class MemoryForecast(Struct, frozen=True, kw_only=True):
    """Bytes of one model on one server, at a context in tokens.

    `predicted` is what Ollama compares with the free memory before a load, without what larger batches add; `computed`
    are weights, KV cache and buffers; `measured` is what `/api/ps` said, now or when it was loaded last. None is not
    known. `placement` is where the models that are loaded there lie, None for a server without several GPUs.
    """

    context: int
    predicted: int | None
    computed: int
    measured: int | None
    placement: Placement | None = None

    @property
    def correction(self) -> float | None:
        """By how much the measured differs from the computed: 1.1 is a tenth more."""
        return None if self.measured is None or not self.computed else self.measured / self.computed


def forecast_memory(
    model: CanonicalName, server: ServerFacts, fleet: FleetSnapshot, *, num_ctx: int | None, host: Server
) -> MemoryForecast | None:
    """Return the forecast for a request that asks for `num_ctx` tokens; None for a model that nobody listed."""
    installed = known_model(model, server, fleet.servers.values())
    if installed is None or installed.size <= 0:
        return None
    context = _context(installed, server, num_ctx, host)
    slots = slots_for(installed, host, fleet.parallel.get(server.name))
    return MemoryForecast(
        context=context,
        predicted=_predicted(installed, context, slots),
        computed=placed_memory(installed, context, host).size,
        measured=measured_memory(server, model, context),
        placement=_placement(server, host),
    )


def _context(installed: InstalledModel, server: ServerFacts, num_ctx: int | None, host: Server) -> int:
    wanted = explicit_context(installed, num_ctx, host.default_context)
    held = runner_of(server, installed.name)
    if wanted is None and held is not None and held.context_length is not None:
        return held.context_length
    chosen = wanted or automatic_contexts(server, installed.name, host)[0]
    return effective_context(installed.facts, chosen)


def _placement(server: ServerFacts, host: Server) -> Placement | None:
    gpus, models = gpu_sizes(host), (*server.loaded.values(), *server.outdated)
    return place_models(gpus, models, spread=host.sched_spread) if len(gpus) > 1 else None


def _predicted(installed: InstalledModel, context: int, slots: int) -> int | None:
    if installed.format == "safetensors":
        return installed.size
    return None if installed.facts is None else predicted_vram(installed.size, installed.facts, context, parallel=slots)
