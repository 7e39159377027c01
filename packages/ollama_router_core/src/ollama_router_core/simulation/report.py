"""What a simulation showed, as numbers and as a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ollama_router_core.simulation.engine import SimulationResult

__all__ = ["Summary", "percentile", "summarise", "table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One router in one scenario: seconds from arrival to first token (`ttft`) and to the last (`completion`).

    `utilisation` is the mean share of time in which servers ran or loaded something.
    """

    router: str
    requests: int
    refused: int
    loads: int
    evictions: int
    ttft_p50: float
    ttft_p95: float
    ttft_p99: float
    ttft_max: float
    completion_p50: float
    completion_p95: float
    completion_p99: float
    utilisation: float

    def to_json(self) -> dict[str, Any]:
        """The fields by name, seconds to a millisecond."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in values.items()}


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all are not above; nan without values."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def summarise(result: SimulationResult) -> Summary:
    """The numbers of one run."""
    first = [outcome.ttft for outcome in result.outcomes]
    last = [outcome.completion for outcome in result.outcomes]
    return Summary(
        router=result.router,
        requests=len(first) + result.refused,
        refused=result.refused,
        loads=result.loads,
        evictions=result.evictions,
        ttft_p50=percentile(first, 0.5),
        ttft_p95=percentile(first, 0.95),
        ttft_p99=percentile(first, 0.99),
        ttft_max=max(first, default=math.nan),
        completion_p50=percentile(last, 0.5),
        completion_p95=percentile(last, 0.95),
        completion_p99=percentile(last, 0.99),
        utilisation=sum(result.busy.values()) / max(1, len(result.busy)),
    )


_COLUMNS = (
    ("requests", "requests", "d"), ("refused", "refused", "d"), ("loads", "loads", "d"), ("evictions", "evicted", "d"),
    ("ttft_p50", "ttft p50", ".1f"), ("ttft_p95", "p95", ".1f"), ("ttft_p99", "p99", ".1f"), ("ttft_max", "max", ".0f"),
    ("completion_p50", "done p50", ".1f"), ("completion_p95", "p95", ".1f"), ("completion_p99", "p99", ".1f"),
    ("utilisation", "busy", ".0%"),
)  # fmt: skip


def table(summaries: Iterable[Summary]) -> str:
    """The summaries as text, one line a router."""
    rows = [["router", *(title for _, title, _ in _COLUMNS)]]
    rows += [[one.router, *(format(getattr(one, name), form) for name, _, form in _COLUMNS)] for one in summaries]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    )
