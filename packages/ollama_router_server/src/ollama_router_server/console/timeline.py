"""Layout of a request's time: the expected phases above the measured ones, on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from ollama_router_core.records.phases import PhaseName
from ollama_router_server.admin.views.request_tries import PhaseView
from ollama_router_server.console.charts import segments
from ollama_router_server.console.wording import duration

__all__ = ["WIDTH", "Gap", "Part", "Timeline", "TimelineRow", "timelines"]

WIDTH: Final = 960
_LEAST: Final = 0.02
"""The least width of a part, as a share of the whole."""
_DWARFS: Final = 3.0
"""A wait longer than this multiple of the rest is broken, and drawn as long as the rest."""
_GAP: Final = 16.0
_LETTER, _BETWEEN = 8.2, 8.0  # units: the width of a letter, and the gap between labels


class Part(Struct, frozen=True):
    """A phase on its row, with the label below; `label_x` is the label's start."""

    name: PhaseName
    ms: float
    x: float
    width: float
    label: str
    label_x: float

    @property
    def middle(self) -> float:
        """The x coordinate that the label points to."""
        return round(self.x + self.width / 2, 1)


class Gap(Struct, frozen=True):
    """The break of a wait, and the milliseconds omitted there."""

    x: float
    width: float
    ms: float


class TimelineRow(Struct, frozen=True):
    """The parts of one total, proportional to the timeline's scale; no part lies outside `WIDTH`."""

    name: str
    total_ms: float
    parts: list[Part]
    gap: Gap | None


Timeline = list[TimelineRow]


def timelines(measured: Sequence[PhaseView], expected: Sequence[PhaseView] | None) -> Timeline:
    """Return rows on one scale, `expected` first if given. A wait that dwarfs the rest is broken in each row."""
    named = [("expected", expected)] if expected else []
    rows = [*named, ("measured", measured)]
    rest = max(sum(one.ms for one in parts if one.name != "queue") for _, parts in rows)
    longest = max((one.ms for _, parts in rows for one in parts if one.name == "queue"), default=0.0)
    most = rest if 0 < _DWARFS * rest < longest else longest
    whole = max(sum(_drawn(one, most) for one in parts) for _, parts in rows)
    return [_row(name, parts, most, whole) for name, parts in rows]


def _drawn(phase: PhaseView, most: float) -> float:
    return min(phase.ms, most) if phase.name == "queue" else phase.ms


def _row(name: str, phases: Sequence[PhaseView], most: float, whole: float) -> TimelineRow:
    drawn = [_drawn(one, most) for one in phases]
    laid = segments(drawn, WIDTH, whole=whole, least=_LEAST * WIDTH)
    labels = [f"{one.name} {duration(one.ms)}" for one in phases]
    starts = _placed([one.x + one.width / 2 for one in laid], labels)
    parts, gap = [], None
    for phase, shown, segment, label, at in zip(phases, drawn, laid, labels, starts, strict=True):
        parts.append(Part(phase.name, phase.ms, segment.x, segment.width, label, at))
        if shown < phase.ms:
            width = min(_GAP, segment.width)
            gap = Gap(round(segment.x + (segment.width - width) / 2, 1), width, phase.ms - shown)
    return TimelineRow(name, sum(one.ms for one in phases), parts, gap)


def _placed(middles: Sequence[float], labels: Sequence[str]) -> list[float]:
    """Place labels below their parts, shifted so that none overlaps another and all are inside."""
    wide = [_LETTER * len(label) for label in labels]
    starts, end = [], 0.0
    for middle, width in zip(middles, wide, strict=True):
        start = max(middle - width / 2, end)
        starts.append(start)
        end = start + width + _BETWEEN
    limit = float(WIDTH)
    for index in range(len(starts) - 1, -1, -1):
        starts[index] = max(0.0, min(starts[index], limit - wide[index]))
        limit = starts[index] - _BETWEEN
    return [round(start, 1) for start in starts]
