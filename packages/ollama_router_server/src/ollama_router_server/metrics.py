"""Figures for Prometheus.

Belongs here: the metrics' names, what a finished request adds to them, what is read when somebody asks.
Does not belong here: the route (`resources.metrics`), single requests (the request log).

Labels take values from the config and the code alone, never from a request: no client can make up new time series.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ollama_router_core.decision import Decision
from ollama_router_core.records import RequestRecord
from ollama_router_server.figures import Family, families

__all__ = ["Gauges", "Metrics"]

_NOWHERE = "none"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """What is asked for at the moment of a scrape; `servers` is each server's name with up and requests in flight."""

    in_flight: Callable[[], int]
    waiting: Callable[[], int]
    servers: Callable[[], Iterable[tuple[str, bool, int]]]
    log_pending: Callable[[], int]
    log_dropped: Callable[[], int]


class Metrics:
    """The metrics of one process, in a registry of its own. For one thread."""

    def __init__(self, gauges: Gauges) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self._requests = Counter(
            "orouter_requests", "Requests that ended.", ("server", "route", "status"), registry=registry
        )
        self._refused = Counter(
            "orouter_refused", "Requests refused before anybody was known to ask.", ("code",), registry=registry
        )
        self._errors = Counter(
            "orouter_errors", "Requests that ended with an error of the router's.", ("code",), registry=registry
        )
        self._decisions = Counter(
            "orouter_decisions", "Servers chosen, by strategy.", ("strategy", "server"), registry=registry
        )
        self._retries = Counter("orouter_retries", "Further servers tried.", registry=registry)
        self._tokens = Counter(
            "orouter_tokens", "Tokens as servers counted them.", ("server", "direction"), registry=registry
        )
        self._times = (
            self._histogram("orouter_queue_seconds", "Until a server was chosen."),
            self._histogram("orouter_ttft_seconds", "Until the first byte went to the client."),
            self._histogram("orouter_request_seconds", "Until the last byte went to the client."),
            self._histogram("orouter_load_seconds", "Loading the model, as the server reported it."),
        )
        self._of_server: dict[str, tuple[Histogram, ...]] = {}
        registry.register(_AtScrape(gauges))
        ProcessCollector(registry=registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(name, text, ("server",), buckets=_SECONDS, registry=self._registry)

    def _times_of(self, server: str) -> tuple[Histogram, ...]:
        """Kept, as finding a label's values costs more than counting."""
        found = self._of_server.get(server)
        if found is None:
            found = self._of_server[server] = tuple(times.labels(server) for times in self._times)
        return found

    def ended(self, record: RequestRecord, decision: Decision | None) -> None:
        """Count a request of a known user."""
        server = record.server or _NOWHERE
        self._requests.labels(server, record.path, _status(record.status)).inc()
        if record.error_code is not None:
            self._errors.labels(record.error_code).inc()
        if decision is not None and decision.ranking:
            self._decisions.labels(decision.strategy, decision.ranking[0]).inc()
        if record.attempts > 1:
            self._retries.inc(record.attempts - 1)
        for direction, count in (("in", record.prompt_tokens), ("out", record.completion_tokens)):
            if count:
                self._tokens.labels(server, direction).inc(count)
        values = (record.queue_ms, record.ttft_ms, record.total_ms, record.load_ms)
        for times, milliseconds in zip(self._times_of(server), values, strict=True):
            if milliseconds is not None:
                times.observe(milliseconds / 1000)

    def refused(self, code: str) -> None:
        """Count a request of a stranger."""
        self._refused.labels(code).inc()

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self._registry)

    def families(self) -> list[Family]:
        """All of them as plain values, to be added to those of other workers."""
        return families(self._registry.collect())


def _status(status: int) -> str:
    """Servers may send any three digits: classes are few."""
    return "client_left" if status == 499 else f"{status // 100}xx"


class _AtScrape(Collector):
    """What others know already and need not count twice."""

    def __init__(self, gauges: Gauges) -> None:
        self._gauges = gauges

    def collect(self) -> Iterable[Metric]:
        gauges = self._gauges
        yield GaugeMetricFamily("orouter_in_flight", "Requests that have not ended.", value=gauges.in_flight())
        yield GaugeMetricFamily("orouter_waiting", "Requests that wait for a server.", value=gauges.waiting())
        up = GaugeMetricFamily("orouter_server_up", "1 if the server answered its last probe.", labels=("server",))
        running = GaugeMetricFamily("orouter_server_in_flight", "Requests on the server.", labels=("server",))
        for name, is_up, count in gauges.servers():
            up.add_metric((name,), is_up)
            running.add_metric((name,), count)
        yield up
        yield running
        yield GaugeMetricFamily("orouter_log_pending", "Log rows that are not written yet.", value=gauges.log_pending())
        yield CounterMetricFamily("orouter_log_dropped", "Log rows that were lost.", value=gauges.log_dropped())
