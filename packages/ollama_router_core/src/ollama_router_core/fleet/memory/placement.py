"""The placement of models on a server: on one GPU, split over all GPUs, or partly in main memory.

Ollama uses the GPU with the most free memory if 80 % of that hold the model, else all GPUs, each with its own buffers;
the part beyond them runs on the CPU. Source: Ollama's server/sched.go, selectLlamaServerPlacement.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.fleet.capacity import FIT_SHARE
from ollama_router_core.fleet.snapshot import LoadedModel, ServerFacts

__all__ = ["Placed", "Placement", "gpus_for", "place_models", "share_on_cpu"]

_LEAST_ON_CPU = 0.02
"""Share on the CPU below which a model counts as entirely on the GPUs."""


class Placed(Struct, frozen=True, kw_only=True):
    """The placement of a model with `size` bytes of video memory: on `gpu`, counted from 0, or on all if None.

    `certain`: the placement follows from `/api/ps` or the settings; otherwise it is where Ollama would place it now.
    """

    name: CanonicalName
    size: int
    gpu: int | None
    certain: bool


class Placement(Struct, frozen=True):
    """The placement of a server's models, and the free bytes of each GPU beside them."""

    free: tuple[int, ...]
    models: tuple[Placed, ...] = ()


def gpus_for(size: int, free: Sequence[int], *, spread: bool = False) -> int:
    """Return the number of GPUs for a model of `size` bytes, given the free bytes of each; all with `spread`."""
    return len(free) if spread or size > FIT_SHARE * max(free, default=0) else 1


def place_models(gpus: Sequence[int], models: Iterable[LoadedModel], *, spread: bool = False) -> Placement:
    """Return the placement of `models`, given the bytes of each GPU; on all GPUs if Ollama is set to `spread`.

    `/api/ps` reports a model's video memory, not its GPU. A model larger than any GPU is on all of them; one without
    video memory is omitted. One partly on the CPU is assumed to be on all GPUs, as Ollama uses all if no single one
    suffices. The others are placed as Ollama would place them, largest first; the actual placement may differ, beside
    models that have since been unloaded.
    """
    if not gpus:
        return Placement(())
    free, placed = list(gpus), []
    for one in sorted(models, key=lambda one: (not _is_split(one, gpus), -one.size_vram, one.name)):
        if not one.size_vram:
            continue
        on_all = len(gpus) > 1 and (_is_split(one, gpus) or gpus_for(one.size_vram, free, spread=spread) > 1)
        gpu = None if on_all else free.index(max(free))
        free = _taken(free, one.size_vram, gpu)
        certain = spread or len(gpus) == 1 or one.size_vram > max(gpus)
        placed.append(Placed(name=one.name, size=one.size_vram, gpu=gpu, certain=certain))
    return Placement(tuple(free), tuple(placed))


def _is_split(one: LoadedModel, gpus: Sequence[int]) -> bool:
    return one.size_vram > max(gpus) or one.size - one.size_vram > _LEAST_ON_CPU * one.size


def _taken(free: Sequence[int], size: int, gpu: int | None) -> list[int]:
    """Return the free bytes after placing a model on one GPU, or on all in proportion to their free bytes."""
    if gpu is not None:
        return [max(0, have - size) if at == gpu else have for at, have in enumerate(free)]
    left = max(0.0, 1.0 - size / max(sum(free), 1))
    return [int(have * left) for have in free]


def share_on_cpu(facts: ServerFacts, loaded: LoadedModel | None) -> float:
    """Return the share of a loaded model outside video memory; 0 on a server that never reported any."""
    if loaded is None or loaded.size <= 0 or not (loaded.size_vram or facts.capacity.most):
        return 0.0
    share = 1.0 - loaded.size_vram / loaded.size
    return share if share >= _LEAST_ON_CPU else 0.0
