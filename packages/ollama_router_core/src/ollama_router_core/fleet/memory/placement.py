"""Where a model lies on a server: on one GPU, split over all of them, or partly in the machine's own memory.

Ollama takes the GPU with most free memory where 80 % of that hold the model, else all of them together, each with
buffers of its own; what they cannot hold runs on the CPU. Source: Ollama's server/sched.go, selectLlamaServerPlacement.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.fleet.snapshot import LoadedModel, ServerFacts

__all__ = ["Placed", "Placement", "gpus_for", "place_models", "share_on_cpu"]

_FIT_SHARE = 0.8
_LEAST_ON_CPU = 0.02
"""Less is what Ollama leaves there by itself."""


class Placed(Struct, frozen=True, kw_only=True):
    """Where a model lies that takes `size` bytes of video memory: on `gpu`, counted from 0; None is on all of them.

    `told` says that there is no other place, by `/api/ps` or the settings; else Ollama would place the model there now.
    """

    name: CanonicalName
    size: int
    gpu: int | None
    told: bool


class Placement(Struct, frozen=True):
    """Where the models of a server lie, and the bytes that are free of each GPU beside them."""

    free: tuple[int, ...]
    models: tuple[Placed, ...] = ()


def gpus_for(size: int, free: Sequence[int], *, spread: bool = False) -> int:
    """Return how many GPUs a model of `size` bytes is on, given the bytes free of each; all where it is to `spread`."""
    return len(free) if spread or size > _FIT_SHARE * max(free, default=0) else 1


def place_models(gpus: Sequence[int], models: Iterable[LoadedModel], *, spread: bool = False) -> Placement:
    """Return where `models` lie, given the bytes of each GPU; on all of them where Ollama is told to `spread`.

    `/api/ps` says how much video memory a model takes, not of which GPU. One that takes more than any GPU has is on all
    of them; one that takes none is on none, and left out. One with a part on the CPU is assumed to be on all, as Ollama
    takes all where none is enough. The others are placed as Ollama would place them, the largest first: it may have
    done otherwise, beside models that are gone by now.
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
        told = spread or len(gpus) == 1 or one.size_vram > max(gpus)
        placed.append(Placed(name=one.name, size=one.size_vram, gpu=gpu, told=told))
    return Placement(tuple(free), tuple(placed))


def _is_split(one: LoadedModel, gpus: Sequence[int]) -> bool:
    return one.size_vram > max(gpus) or one.size - one.size_vram > _LEAST_ON_CPU * one.size


def _taken(free: Sequence[int], size: int, gpu: int | None) -> list[int]:
    """Return what is left after a model took its bytes from one GPU, or of each the same share of what is free."""
    if gpu is not None:
        return [max(0, have - size) if at == gpu else have for at, have in enumerate(free)]
    left = max(0.0, 1.0 - size / max(sum(free), 1))
    return [int(have * left) for have in free]


def share_on_cpu(facts: ServerFacts, loaded: LoadedModel | None) -> float:
    """Return the share of a loaded model that is not in video memory; 0 on a server that was never seen to have any."""
    if loaded is None or loaded.size <= 0 or not (loaded.size_vram or facts.capacity.most):
        return 0.0
    share = 1.0 - loaded.size_vram / loaded.size
    return share if share >= _LEAST_ON_CPU else 0.0
