"""Layout of stacked columns: pure geometry, drawn by a template as SVG."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from ollama_router_server.admin.views.usage_steps import UsageStep

__all__ = ["OTHERS", "Column", "ColumnPart", "Stacked", "stacked"]

OTHERS = 4
"""The tone of names without a part of their own."""


class ColumnPart(Struct, frozen=True):
    """A rectangle: its top, height and tone, and the count that it shows, with its name (None: others)."""

    y: float
    height: float
    tone: int
    name: str | None
    requests: int


class Column(Struct, frozen=True):
    """A step's parts, the first at the bottom."""

    step: UsageStep
    x: float
    width: float
    parts: list[ColumnPart]


class Stacked(Struct, frozen=True):
    """A chart of `width` by `height`; `legend` has the name of each tone in use."""

    width: float
    height: float
    columns: list[Column]
    legend: list[tuple[int, str | None]]


def stacked(steps: Sequence[UsageStep], *, width: float = 960.0, height: float = 120.0) -> Stacked:
    """Lay out steps side by side, scaled to the one with most requests; omit parts without requests."""
    most = max((one.requests for one in steps), default=0) or 1
    wide = width / (len(steps) or 1)
    columns = [
        Column(one, round(wide * (index + 0.1), 3), round(wide * 0.8, 3), _parts(one, height / most, height))
        for index, one in enumerate(steps)
    ]
    there = {(part.tone, part.name) for column in columns for part in column.parts}
    return Stacked(width, height, columns, sorted(there, key=lambda one: one[0]))


def _parts(one: UsageStep, scale: float, height: float) -> list[ColumnPart]:
    counts = [*((tone, part.name, part.requests) for tone, part in enumerate(one.parts)), (OTHERS, None, one.others)]
    found, below = [], 0
    for tone, name, requests in counts:
        if requests:
            below += requests
            found.append(
                ColumnPart(round(max(0.0, height - below * scale), 3), round(requests * scale, 3), tone, name, requests)
            )
    return found
