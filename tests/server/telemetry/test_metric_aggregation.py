"""Figures of several workers as one."""

from __future__ import annotations

import json

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from ollama_router_server.telemetry.metric_aggregation import Family, add_up, counted, families, text_of


def worker(requests: int, *, up: int = 1, seconds: float = 0.2) -> list[Family]:
    """What one worker counted, as another reads it from a file."""
    registry = CollectorRegistry()
    Counter("orouter_requests", "Ended.", ("server",), registry=registry).labels("a").inc(requests)
    Gauge("orouter_in_flight", "Under way.", registry=registry).set(requests)
    Gauge("orouter_longest_wait_seconds", "Waits.", registry=registry).set(seconds)
    Gauge("orouter_server_up", "Up.", ("server",), registry=registry).labels("a").set(up)
    Histogram("orouter_ttft_seconds", "First byte.", registry=registry, buckets=(0.1, 1.0)).observe(seconds)
    found: list[Family] = json.loads(json.dumps(families(registry.collect())))
    return found


def values(source: list[Family]) -> dict[str, float]:
    """Samples of the text by name and, for buckets, limit."""
    parsed = text_string_to_metric_families(text_of(source).decode())
    return {s.name + s.labels.get("le", ""): s.value for family in parsed for s in family.samples}


def test_counts_and_histograms_are_added_up_and_states_are_not():
    """Two workers' figures in Prometheus' own text."""
    seen = values(add_up([worker(3, up=0, seconds=0.05), worker(4, seconds=5.0)]))
    assert (seen["orouter_requests_total"], seen["orouter_in_flight"], seen["orouter_server_up"]) == (7, 7, 1)
    assert seen["orouter_longest_wait_seconds"] == 5.0
    assert (seen["orouter_ttft_seconds_count"], seen["orouter_ttft_seconds_bucket0.1"]) == (2, 1)
    assert seen["orouter_ttft_seconds_bucket+Inf"] == 2


def test_what_a_dead_worker_leaves_are_its_counts():
    """Its requests under way are over, those that ended stay."""
    seen = values(add_up([worker(1), counted(worker(9))]))
    assert (seen["orouter_requests_total"], seen["orouter_in_flight"]) == (10, 1)


def test_one_worker_alone_reads_as_before():
    """Adding up one source changes nothing."""
    seen = worker(5)
    assert add_up([seen]) == [(*family[:3], [tuple(s) for s in family[3]]) for family in seen]
