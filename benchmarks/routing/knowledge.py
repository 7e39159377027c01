"""What wrong knowledge costs `fastest`: `python benchmarks/routing/knowledge.py`.

The 95th percentile to the first token of a router that believes something wrong, against that of one which is told the
true memory and nothing wrong, over the same requests: a row for each configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from matrix import Case, make_case

from ollama_router_core.simulation.comparison import compare
from ollama_router_core.simulation.engine import Slowdown
from ollama_router_core.simulation.routers import Knowledge
from ollama_router_core.simulation.scenarios import Scenario
from ollama_router_core.simulation.workload import parse_trace

DATA = Path(__file__).parent.parent / "data"
TRACES = {"conversations": "azure_llm_2023_conv_part1.csv", "code": "azure_llm_2023_code.csv"}
CASES = {
    f"{case.fleet}, {case.rate:g}/s, {case.slice_}": case
    for case in (
        Case(fleet="five", popularity="zipf", rate=0.32, slice_="conversations 1", first=0, count=600),
        Case(fleet="five", popularity="zipf", rate=0.16, slice_="code 1", first=0, count=600),
        Case(fleet="five", popularity="zipf", rate=0.64, slice_="code 2", first=5000, count=600),
        Case(fleet="four equal", popularity="zipf", rate=0.32, slice_="code 1", first=0, count=600),
    )
}
POPULAR = "8b:latest"


@cache
def scenario_of(name: str) -> Scenario:
    """A configuration whose router is told nothing."""
    case = CASES[name]
    file = DATA / TRACES[case.slice_.split(" ", maxsplit=1)[0]]
    return make_case(case, parse_trace(file.read_text(encoding="utf-8")))


def told(scenario: Scenario, change: Mapping[str, Mapping[str, Any]] | None = None, **more: Any) -> Scenario:
    """The scenario with the memory of every server told, but for a change by server."""
    true = {one.name: {"max_memory_gb": one.vram_gib} for one in scenario.machines}
    servers = {name: {**row, **(change or {}).get(name, {})} for name, row in true.items()}
    return replace(scenario, knowledge=Knowledge(servers=servers, **more))


def four_slots(scenario: Scenario) -> Scenario:
    """Every server has one."""
    return told(scenario, {one.name: {"num_parallel": 4} for one in scenario.machines})


def too_much_memory(scenario: Scenario) -> Scenario:
    """27 GiB for 24."""
    return told(scenario, {one.name: {"max_memory_gb": 27.0} for one in scenario.machines if one.vram_gib == 24})


def slowed(scenario: Scenario) -> Scenario:
    """One server takes three times as long for ten minutes."""
    slowdown = Slowdown(server=scenario.machines[1].name, start=600.0, seconds=600.0)
    return replace(told(scenario), slowdowns=(slowdown,))


def broken(scenario: Scenario) -> Scenario:
    """One server fails every load of the most popular model."""
    first, second, *others = scenario.machines
    return replace(told(scenario), machines=(first, replace(second, broken=frozenset({POPULAR})), *others))


WRONG: Mapping[str, Callable[[Scenario], Scenario]] = {
    "nothing told": lambda scenario: scenario,
    "4 slots told, 1 real": four_slots,
    "27 GiB told for 24": too_much_memory,
    "speeds x 2": lambda scenario: told(scenario, speed_error=2.0),
    "speeds / 2": lambda scenario: told(scenario, speed_error=0.5),
    "slow to a third for 10 minutes": slowed,
    "one server cannot load the first model": broken,
    "polls 10 s late": lambda scenario: told(scenario, late=10.0),
}


def p95(scenario: Scenario) -> float:
    """Seconds to the first token, of `fastest`."""
    (summary,) = compare(scenario, ["fastest"])
    return summary.ttft_p95


@cache
def right(name: str) -> float:
    """What right knowledge gives."""
    return p95(told(scenario_of(name)))


def ratio(name: str, wrong: str) -> float:
    """What one kind of wrong knowledge gives, relative to right knowledge."""
    return p95(WRONG[wrong](scenario_of(name))) / right(name)


def rows() -> Iterator[list[str]]:
    """The table."""
    yield ["fleet, rate, trace", *WRONG]
    for name in CASES:
        yield [name, *(f"{ratio(name, wrong):.2f}" for wrong in WRONG)]


if __name__ == "__main__":
    for row in rows():
        print("|", " | ".join(row), "|", flush=True)
