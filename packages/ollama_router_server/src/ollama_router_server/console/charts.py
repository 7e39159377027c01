"""Layout of charts: pure geometry, drawn by the templates as SVG."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from ollama_router_server.admin.views.history import BlockView, LaneView, MomentView
from ollama_router_server.admin.views.incidents import IncidentView
from ollama_router_server.admin.views.server_day import ServerDayView
from ollama_router_server.storage.log_days import STEP, STEPS

__all__ = [
    "DAY_WIDTH",
    "Segment",
    "Strip",
    "StripBlock",
    "StripLane",
    "StripMark",
    "day_marks",
    "models_of",
    "segments",
    "strip_of",
]

_TONES = 4
_ROW, _NAME, _BETWEEN = 8, 16, 4  # heights: a model's row, a server's name, the gap after a server
_MOST_ROWS = 6
_MOST_BLOCKS = 400
_MARK = 3
_OUTLINE = 60  # height of the outlines of running and waiting requests


class Segment(Struct, frozen=True):
    """A part of a bar: its start and width."""

    x: float
    width: float


def segments(values: Sequence[float], width: float, *, whole: float | None = None, least: float = 2.0) -> list[Segment]:
    """Lay out values side by side on a bar of this width.

    The bar represents `whole`, by default the sum of the values. A value above 0 is at least `least` wide, so that it
    stays visible; the others shrink to make room, and the total exceeds its scale only if they cannot. Values beyond
    `whole` are scaled down, so that nothing lies outside the bar.
    """
    total = max(sum(values), whole or 0.0)
    if total <= 0:
        return [Segment(0.0, 0.0) for _ in values]
    wanted = [value / total * width for value in values]
    wide = [max(one, least) if value > 0 else 0.0 for one, value in zip(wanted, values, strict=True)]
    seen = sum(value > 0 for value in values)
    room = width if whole is None or sum(values) >= whole else min(width, max(sum(wanted), seen * least))
    if sum(wide) > room:
        wide = _fitted(wide, room, least)
    found, x = [], 0.0
    for one in wide:
        found.append(Segment(round(x, 3), round(one, 3)))
        x += one
    return found


class StripBlock(Struct, frozen=True):
    """A block of a day's strip, one unit wide per step; `tone` is one of four, by model."""

    x: int
    y: int
    width: int
    height: int
    tone: int
    block: BlockView


class StripMark(Struct, frozen=True):
    """The mark of an incident, one unit wide per step that it touches."""

    x: int
    y: int
    width: int
    height: int
    incident: IncidentView


class StripLane(Struct, frozen=True):
    """A server's lane, starting at `y`."""

    server: str
    y: int
    blocks: list[StripBlock]
    marks: list[StripMark]


class Strip(Struct, frozen=True):
    """A day: lanes below each other, and outlines of running and waiting requests.

    The `left_out` blocks had the fewest requests. `marks` are incidents without a server, below the lanes.
    """

    width: int
    height: int
    lanes: list[StripLane]
    marks: list[StripMark]
    left_out: int
    running: str
    waiting: str
    most: int


DAY_WIDTH = 1_440
"""Units of a server's 24 hours, one per minute."""
_LEAST_MARK = 4.0


def day_marks(day: ServerDayView) -> list[Segment]:
    """Lay out a server's spans, in order, on a strip of `DAY_WIDTH`, each wide enough to be visible."""
    found = []
    for one in day.spans:
        width = min(max((one.end - one.begin) / 60, _LEAST_MARK), DAY_WIDTH)
        found.append(Segment(round(min(max((one.begin - day.begin) / 60, 0.0), DAY_WIDTH - width), 1), round(width, 1)))
    return found


def strip_of(
    lanes: Sequence[LaneView],
    moments: Sequence[MomentView],
    incidents: Sequence[IncidentView] = (),
    *,
    begin: float = 0.0,
    models: Sequence[str | None] = (),
) -> Strip:
    """Lay out a day. Models of a server have rows of their own, up to six; further ones share the last.

    `begin` is the start of the day. `models` get the first tones, so that compared strips use the same tone for the
    same model.
    """
    lanes, marks = _with_incidents(lanes, incidents), _marks(incidents, begin)
    all_blocks = sorted((block for lane in lanes for block in lane.blocks), key=lambda one: -one.requests)
    kept = {id(block) for block in all_blocks[:_MOST_BLOCKS]}
    tones = {model: index % _TONES for index, model in enumerate(dict.fromkeys([*models, *models_of(lanes)]))}
    laid, y = [], 0
    for lane in lanes:
        rows = {model: min(index, _MOST_ROWS - 1) for index, model in enumerate(dict.fromkeys(models_of([lane])))}
        blocks = [
            _laid(one, y + _NAME + rows[one.model] * _ROW, tones[one.model]) for one in lane.blocks if id(one) in kept
        ]
        laid.append(StripLane(lane.server, y, blocks, [replace(one, y=y + one.y) for one in marks(lane.server)]))
        y += _NAME + min(len(rows), _MOST_ROWS) * _ROW + _BETWEEN
    most = max((max(one.running, one.waiting) for one in moments), default=0) or 1
    running = _outline({one.step: one.running for one in moments}, most)
    waiting = _outline({one.step: one.waiting for one in moments}, most)
    own = [replace(one, y=y - _BETWEEN) for one in marks(None)]
    return Strip(STEPS, y, laid, own, len(all_blocks) - len(kept), running, waiting, most)


def _with_incidents(lanes: Sequence[LaneView], incidents: Sequence[IncidentView]) -> list[LaneView]:
    """Add empty lanes for servers that had incidents but answered nothing that day."""
    missing = {one.server for one in incidents if one.server} - {lane.server for lane in lanes}
    return sorted([*lanes, *(LaneView(server=name, blocks=[]) for name in missing)], key=lambda one: one.server)


def _marks(incidents: Sequence[IncidentView], begin: float) -> Callable[[str | None], list[StripMark]]:
    by_server: dict[str | None, list[StripMark]] = defaultdict(list)
    for one in incidents:
        first, last = (_step(at - begin) for at in (one.began_at, one.began_at + one.seconds))
        by_server[one.server].append(StripMark(first, _NAME - _MARK - 1, last - first + 1, _MARK, one))
    return lambda server: by_server[server]


def _step(seconds: float) -> int:
    return min(max(int(seconds // STEP), 0), STEPS - 1)


def models_of(lanes: Sequence[LaneView]) -> list[str | None]:
    """List the models of all blocks, in order."""
    return [block.model for lane in lanes for block in lane.blocks]


def _laid(block: BlockView, y: int, tone: int) -> StripBlock:
    return StripBlock(block.begin, y, block.end - block.begin + 1, _ROW - 2, tone, block)


def _outline(counts: Mapping[int, int], most: int) -> str:
    """Draw a path around columns of these heights, one unit wide each; empty if all are zero."""
    parts = [
        f"M{step} {_OUTLINE}v{-count / most * _OUTLINE:.2f}h1v{count / most * _OUTLINE:.2f}z"
        for step, count in sorted(counts.items())
        if count
    ]
    return "".join(parts)


def _fitted(wide: list[float], room: float, least: float) -> list[float]:
    """Take the excess from the parts wider than `least`, in proportion to their width above it."""
    spare = sum(max(0.0, one - least) for one in wide)
    needed = sum(wide) - room
    if spare < needed * (1 - 1e-9):
        return [one * room / sum(wide) for one in wide]
    share = min(1.0, needed / spare)
    return [one - max(0.0, one - least) * share for one in wide]
