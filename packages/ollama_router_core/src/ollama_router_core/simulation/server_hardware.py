"""The hardware of one Ollama server, and the contexts, slots, memory and times that follow from it.

If a model's longest context is unknown, as in the matrix, contexts are the requested ones and need no memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from ollama_router_core.fleet.memory.estimates import context_tiers
from ollama_router_core.fleet.snapshot import ModelSpeed
from ollama_router_core.simulation.workload import SimulatedModel

__all__ = ["Context", "Machine"]

GB_PER_GIB = 1.07
"""GiB to GB, rounded as the scenario defines it."""

_KIB_PER_GIB = 1 << 20
_LEAST_CONTEXT = 4

SHARING = 0.8
"""Assumed: with k concurrent requests each step takes k^0.8 times as long; two finish slightly sooner than in turn."""

OFFLOADED = 10.0
"""Assumed: the part in main memory is ten times as slow as the part in video memory."""

Eviction = Literal["lru", "ollama"]


class Context(NamedTuple):
    """A model's context: tokens, None if unknown; `automatic` if Ollama chose them."""

    tokens: int | None
    automatic: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A server's hardware: GiB of VRAM, memory bandwidth in GB/s, TFLOP/s, GB/s from disk, seconds of keep-alive.

    A model needs `headroom` times its weights, and its KV cache. With k concurrent requests each step takes k^`sharing`
    times as long.
    The rules are those of an Ollama with one GPU. `eviction` is its order for equal keep-alives, by name, or `lru`.
    The queue of loads stays strictly in order, and two models that take turns in it thrash; with `joins` a finished
    load serves everybody who waits for that model. Beside others a model is loaded only where it takes at most
    `fit_share` of the free memory, and at most `max_loaded` models are held.
    Loads of the models in `broken` fail when they should be done. With `resident` every model is always loaded, as on
    no real machine. `installed` are the models on its disk, None for all that fit. `measured` are speeds by model, in
    place of those that follow from the hardware.
    """

    name: str
    vram_gib: float
    bandwidth: float
    tflops: float
    load_rate: float
    priority: int = 1
    num_parallel: int = 1
    keep_alive: float = 300.0
    headroom: float = 1.15
    sharing: float = SHARING
    eviction: Eviction = "ollama"
    joins: bool = False
    fit_share: float = 0.8
    max_loaded: int | None = 3
    broken: frozenset[str] = frozenset()
    resident: bool = False
    installed: frozenset[str] | None = None
    measured: Mapping[str, ModelSpeed] = field(default_factory=dict)

    def slots(self, model: SimulatedModel) -> int:
        """Return the number of concurrent requests of a loaded model."""
        return 1 if model.one_slot else self.num_parallel

    def context(self, model: SimulatedModel, num_ctx: int | None = None) -> Context:
        """Return the context of a load for a request with `num_ctx` tokens; None lets Ollama choose.

        The model's own context is the maximum. Ollama chooses by memory, and one tier less if that does not fit.
        """
        longest = model.context_length
        if num_ctx is not None and not model.is_mlx:
            return Context(max(_LEAST_CONTEXT, min(num_ctx, longest or num_ctx)), automatic=False)
        if longest is None or model.is_mlx:
            return Context(longest, automatic=True)
        first, *smaller = (min(tokens, longest) for tokens in context_tiers(self.vram_gib))
        fits = self.need(model, first) <= self.vram_gib
        return Context(first if fits or not smaller else smaller[0], automatic=True)

    def need(self, model: SimulatedModel, tokens: int | None = None) -> float:
        """Return the GiB of a loaded model with a context of `tokens` in each slot."""
        cached = 0 if model.is_mlx else (tokens or 0) * self.slots(model)
        return model.weights_gib * self.headroom + cached * model.kv_kib / _KIB_PER_GIB

    def holds(self, model: SimulatedModel) -> bool:
        """Return whether the machine has the model on disk, and the model fits into video memory."""
        if self.installed is not None and model.name not in self.installed:
            return False
        return self.need(model, self.context(model).tokens) <= self.vram_gib

    def load_seconds(self, model: SimulatedModel) -> float:
        """Return the seconds from disk to ready."""
        if self.resident:
            return 0.0
        measured = self.measured.get(model.name)
        if measured is not None:
            return measured.load_seconds
        return 0.5 + GB_PER_GIB * model.weights_gib / self.load_rate

    def prefill_seconds(self, model: SimulatedModel, tokens: int, context: int | None = None) -> float:
        """Return the prefill time, compute-bound: two operations per parameter and token, at 40 % of the peak."""
        measured = self.measured.get(model.name)
        if measured is not None:
            return tokens / measured.prefill_rate
        return tokens * model.billions * 1e9 * 2 / (0.4 * self.tflops * 1e12) * self._offload(model, context)

    def decode_seconds(self, model: SimulatedModel, tokens: int, context: int | None = None) -> float:
        """Return the decode time, bandwidth-bound: the weights once per token, at 60 % of the peak."""
        measured = self.measured.get(model.name)
        if measured is not None:
            return tokens / measured.decode_rate
        return tokens * GB_PER_GIB * model.weights_gib / (0.6 * self.bandwidth) * self._offload(model, context)

    def _offload(self, model: SimulatedModel, context: int | None) -> float:
        """Return the slowdown of a model that is partly in main memory."""
        share = min(1.0, self.vram_gib / self.need(model, context))
        return share + (1.0 - share) * OFFLOADED
