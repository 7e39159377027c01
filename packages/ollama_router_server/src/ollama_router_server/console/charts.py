"""Where the parts of a chart lie: pure geometry, drawn by the templates as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Bar", "Segment", "columns_of", "segments"]


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a bar: where it begins and how wide it is."""

    x: float
    width: float


def segments(values: Sequence[float], width: float, *, whole: float | None = None, least: float = 2.0) -> list[Segment]:
    """Lay values side by side on a bar of this width.

    The bar stands for `whole`, by default for the sum of the values. A value above 0 is at least `least` wide, so that
    it can be seen; the others give way for that. Values beyond `whole` are scaled down: nothing lies outside the bar.
    """
    total = max(sum(values), whole or 0.0)
    if total <= 0:
        return [Segment(0.0, 0.0) for _ in values]
    wanted = [value / total * width for value in values]
    wide = [max(one, least) if value > 0 else 0.0 for one, value in zip(wanted, values, strict=True)]
    room = width if whole is None or sum(values) >= whole else min(width, max(sum(wanted), sum(wide)))
    if sum(wide) > room:
        wide = _fitted(wide, room, least)
    found, x = [], 0.0
    for one in wide:
        found.append(Segment(round(x, 3), round(one, 3)))
        x += one
    return found


@dataclass(frozen=True, slots=True)
class Bar:
    """A column of a chart: from when it counts (seconds since 1970), how many, its height as a share of the largest."""

    start: int
    count: int
    share: float


def columns_of(hours: Mapping[int, int], since: float, until: float, step: int) -> list[Bar]:
    """Counts by hour as columns of `step` seconds each, without gaps; together they are all that was counted."""
    first = int(min(since, *hours) if hours else since) // step * step
    counts = dict.fromkeys(range(first, int(until) + 1, step), 0)
    for start, count in hours.items():
        at = start // step * step
        counts[at] = counts.get(at, 0) + count
    most = max(counts.values(), default=0) or 1
    return [Bar(start, count, count / most) for start, count in sorted(counts.items())]


def _fitted(wide: list[float], room: float, least: float) -> list[float]:
    """Take what is too much from the parts above the least width, in proportion to what they have above it."""
    spare = sum(max(0.0, one - least) for one in wide)
    needed = sum(wide) - room
    if spare <= needed:
        return [one * room / sum(wide) for one in wide]
    return [one - max(0.0, one - least) * needed / spare for one in wide]
