"""A server's memory as people see it: what lies where, what is coming, how well that was foretold."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from ollama_router_core.config.settings import Server
from ollama_router_core.fleet.memory import estimate_memory, gpu_sizes, place_models
from ollama_router_core.fleet.snapshot import FleetSnapshot, ServerFacts
from ollama_router_server.admin.view import View
from ollama_router_server.fleet.measured_loads import MeasuredLoad
from ollama_router_server.services import Services

__all__ = ["ArrivingView", "GpuView", "MeasuredLoadView", "PlacedView", "ServerMemoryView", "server_memory"]

_TOLD: Final = 20


class PlacedView(View):
    """A model on a GPU, with its bytes there; `assumed` says that Ollama may have put it elsewhere."""

    model: str
    bytes: int
    assumed: bool


class GpuView(View):
    """One of several GPUs, counted from 0, as the config has them; of a model that is split each has its share."""

    gpu: int
    size: int
    models: list[PlacedView]


class ArrivingView(View):
    """A model that is being loaded, for so many seconds now, with the bytes that it is expected to take."""

    model: str
    bytes: int
    seconds: float


class MeasuredLoadView(View):
    """A model that came into memory at a moment (seconds since 1970), with what it took and what was computed."""

    model: str
    context: int | None
    at: float
    measured: int
    computed: int


class ServerMemoryView(View):
    """`predicted` bytes were computed for what is in memory, null where that is not known of each model.

    `gpus` is empty for a server that the config does not give several. `loads` are the newest of those that this
    process saw, `accuracy` a sentence about all of them.
    """

    predicted: int | None
    gpus: list[GpuView]
    arriving: list[ArrivingView]
    accuracy: str | None
    loads: list[MeasuredLoadView]


def server_memory(services: Services, facts: ServerFacts, host: Server, now: float) -> ServerMemoryView:
    """Show the memory of one server; `now` is seconds of the fleet's clock."""
    computed = [services.computed_sizes.find(row, facts, host) for row in facts.loaded.values()]
    known = [size for size in computed if size is not None]
    loads = services.measured_loads.of(facts.name)
    return ServerMemoryView(
        predicted=sum(known) if known and len(known) == len(computed) else None,
        gpus=list(_gpus(facts, host)),
        arriving=list(_arriving(services, facts, host, now)),
        accuracy=accuracy_of(loads),
        loads=[MeasuredLoadView.from_object(one) for one in loads[:_TOLD]],
    )


def accuracy_of(loads: Sequence[MeasuredLoad]) -> str | None:
    """How far what was measured is from what was computed: of ten loads the worst is left out."""
    if not loads:
        return None
    off = sorted(one.off for one in loads)
    told = max(1, len(off) * 9 // 10)
    within = math.ceil(round(100 * off[told - 1], 6))
    return f"Memory within {within} % of what was computed for {told} of {len(off)} loads."


def _gpus(facts: ServerFacts, host: Server) -> Iterator[GpuView]:
    """Where models lie; the share of one that is split goes by the GPUs' sizes."""
    sizes = gpu_sizes(host)
    if len(sizes) < 2:
        return
    placed = place_models(sizes, (*facts.loaded.values(), *facts.outdated), spread=host.sched_spread).models
    for gpu, size in enumerate(sizes):
        models = [
            PlacedView(
                model=one.name,
                bytes=one.size if one.gpu is not None else round(one.size * size / sum(sizes)),
                assumed=not one.told,
            )
            for one in placed
            if one.gpu in {None, gpu}
        ]
        yield GpuView(gpu=gpu, size=size, models=models)


def _arriving(services: Services, facts: ServerFacts, host: Server, now: float) -> Iterator[ArrivingView]:
    fleet: FleetSnapshot = services.fleet.snapshot
    for name, since in facts.loading.items():
        if name in facts.loaded:
            continue
        context = facts.loading_at.get(name) or None
        estimate = estimate_memory(name, facts, fleet, services.config.models, num_ctx=context, host=host)
        yield ArrivingView(model=name, bytes=estimate.size, seconds=round(max(0.0, now - since), 1))
