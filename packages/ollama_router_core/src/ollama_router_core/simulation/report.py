"""The results of a simulation, as numbers and as a table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ollama_router_core.simulation.engine import SimulationResult
from ollama_router_core.simulation.workload import Job

__all__ = ["ModelFigures", "Summary", "percentile", "summarise", "table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFigures:
    """The figures of one model in one scenario: seconds to the first token (`p50`, `p95`, `mean`), and counts.

    A rejected request counts with its wait. `busy` is the mean share of the servers' time in which they ran or loaded
    it.
    """

    requests: int
    refused: int
    loads: int
    p50: float
    p95: float
    mean: float
    busy: float

    def to_json(self) -> dict[str, Any]:
        """Return the fields by name, seconds to a millisecond."""
        return fields_json(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One router's figures in one scenario: seconds from arrival to the first (`ttft`) and last (`completion`) token.

    A rejected request counts with its wait or its expected wait. `refusals` counts rejections by error code,
    `refused_models` by model and `refused_users` by user; `models` and `users` have their 95th percentiles to the first
    token, `by_model` all figures of a model. `utilisation` is the mean share of time in which servers ran or loaded a
    model.
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
    refusals: Mapping[str, int]
    refused_models: Mapping[str, int]
    refused_users: Mapping[str, int]
    models: Mapping[str, float]
    users: Mapping[str, float]
    by_model: Mapping[str, ModelFigures]

    def to_json(self) -> dict[str, Any]:
        """Return the fields by name, seconds to a millisecond, None for missing values."""
        return fields_json(self)


def fields_json(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass with slots by name, seconds to a millisecond."""
    return {name: _rounded(getattr(value, name)) for name in value.__slots__}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 3)
    if isinstance(value, ModelFigures):
        return value.to_json()
    return {name: _rounded(one) for name, one in value.items()} if isinstance(value, Mapping) else value


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that is at least as large as a `share` of all; nan without values."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def summarise(result: SimulationResult) -> Summary:
    """Return the figures of one run."""
    first = [(one.job, one.ttft) for one in result.outcomes] + [(one.job, one.wait) for one in result.rejections]
    ttft = sorted(seconds for _, seconds in first)
    done = sorted([one.completion for one in result.outcomes] + [one.wait for one in result.rejections])
    return Summary(
        router=result.router,
        requests=len(first),
        refused=result.refused,
        loads=result.loads,
        evictions=result.evictions,
        ttft_p50=percentile(ttft, 0.5),
        ttft_p95=percentile(ttft, 0.95),
        ttft_p99=percentile(ttft, 0.99),
        ttft_max=max(ttft, default=math.nan),
        completion_p50=percentile(done, 0.5),
        completion_p95=percentile(done, 0.95),
        completion_p99=percentile(done, 0.99),
        utilisation=sum(result.busy.values()) / max(1, len(result.busy)),
        refusals=Counter(one.reason for one in result.rejections),
        refused_models=Counter(str(one.job.model) for one in result.rejections),
        refused_users=Counter(one.job.user for one in result.rejections),
        models=_p95_by(first, lambda job: job.model),
        users=_p95_by(first, lambda job: job.user),
        by_model=_by_model(result, first),
    )


def _by_model(result: SimulationResult, waits: Iterable[tuple[Job, float]]) -> dict[str, ModelFigures]:
    refused = Counter(str(one.job.model) for one in result.rejections)
    return {
        name: ModelFigures(
            requests=len(values),
            refused=refused[name],
            loads=result.loads_of.get(name, 0),
            p50=percentile(values, 0.5),
            p95=percentile(values, 0.95),
            mean=sum(values) / len(values),
            busy=result.busy_of.get(name, 0.0),
        )
        for name, values in _grouped(waits, lambda job: job.model).items()
    }


def _p95_by(waits: Iterable[tuple[Job, float]], key: Callable[[Job], str]) -> dict[str, float]:
    return {name: percentile(values, 0.95) for name, values in _grouped(waits, key).items()}


def _grouped(waits: Iterable[tuple[Job, float]], key: Callable[[Job], str]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for job, seconds in waits:
        found.setdefault(key(job), []).append(seconds)
    return dict(sorted(found.items()))


_LINES = (
    ("requests", "requests", "d"), ("refused", "refused", "d"), ("loads", "loads", "d"), ("evictions", "evicted", "d"),
    ("utilisation", "servers busy", ".0%"), ("ttft_p50", "first token, s: p50", ".1f"), ("ttft_p95", "p95", ".1f"),
    ("ttft_p99", "p99", ".1f"), ("ttft_max", "longest", ".0f"), ("completion_p50", "last token, s: p50", ".1f"),
    ("completion_p95", "p95", ".1f"), ("completion_p99", "p99", ".1f"),
)  # fmt: skip


def table(summaries: Iterable[Summary]) -> str:
    """Format the summaries in columns: counts, seconds, rejections by reason, and p95 to the first token by model."""
    found = list(summaries)
    rows = [["", *(one.router for one in found)]]
    rows += [[title, *(format(getattr(one, name), form) for one in found)] for name, title, form in _LINES]
    for code in sorted({code for one in found for code in one.refusals}):
        rows.append([f"refused: {code}", *(str(one.refusals.get(code, 0)) for one in found)])
    models = sorted({name for one in found for name in one.models})
    rows += [[f"p95 of {name}", *(_seconds(one.models.get(name)) for one in found)] for name in models]
    return _aligned(rows)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in rows
    )
