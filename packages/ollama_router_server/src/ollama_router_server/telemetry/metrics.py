"""Metrics for Prometheus.

Label values come from the config and the code, never from a request, so that no client can create time series. During a
request, only plain numbers in dictionaries are incremented; they become metrics at a scrape.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from msgspec import Struct
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from ollama_router_core.exchange.machine import CLIENT_LEFT
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_core.routing.decision import Decision
from ollama_router_server.telemetry.histograms import Histogram
from ollama_router_server.telemetry.last_hour import LastHour
from ollama_router_server.telemetry.metric_aggregation import Family, families

__all__ = ["ConsoleGauges", "Gauges", "Metrics", "ServerGauges"]

_NOWHERE = "none"
_TIMES = (
    ("orouter_queue_seconds", "Time until a server was chosen."),
    ("orouter_ttft_seconds", "Time until the first byte was sent to the client."),
    ("orouter_request_seconds", "Time until the last byte was sent to the client."),
    ("orouter_load_seconds", "Load time of the model, as reported by the server."),
)
_BREAKER = {"closed": 0, "half_open": 1, "open": 2}


class ServerGauges(NamedTuple):
    """The state of one server; `breaker` as in `Health.to_json`, loads and evictions since the start."""

    name: str
    up: bool
    in_flight: int
    breaker: str
    draining: bool
    loads: int
    evictions: int


class ConsoleGauges(NamedTuple):
    """The web console: sessions opened, current watchers, and watchers cut because they did not read."""

    sessions: int
    watchers: int
    cut: int


class Gauges(Struct, frozen=True, kw_only=True):
    """Sources read at a scrape; `deciding` is the time to choose a server, `longest_wait` is in seconds.

    `coordination_away` is 1 while coordination is unavailable, 0 while it is available, None without it.
    """

    in_flight: Callable[[], int]
    waiting: Callable[[], int]
    longest_wait: Callable[[], float]
    servers: Callable[[], Iterable[ServerGauges]]
    deciding: Histogram
    log_pending: Callable[[], int]
    log_dropped: Callable[[], int]
    log_lines_dropped: Callable[[], int]
    coordination_away: Callable[[], int | None]
    config_refused: Callable[[], bool]
    console: Callable[[], ConsoleGauges]


class _ServerTotals:
    """Totals of one server's requests."""

    __slots__ = ("load", "queue", "requests", "tokens_in", "tokens_out", "total", "ttft", "wasted")

    def __init__(self) -> None:
        self.requests = Counter[tuple[str, int]]()  # by route and class of status
        self.queue, self.ttft, self.total, self.load = Histogram(), Histogram(), Histogram(), Histogram()
        self.tokens_in = 0
        self.tokens_out = 0
        self.wasted = 0.0

    @property
    def times(self) -> tuple[Histogram, ...]:
        """Return the histograms in the order of `_TIMES`."""
        return self.queue, self.ttft, self.total, self.load

    def observe(self, record: RequestRecord) -> None:
        """Add the times of a request."""
        queue, ttft, total, load = record.queue_ms, record.ttft_ms, record.total_ms, record.load_ms
        if queue is not None:
            self.queue.observe(queue / 1000)
        if ttft is not None:
            self.ttft.observe(ttft / 1000)
        if load is not None:
            self.load.observe(load / 1000)
        self.total.observe(total / 1000)
        if record.status == CLIENT_LEFT and record.server is not None:
            self.wasted += (total - (queue or 0.0)) / 1000


class Metrics:
    """The metrics of one process, in a registry of its own, and its `last_hour`. Not thread-safe."""

    def __init__(self, gauges: Gauges) -> None:
        self.last_hour = LastHour()
        self._servers: dict[str, _ServerTotals] = {}
        self._refused = Counter[str]()
        self._errors = Counter[str]()
        self._decisions = Counter[tuple[str, str]]()
        self._preemptions = Counter[str]()
        self._retries = 0
        self._registry = CollectorRegistry()
        self._registry.register(_AtScrape(self._counted, gauges))
        ProcessCollector(registry=self._registry)

    def ended(self, record: RequestRecord, decision: Decision | None, preempted: Iterable[str] = ()) -> None:
        """Count a finished request of a known user, which was `preempted` on these servers."""
        name, status = record.server or _NOWHERE, record.status
        server = self._servers.get(name)
        if server is None:
            server = self._servers[name] = _ServerTotals()
        server.requests[record.path, status if status == CLIENT_LEFT else status // 100] += 1
        if record.error_code is not None:
            self._errors[record.error_code] += 1
        if decision is not None and decision.ranking:
            self._decisions[decision.strategy, decision.ranking[0]] += 1
        if record.attempts > 1:
            self._retries += record.attempts - 1
        for name in preempted:
            self._preemptions[name] += 1
        if record.prompt_tokens is not None:
            server.tokens_in += record.prompt_tokens
        if record.completion_tokens is not None:
            server.tokens_out += record.completion_tokens
        server.observe(record)
        self.last_hour.add(record)

    def refused(self, code: str) -> None:
        """Count a request that was rejected before a user was identified."""
        self._refused[code] += 1

    def families(self) -> list[Family]:
        """Return all metrics as plain values, to be merged with those of other workers."""
        return families(self._registry.collect())

    def _counted(self) -> Iterable[Metric]:
        yield from self._of_servers()
        errors, refused = ("orouter_errors", "orouter_refused")
        yield _counter(errors, "Requests that ended with an error of the router.", "code", self._errors)
        yield _counter(refused, "Requests rejected before a user was identified.", "code", self._refused)
        decisions = CounterMetricFamily(
            "orouter_decisions", "Servers chosen, by strategy.", labels=("strategy", "server")
        )
        for choice, count in self._decisions.items():
            decisions.add_metric(choice, count)
        yield decisions
        yield CounterMetricFamily("orouter_retries", "Attempts after the first.", value=self._retries)
        preemptions, text = "orouter_preemptions", "Batch requests taken off a server for an interactive one."
        yield _counter(preemptions, text, "server", self._preemptions)

    def _of_servers(self) -> Iterable[Metric]:
        requests = CounterMetricFamily(
            "orouter_requests", "Finished requests of known users.", labels=("server", "route", "status")
        )
        tokens = CounterMetricFamily(
            "orouter_tokens", "Tokens as counted by the servers.", labels=("server", "direction")
        )
        for name, server in self._servers.items():
            for (route, status), count in server.requests.items():
                requests.add_metric((name, route, _status(status)), count)
            tokens.add_metric((name, "in"), server.tokens_in)
            tokens.add_metric((name, "out"), server.tokens_out)
        yield requests
        yield tokens
        wasted = {name: server.wasted for name, server in self._servers.items()}
        yield _counter(
            "orouter_wasted_seconds", "Server time spent on answers whose client disconnected.", "server", wasted
        )
        for index, (metric, text) in enumerate(_TIMES):
            times = HistogramMetricFamily(metric, text, labels=("server",))
            for name, server in self._servers.items():
                times.add_metric((name,), server.times[index].buckets(), server.times[index].total)
            yield times


def _status(status: int) -> str:
    """Reduce a status to its class: servers may send any three digits."""
    return "client_left" if status == CLIENT_LEFT else f"{status}xx"


def _counter(name: str, text: str, label: str, counts: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(name, text, labels=(label,))
    for value, count in counts.items():
        family.add_metric((value,), count)
    return family


class _AtScrape(Collector):
    """Collects this process's counts, and the values that other objects count."""

    def __init__(self, counted: Callable[[], Iterable[Metric]], gauges: Gauges) -> None:
        self._counted = counted
        self._gauges = gauges

    def collect(self) -> Iterable[Metric]:
        gauges = self._gauges
        yield from self._counted()
        yield HistogramMetricFamily(
            "orouter_decision_seconds",
            "Time to choose a server, for requests that do not wait.",
            buckets=gauges.deciding.buckets(),
            sum_value=gauges.deciding.total,
        )
        yield GaugeMetricFamily("orouter_in_flight", "Requests in flight.", value=gauges.in_flight())
        yield GaugeMetricFamily("orouter_waiting", "Requests in the queue.", value=gauges.waiting())
        yield GaugeMetricFamily(
            "orouter_longest_wait_seconds", "Wait of the first request in the queue.", value=gauges.longest_wait()
        )
        yield from _server_metrics(tuple(gauges.servers()))
        away = gauges.coordination_away()
        if away is not None:
            yield GaugeMetricFamily(
                "orouter_coordination_away", "Workers that cannot reach the coordination store.", value=away
            )
        refused = gauges.config_refused()
        yield GaugeMetricFamily(
            "orouter_config_refused",
            "1 while the config file has problems and the previous config is in effect.",
            value=refused,
        )
        yield GaugeMetricFamily("orouter_log_pending", "Log rows not written yet.", value=gauges.log_pending())
        yield CounterMetricFamily("orouter_log_dropped", "Log rows dropped.", value=gauges.log_dropped())
        yield CounterMetricFamily(
            "orouter_log_lines_dropped",
            "Lines dropped from the files in request_log.directory.",
            value=gauges.log_lines_dropped(),
        )
        yield from _console_metrics(gauges.console())


def _console_metrics(console: ConsoleGauges) -> Iterable[Metric]:
    opened, cut = "orouter_console_sessions", "orouter_console_watchers_cut"
    yield CounterMetricFamily(opened, "Web console sessions that were opened.", value=console.sessions)
    yield GaugeMetricFamily("orouter_console_watchers", "Open event streams of console pages.", value=console.watchers)
    yield CounterMetricFamily(cut, "Event streams cut because the page did not read them.", value=console.cut)


def _server_metrics(servers: Iterable[ServerGauges]) -> Iterable[Metric]:
    label = ("server",)
    up = GaugeMetricFamily("orouter_server_up", "1 if the server is up.", labels=label)
    running = GaugeMetricFamily("orouter_server_in_flight", "Requests in flight on the server.", labels=label)
    breaker = GaugeMetricFamily(
        "orouter_server_breaker", "0 closed, 1 half-open (the next request is a trial), 2 open.", labels=label
    )
    draining = GaugeMetricFamily("orouter_server_draining", "1 if the server is draining.", labels=label)
    loads = CounterMetricFamily("orouter_cold_loads", "Model loads caused by requests.", labels=label)
    evictions = CounterMetricFamily(
        "orouter_evictions", "Models evicted early because another was loaded for a request.", labels=label
    )
    for server in servers:
        name = (server.name,)
        up.add_metric(name, server.up)
        running.add_metric(name, server.in_flight)
        breaker.add_metric(name, _BREAKER[server.breaker])
        draining.add_metric(name, server.draining)
        loads.add_metric(name, server.loads)
        evictions.add_metric(name, server.evictions)
    yield from (up, running, breaker, draining, loads, evictions)
