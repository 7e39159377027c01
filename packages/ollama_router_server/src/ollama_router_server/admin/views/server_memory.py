"""A server's memory as shown to people: what is where, what is loading, and the accuracy of predictions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from ollama_router_core.config.settings import Server
from ollama_router_core.fleet.memory.estimates import estimate_memory, gpu_sizes
from ollama_router_core.fleet.memory.placement import place_models
from ollama_router_core.fleet.snapshot import FleetSnapshot, ServerFacts
from ollama_router_server.admin.view import View
from ollama_router_server.fleet.measured_loads import MeasuredLoad
from ollama_router_server.services import Services

__all__ = ["ArrivingView", "GpuView", "MeasuredLoadView", "PlacedView", "ServerMemoryView", "server_memory"]

_MOST_LOADS: Final = 20


class PlacedView(View):
    """A model on a GPU, with its bytes there; `assumed`: Ollama may have placed it elsewhere."""

    model: str
    bytes: int
    assumed: bool


class GpuView(View):
    """One of several GPUs of the config, counted from 0; a split model has its share on each."""

    gpu: int
    size: int
    models: list[PlacedView]


class ArrivingView(View):
    """A model that has been loading for `seconds`, with the bytes that it is expected to take."""

    model: str
    bytes: int
    seconds: float


class MeasuredLoadView(View):
    """A model load at `at` (seconds since 1970), with its measured and computed size."""

    model: str
    context: int | None
    at: float
    measured: int
    computed: int


class ServerMemoryView(View):
    """`predicted` is the computed bytes of the loaded models, null unless known for each.

    `gpus` is empty unless the config lists several. `loads` are the newest that this process observed, `accuracy`
    is a sentence about all of them.
    """

    predicted: int | None
    gpus: list[GpuView]
    arriving: list[ArrivingView]
    accuracy: str | None
    loads: list[MeasuredLoadView]


def server_memory(services: Services, facts: ServerFacts, host: Server, now: float) -> ServerMemoryView:
    """Build the view of a server's memory; `now` is seconds of the fleet's clock."""
    computed = [services.computed_sizes.find(row, facts, host) for row in facts.loaded.values()]
    known = [size for size in computed if size is not None]
    loads = services.measured_loads.of(facts.name)
    return ServerMemoryView(
        predicted=sum(known) if known and len(known) == len(computed) else None,
        gpus=list(_gpus(facts, host)),
        arriving=list(_arriving(services, facts, host, now)),
        accuracy=accuracy_of(loads),
        loads=[MeasuredLoadView.from_object(one) for one in loads[:_MOST_LOADS]],
    )


def accuracy_of(loads: Sequence[MeasuredLoad]) -> str | None:
    """Describe the error of computed sizes; the worst of ten loads is ignored."""
    if not loads:
        return None
    off = sorted(one.off for one in loads)
    told = max(1, len(off) * 9 // 10)
    within = math.ceil(round(100 * off[told - 1], 6))
    return f"Memory within {within} % of what was computed for {told} of {len(off)} loads."


def _gpus(facts: ServerFacts, host: Server) -> Iterator[GpuView]:
    """Yield the GPUs with their models; a split model's share is proportional to the GPU's size."""
    sizes = gpu_sizes(host)
    if len(sizes) < 2:
        return
    placed = place_models(sizes, (*facts.loaded.values(), *facts.outdated), spread=host.sched_spread).models
    for gpu, size in enumerate(sizes):
        models = [
            PlacedView(
                model=one.name,
                bytes=one.size if one.gpu is not None else round(one.size * size / sum(sizes)),
                assumed=not one.certain,
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
