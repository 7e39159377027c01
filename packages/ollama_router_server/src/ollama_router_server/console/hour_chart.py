"""Layout of the last hour's charts: pure geometry, drawn by the templates as SVG."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from ollama_router_core.records.phases import PHASES, PhaseName
from ollama_router_server.admin.views.overview import MinuteView

__all__ = ["HEIGHT", "Hour", "Share", "columns_path", "hour_of"]

HEIGHT = 64


class Share(Struct, frozen=True):
    """A phase's share of the requests' time, in whole percent."""

    name: PhaseName
    percent: int


class Hour(Struct, frozen=True):
    """The last hour's time by phase, as outlines of columns, each one unit wide and at most `HEIGHT` high.

    `shares` has the largest first and omits those below one percent. In `phase_paths` the columns of all phases are
    stacked and fill the height for minutes with any time.
    """

    shares: list[Share]
    phase_paths: list[tuple[str, str]]


def hour_of(minutes: Sequence[MinuteView]) -> Hour:
    """Lay out sixty minutes, the oldest at the left."""
    return Hour(shares=_shares(minutes), phase_paths=list(_phase_paths(minutes)))


def _shares(minutes: Sequence[MinuteView]) -> list[Share]:
    spent = {name: sum(one.phases[name] for one in minutes) for name in PHASES}
    whole = sum(spent.values()) or 1
    found = [Share(name, round(100 * ms / whole)) for name, ms in spent.items()]
    return sorted((one for one in found if one.percent), key=lambda one: -one.percent)


def _phase_paths(minutes: Sequence[MinuteView]) -> Iterator[tuple[str, str]]:
    """Yield a path per phase: its columns start at the top of the previous phase's."""
    wholes = [sum(one.phases.values()) for one in minutes]
    below = [0.0] * len(minutes)
    for name in PHASES:
        high = [HEIGHT * one.phases[name] / whole if whole else 0.0 for one, whole in zip(minutes, wholes, strict=True)]
        if name != "unexplained":
            yield f"phase {name}", columns_path(high, below)
        below = [one + more for one, more in zip(below, high, strict=True)]


def columns_path(high: Sequence[float], below: Iterable[float] | None = None) -> str:
    """Draw a path around columns of these heights, each on top of `below`."""
    ground = [0.0] * len(high) if below is None else list(below)
    parts = [
        f"M{step} {HEIGHT - ground[step]:.1f}v-{tall:.1f}h1v{tall:.1f}z" for step, tall in enumerate(high) if tall > 0
    ]
    return "".join(parts)
