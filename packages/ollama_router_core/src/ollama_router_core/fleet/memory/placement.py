"""Where a model lies on a server: on one GPU, split over all of them, or partly in the machine's own memory.

Ollama takes the GPU with most free memory where 80 % of that hold the model, else all of them together, each with
buffers of its own; what they cannot hold runs on the CPU. Source: Ollama's server/sched.go, selectLlamaServerPlacement.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ollama_router_core.fleet.snapshot import LoadedModel, ServerFacts

__all__ = ["free_of_each", "gpus_for", "share_on_cpu"]

_FIT_SHARE = 0.8
_LEAST_ON_CPU = 0.02
"""Less is what Ollama leaves there by itself."""


def gpus_for(size: int, free: Sequence[int]) -> int:
    """Return how many GPUs a model of `size` bytes is spread over, given the bytes free of each."""
    return len(free) if size > _FIT_SHARE * max(free, default=0) else 1


def free_of_each(gpus: Sequence[int], held: Iterable[int]) -> tuple[int, ...]:
    """Return the bytes free of each GPU beside models of `held` bytes.

    `/api/ps` does not say which GPU a model is on: they are placed as Ollama would place them, the largest first.
    """
    free = list(gpus)
    for size in sorted(held, reverse=True):
        if gpus_for(size, free) == 1 and free:
            free[free.index(max(free))] -= size
        else:
            left = max(0.0, 1.0 - size / max(sum(free), 1))
            free = [int(one * left) for one in free]
    return tuple(free)


def share_on_cpu(facts: ServerFacts, loaded: LoadedModel | None) -> float:
    """Return the share of a loaded model that is not in video memory; 0 on a server that was never seen to have any."""
    if loaded is None or loaded.size <= 0 or not (loaded.size_vram or facts.capacity.most):
        return 0.0
    share = 1.0 - loaded.size_vram / loaded.size
    return share if share >= _LEAST_ON_CPU else 0.0
