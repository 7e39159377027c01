"""What a router is told wrongly makes it a little worse, and no more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ollama_router_core.simulation import Knowledge, Scenario, Slowdown, compare, parse_trace
from ollama_router_core.simulation.matrix import Case, make_case

DATA = Path(__file__).parents[3] / "benchmarks" / "data"
CASES = {
    "conversations": Case(fleet="five", popularity="zipf", rate=0.32, slice_="conversations 1", first=0, count=600),
    "bursts": Case(fleet="five", popularity="zipf", rate=0.16, slice_="code 1", first=0, count=600),
}
TRACES = {"conversations": "azure_llm_2023_conv_part1.csv", "bursts": "azure_llm_2023_code.csv"}
MOST = 1.5


@cache
def scenario_of(case: str) -> Scenario:
    """A scenario whose router is told nothing."""
    return make_case(CASES[case], parse_trace((DATA / TRACES[case]).read_text(encoding="utf-8")))


def told(scenario: Scenario, change: Mapping[str, Mapping[str, Any]] | None = None, **more: Any) -> Scenario:
    """The scenario with the memory of every server told, but for a change by server."""
    true = {one.name: {"max_memory_gb": one.vram_gib} for one in scenario.machines}
    servers = {name: {**row, **(change or {}).get(name, {})} for name, row in true.items()}
    return replace(scenario, knowledge=Knowledge(servers=servers, **more))


def p95(scenario: Scenario) -> float:
    """Seconds to the first token, of `fastest`."""
    (summary,) = compare(scenario, ["fastest"])
    return summary.ttft_p95


@cache
def right(case: str) -> float:
    """What right knowledge gives."""
    return p95(told(scenario_of(case)))


def four_slots(scenario: Scenario) -> Scenario:
    """Every server has one."""
    return told(scenario, {one.name: {"num_parallel": 4} for one in scenario.machines})


def too_much_memory(scenario: Scenario) -> Scenario:
    """27 GiB for 24."""
    return told(scenario, {name: {"max_memory_gb": 27.0} for name in ("mid1", "mid2")})


def slowed(scenario: Scenario) -> Scenario:
    """One server takes three times as long for ten minutes."""
    return replace(told(scenario), slowdowns=(Slowdown(server="mid1", start=600.0, seconds=600.0),))


def broken(scenario: Scenario) -> Scenario:
    """One server fails every load of the most popular model."""
    hurt = [replace(one, broken=frozenset({"8b:latest"} if one.name == "mid1" else ())) for one in scenario.machines]
    return replace(told(scenario), machines=tuple(hurt))


WRONG = {
    "nothing told": lambda scenario: scenario,
    "four slots told, one real": four_slots,
    "27 GiB told for 24": too_much_memory,
    "speeds told twice too high": lambda scenario: told(scenario, speed_error=2.0),
    "speeds told twice too low": lambda scenario: told(scenario, speed_error=0.5),
    "slow to a third for ten minutes": slowed,
    "one server cannot load the first model": broken,
    "reports ten seconds late": lambda scenario: told(scenario, late=10.0),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("case", CASES)
def test_wrong_knowledge_degrades_and_does_not_collapse(case: str, name: str) -> None:
    """The 95th percentile to the first token is at most half as long again as with right knowledge."""
    assert p95(WRONG[name](scenario_of(case))) <= MOST * right(case)
