"""Where the parts of the last hour's charts lie: pure geometry, drawn by the templates as SVG."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from ollama_router_core.records.phases import PHASES, PhaseName
from ollama_router_server.admin.views.overview import MinuteView

__all__ = ["HEIGHT", "Hour", "HourRow", "Share", "hour_of"]

HEIGHT = 64
_ROW_MINUTES = 5


class Share(Struct, frozen=True):
    """A phase's part of the requests' time, in whole percent."""

    name: PhaseName
    percent: int


class HourRow(Struct, frozen=True):
    """Some minutes, for the table beside the charts."""

    start: int
    requests: int
    failed: int
    tokens_per_second: float
    shares: list[Share]


class Hour(Struct, frozen=True):
    """The last hour: what it adds up to, and outlines of columns, each a unit wide and at most `HEIGHT` high.

    `shares` are the largest first; those below one percent are left out. In `phase_paths` the columns of all phases
    stand on each other and fill the height where a request took any time.
    """

    requests: int
    failed: int
    tokens: int
    most_requests: int
    most_tokens_per_second: float
    request_path: str
    failed_path: str
    token_path: str
    shares: list[Share]
    phase_paths: list[tuple[str, str]]
    rows: list[HourRow]


def hour_of(minutes: Sequence[MinuteView]) -> Hour:
    """Lay sixty minutes out, the oldest at the left."""
    requests, tokens = [one.requests for one in minutes], [one.completion_tokens for one in minutes]
    most, most_tokens = max(requests, default=0), max(tokens, default=0)
    return Hour(
        requests=sum(requests),
        failed=sum(one.failed for one in minutes),
        tokens=sum(tokens),
        most_requests=most,
        most_tokens_per_second=most_tokens / 60,
        request_path=_columns(_scaled(requests, most)),
        failed_path=_columns(_scaled([one.failed for one in minutes], most)),
        token_path=_columns(_scaled(tokens, most_tokens)),
        shares=_shares(minutes),
        phase_paths=list(_phase_paths(minutes)),
        rows=[_row(minutes[at : at + _ROW_MINUTES]) for at in range(0, len(minutes), _ROW_MINUTES)],
    )


def _row(minutes: Sequence[MinuteView]) -> HourRow:
    tokens = sum(one.completion_tokens for one in minutes)
    return HourRow(
        start=minutes[0].start,
        requests=sum(one.requests for one in minutes),
        failed=sum(one.failed for one in minutes),
        tokens_per_second=tokens / (60 * len(minutes)),
        shares=_shares(minutes),
    )


def _shares(minutes: Sequence[MinuteView]) -> list[Share]:
    spent = {name: sum(one.phases[name] for one in minutes) for name in PHASES}
    whole = sum(spent.values()) or 1
    found = [Share(name, round(100 * ms / whole)) for name, ms in spent.items()]
    return sorted((one for one in found if one.percent), key=lambda one: -one.percent)


def _phase_paths(minutes: Sequence[MinuteView]) -> Iterator[tuple[str, str]]:
    """A path a phase: its columns begin where those of the phase before end."""
    wholes = [sum(one.phases.values()) for one in minutes]
    below = [0.0] * len(minutes)
    for name in PHASES:
        high = [HEIGHT * one.phases[name] / whole if whole else 0.0 for one, whole in zip(minutes, wholes, strict=True)]
        if name != "unexplained":
            yield f"phase {name}", _columns(high, below)
        below = [one + more for one, more in zip(below, high, strict=True)]


def _scaled(counts: Sequence[int], most: int) -> list[float]:
    return [HEIGHT * count / most if most else 0.0 for count in counts]


def _columns(high: Sequence[float], below: Iterable[float] | None = None) -> str:
    """A path around columns of these heights, each on what is below it."""
    ground = [0.0] * len(high) if below is None else list(below)
    parts = [
        f"M{step} {HEIGHT - ground[step]:.1f}v-{tall:.1f}h1v{tall:.1f}z" for step, tall in enumerate(high) if tall > 0
    ]
    return "".join(parts)
