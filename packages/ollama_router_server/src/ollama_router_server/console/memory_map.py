"""Layout of a server's memory as bars: pure geometry, drawn by a template as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct

from ollama_router_server.admin.views.server_memory import ArrivingView
from ollama_router_server.admin.views.servers import ServerDetailView
from ollama_router_server.console.charts import segments

__all__ = ["WIDTH", "MapBar", "MapBlock", "memory_map"]

WIDTH: Final = 960

Kind = Literal["measured", "cpu", "arriving"]


class MapBlock(Struct, frozen=True):
    """A model's part of a bar, in bytes; `predicted` is its predicted width, 0 if unknown."""

    model: str
    kind: Kind
    bytes: int
    x: float
    width: float
    predicted: float


class MapBar(Struct, frozen=True):
    """One GPU, the CPU's memory beside GPUs, or all memory; its width is proportional to its `size` in bytes."""

    name: str
    size: int
    width: float
    blocks: list[MapBlock]


class _Part(Struct, frozen=True):
    model: str
    kind: Kind
    bytes: int
    predicted: float


def memory_map(view: ServerDetailView) -> list[MapBar]:
    """Lay out the bars of a server, the largest `WIDTH` wide; no block lies outside its bar."""
    if view.memory.gpus:
        rows = _of_gpus(view)
    else:
        rows = [("memory", view.memory_limit or 0, [*_loaded(view), *map(_arriving, view.memory.arriving)])]
    sizes = [max(size, sum(one.bytes for one in parts), 1) for _, size, parts in rows]
    largest = max(sizes)
    return [_bar(name, size, parts, WIDTH * size / largest) for (name, _, parts), size in zip(rows, sizes, strict=True)]


def _loaded(view: ServerDetailView) -> list[_Part]:
    """Return each model's part in video memory and its part on the CPU; the first one has the prediction."""
    found = []
    for row in view.loaded:
        on_gpu = min(row.vram, row.size)
        if on_gpu:
            found.append(_Part(row.model, "measured", on_gpu, float(row.computed or 0)))
        if row.size > on_gpu:
            found.append(_Part(row.model, "cpu", row.size - on_gpu, 0.0 if on_gpu else float(row.computed or 0)))
    return found


def _of_gpus(view: ServerDetailView) -> list[tuple[str, int, list[_Part]]]:
    shares = {row.model: row.computed / row.size for row in view.loaded if row.computed and row.size}
    rows = [
        (
            f"GPU {gpu.gpu}",
            gpu.size,
            [_Part(one.model, "measured", one.bytes, one.bytes * shares.get(one.model, 0.0)) for one in gpu.models],
        )
        for gpu in view.memory.gpus
    ]
    for one in view.memory.arriving:  # where Ollama would place it now
        _, _, parts = max(rows, key=lambda row: row[1] - sum(part.bytes for part in row[2]))
        parts.append(_arriving(one))
    beside = [one for one in _loaded(view) if one.kind == "cpu"]
    return [*rows, ("CPU", 0, beside)] if beside else rows


def _arriving(one: ArrivingView) -> _Part:
    return _Part(one.model, "arriving", one.bytes, float(one.bytes))


def _bar(name: str, size: int, parts: Sequence[_Part], width: float) -> MapBar:
    laid = segments([float(one.bytes) for one in parts], width, whole=size)
    blocks = [
        MapBlock(
            one.model, one.kind, one.bytes, at.x, at.width, round(min(one.predicted / size * width, width - at.x), 3)
        )
        for one, at in zip(parts, laid, strict=True)
    ]
    return MapBar(name, size, round(width, 3), blocks)
