"""Ollama's own prediction, the computed and the measured memory of a model, side by side.

Ollama loads a model beside others only if its prediction is at most 80 % of the free memory. The prediction ignores
projector, buffers and KV cache type, so it predicts evictions rather than actual memory.
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

    `predicted` is what Ollama compares with the free memory before a load, without the surcharge for larger batches;
    `computed` is the sum of weights, KV cache and buffers; `measured` is the size from `/api/ps`, current or of the
    last load. None means unknown. `placement` has the GPUs of the loaded models, None without several GPUs.
    """

    context: int
    predicted: int | None
    computed: int
    measured: int | None
    placement: Placement | None = None

    @property
    def correction(self) -> float | None:
        """Ratio of measured to computed bytes; None if unknown."""
        return None if self.measured is None or not self.computed else self.measured / self.computed


def forecast_memory(
    model: CanonicalName, server: ServerFacts, fleet: FleetSnapshot, *, num_ctx: int | None, host: Server
) -> MemoryForecast | None:
    """Return the forecast for a request with `num_ctx` tokens; None for a model that no server lists."""
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
    if installed.is_mlx:
        return installed.size
    return None if installed.facts is None else predicted_vram(installed.size, installed.facts, context, parallel=slots)
