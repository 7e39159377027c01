"""Aggregate the metrics of several workers.

Counters, histograms and most gauges are added. For state that each worker observes itself (`orouter_server_up`) and
for waits, the largest value is used; for times (`..._created`, the start of a process), the earliest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

__all__ = ["Family", "add_up", "counted", "families", "text_of"]

Family = tuple[str, str, str, list[tuple[str, dict[str, str], float]]]
"""Name, help, type, and samples of name, labels and value."""

_STATES: Final = frozenset(
    {
        "orouter_config_refused",
        "orouter_evictions",  # every worker observes every eviction
        "orouter_longest_wait_seconds",
        "orouter_server_breaker",
        "orouter_server_draining",
        "orouter_server_up",
        "process_max_fds",
        "process_virtual_memory_max_bytes",
    }
)
_COUNTED: Final = frozenset({"counter", "histogram", "summary"})


def families(metrics: Iterable[Metric]) -> list[Family]:
    """Collect a registry's metrics as plain values."""
    return [
        (
            metric.name,
            metric.documentation,
            metric.type,
            [(sample.name, dict(sample.labels), float(sample.value)) for sample in metric.samples],
        )
        for metric in metrics
    ]


def counted(source: Sequence[Family]) -> list[Family]:
    """Keep only the counters, which outlive an ended process."""
    return [family for family in source if family[2] in _COUNTED]


def add_up(sources: Iterable[Sequence[Family]]) -> list[Family]:
    """Merge families, in order of first appearance."""
    heads: dict[str, tuple[str, str]] = {}
    samples: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for source in sources:
        for name, documentation, kind, values in source:
            heads.setdefault(name, (documentation, kind))
            known = samples.setdefault(name, {})
            for sample, labels, value in values:
                key = (sample, tuple(labels.items()))
                known[key] = _joined(name, sample, known[key], value) if key in known else value
    return [
        (name, *heads[name], [(sample, dict(labels), value) for (sample, labels), value in known.items()])
        for name, known in samples.items()
    ]


def _joined(name: str, sample: str, one: float, other: float) -> float:
    if sample.endswith("_created") or name == "process_start_time_seconds":
        return min(one, other)
    return max(one, other) if name in _STATES else one + other


def text_of(source: Sequence[Family]) -> bytes:
    """Render Prometheus' text format."""
    return generate_latest(_Fixed(source))


class _Fixed(Collector):
    def __init__(self, source: Sequence[Family]) -> None:
        self._source = source

    def collect(self) -> Iterable[Metric]:
        for name, documentation, kind, values in self._source:
            metric = Metric(name, documentation, kind)
            for sample, labels, value in values:
                metric.add_sample(sample, labels, value)
            yield metric
