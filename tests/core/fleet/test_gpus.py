"""GPUs that a fleet may get one more of: each figure has a page that tells it."""

from __future__ import annotations

from ollama_router_core.fleet.gpus import GPUS


def test_every_gpu_has_its_figures_and_their_source():
    """Names can be typed; pages are different ones, of a known year; no figure is of another unit."""
    assert len(GPUS) >= 30
    for name, gpu in GPUS.items():
        assert (gpu.name, name) == (name, name.lower().replace(" ", "-"))
        assert 8 <= gpu.memory_gib <= 200
        assert 200 <= gpu.bandwidth <= 10_000
        assert 10 <= gpu.tflops <= 1_000
        assert gpu.source.startswith("https://")
        assert 2020 <= gpu.year <= 2030
    assert len({gpu.source for gpu in GPUS.values()}) == len(GPUS)
