"""The map of a server's memory: parts beside each other in their bar, outlines of what was predicted, hatched loads."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_server.admin.views.server_memory import ArrivingView, GpuView, PlacedView, ServerMemoryView
from ollama_router_server.admin.views.servers import LoadedView, ServerDetailView
from ollama_router_server.console.assets import Assets
from ollama_router_server.console.memory_map import WIDTH, memory_map
from ollama_router_server.console.rendering import Renderer

GIB = 1 << 30
SIZES = st.integers(1, 80 * GIB)


def shown(limit: int | None = None, loaded: Any = (), arriving: Any = (), gpus: Any = ()) -> ServerDetailView:
    """A server with this in memory: name, bytes, bytes in video memory, bytes that were computed."""
    rows = [
        LoadedView(model=name, size=size, computed=computed, vram=vram, context=4_096, expires_in_seconds=None)
        for name, size, vram, computed in loaded
    ]
    memory = ServerMemoryView(
        predicted=None,
        gpus=[GpuView(gpu=place, size=size, models=models) for place, (size, models) in enumerate(gpus)],
        arriving=[ArrivingView(model=name, bytes=size, seconds=3.0) for name, size in arriving],
        accuracy=None,
        loads=[],
    )
    plain: dict[str, Any] = dict.fromkeys(ServerDetailView.model_fields)
    plain |= {"name": "big", "state": "up", "memory_limit": limit, "loaded": rows, "memory": memory}
    plain |= {"memory_loaded": sum(one.size for one in rows), "settings": {"gpus": [24.0]}, "breaker": "closed"}
    plain |= {"requests_last_hour": 0, "failed_last_hour": 0, "running": 0, "on_disk": [], "failures_in_a_row": 0}
    return ServerDetailView.model_construct(**plain)


@given(
    limit=st.none() | SIZES,
    loaded=st.lists(st.tuples(SIZES, st.floats(0, 1), st.none() | SIZES), max_size=8),
    arriving=st.lists(SIZES, max_size=3),
    gpus=st.lists(SIZES, min_size=2, max_size=4) | st.just([]),
)
def test_nothing_lies_outside_its_bar(
    limit: int | None, loaded: list[tuple[int, float, int | None]], arriving: list[int], gpus: list[int]
) -> None:
    """Whatever the sizes: parts follow each other, outlines end with the bar, every byte is in one part."""
    rows = [
        (f"m{number}", size, round(size * share), computed) for number, (size, share, computed) in enumerate(loaded)
    ]
    coming = [(f"n{number}", size) for number, size in enumerate(arriving)]
    placed = [PlacedView(model=name, bytes=vram, assumed=True) for name, _, vram, _ in rows if vram]
    places = [(size, placed[place :: len(gpus)]) for place, size in enumerate(gpus)]
    bars = memory_map(shown(limit, rows, coming, places))
    assert max(bar.width for bar in bars) == WIDTH
    assert sum(one.bytes for bar in bars for one in bar.blocks) == sum(size for _, size, _, _ in rows) + sum(arriving)
    for bar in bars:
        end = 0.0
        for one in bar.blocks:
            assert one.x >= end - 0.01
            end = one.x + one.width
            assert 0 <= one.predicted <= bar.width - one.x + 0.01
        assert end <= bar.width + 0.01


def test_measured_predicted_coming_and_on_the_cpu_are_told_apart() -> None:
    """One pool up to its limit: a quarter measured with its outline, a part on the CPU, a load hatched."""
    (bar,) = memory_map(shown(24 * GIB, [("a", 8 * GIB, 6 * GIB, 9 * GIB)], [("b", 3 * GIB)]))
    assert [(one.model, one.kind, one.x, one.width, one.predicted) for one in bar.blocks] == [
        ("a", "measured", 0, 240, 360),
        ("a", "cpu", 240, 80, 0),
        ("b", "arriving", 320, 120, 120),
    ]


def test_each_gpu_has_a_bar() -> None:
    """By its size; what comes is where most is free, what runs on the CPU below."""
    placed = [PlacedView(model="a", bytes=20 * GIB, assumed=False)]
    view = shown(None, [("a", 22 * GIB, 20 * GIB, None)], [("b", 4 * GIB)], [(24 * GIB, placed), (12 * GIB, [])])
    bars = [(bar.name, bar.width, [one.model for one in bar.blocks]) for bar in memory_map(view)]
    assert bars == [("GPU 0", 960, ["a"]), ("GPU 1", 480, ["b"]), ("CPU", 80, ["a"])]


@pytest.mark.parametrize("role", ["viewer", "admin"])
def test_the_page_of_a_server_says_it_in_words(role: str) -> None:
    """What was measured, predicted and allowed; what is being loaded; its settings."""
    view = shown(24 * GIB, [("a", 8 * GIB, 6 * GIB, 9 * GIB)], [("b", 3 * GIB)])
    told = {"predicted": 9 * GIB, "accuracy": "Memory within 6 % for 9 of 10 loads."}
    view = view.model_copy(update={"memory": view.memory.model_copy(update=told)})
    values = {"view": view, "day": SimpleNamespace(sentence="", spans=[], begin=0.0), "within": False}
    page = Renderer(Assets()).text(
        "parts/server.html", "/console/servers/big", user=SimpleNamespace(role=role), **values
    )
    assert "8.00 GiB measured, 9.00 predicted, 24.0 limit. Memory within 6 %" in page
    assert "for 3 s; it is expected to take 3.00 GiB" in page
    assert page.count('fill="url(#hatch-memory)"') == page.count('class="outline"') == 1
    assert '<dt class="mono">gpus</dt><dd><bdi>24.0</bdi></dd>' in page
