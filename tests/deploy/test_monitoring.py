"""Dashboard and alert rules ask for metrics that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from ollama_router_core.errors import RouterError
from ollama_router_server.telemetry.histograms import Histogram
from ollama_router_server.telemetry.metric_aggregation import text_of
from ollama_router_server.telemetry.metrics import ConsoleGauges, Gauges, Metrics

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus"
_SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def existing() -> set[str]:
    """Names of every sample a router can tell."""
    counted = (
        "in_flight",
        "waiting",
        "longest_wait",
        "log_pending",
        "log_dropped",
        "log_lines_dropped",
        "coordination_away",
        "config_refused",
    )
    zeros = dict.fromkeys(counted, int)
    console = ConsoleGauges(sessions=0, watchers=0, cut=0)
    gauges = Gauges(servers=tuple, deciding=Histogram(), console=lambda: console, **zeros)
    metrics = Metrics(gauges)
    families = text_string_to_metric_families(text_of(metrics.families()).decode())
    return {family.name + suffix for family in families for suffix in _SUFFIXES[family.type]}


def alerts() -> list[str]:
    """The rules' expressions."""
    loaded = yaml.safe_load((RULES / "alerts.yml").read_text(encoding="utf-8"))
    return [rule["expr"] for group in loaded["groups"] for rule in group["rules"]]


def panels() -> list[str]:
    """The dashboard's expressions."""
    loaded = json.loads((DEPLOY / "grafana-dashboard.json").read_text(encoding="utf-8"))
    return [target["expr"] for panel in loaded["panels"] for target in panel["targets"]]


@pytest.mark.parametrize("expressions", [alerts(), panels()], ids=["alerts", "dashboard"])
def test_every_metric_named_exists(expressions: list[str]) -> None:
    """A misspelled name would be an alert that never comes."""
    named = {name for text in expressions for name in re.findall(r"\borouter_\w+", text)}
    assert named
    assert not named - existing()


def codes(kind: type[RouterError]) -> Iterator[str]:
    """The codes of an error and of all below it."""
    yield kind.code
    for below in kind.__subclasses__():
        yield from codes(below)


def test_every_error_code_named_exists() -> None:
    """Rules that look at one code look at one that there is."""
    named = {code for text in alerts() for code in re.findall(r'code="(\w+)"', text)}
    assert named
    assert named <= set(codes(RouterError))


def test_the_dashboard_shows_every_metric() -> None:
    """What is measured can be seen; those of the process alone are left to dashboards of their own."""
    shown = " ".join(panels())
    families = {
        re.sub(r"_(total|created|bucket|sum|count)$", "", name) for name in existing() if name.startswith("orouter_")
    }
    assert {name for name in families if name not in shown} <= {"orouter_in_flight"}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
@pytest.mark.parametrize("words", [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]])
def test_prometheus_takes_the_rules_and_they_say_what_they_should(words: list[str]) -> None:
    """By Prometheus' own tool: their syntax, and what comes of them with two routers."""
    program = shutil.which("promtool") or ""
    done = subprocess.run([program, *words], cwd=RULES, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried() -> None:
    """Each is expected to come at least once, with what its series say."""
    rules, tried = (
        yaml.safe_load((RULES / name).read_text(encoding="utf-8")) for name in ("alerts.yml", "alerts_test.yml")
    )
    named = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    come = {one["alertname"] for test in tried["tests"] for one in test["alert_rule_test"] if one["exp_alerts"]}
    assert come == named


def test_the_dashboard_is_for_any_number_of_routers() -> None:
    """Each of our metrics is of the routers that are chosen in it."""
    metrics = [found for text in panels() for found in re.findall(r"orouter_\w+(?:\{[^}]*\})?", text)]
    assert metrics
    assert all('{instance=~"$router"' in found for found in metrics)
