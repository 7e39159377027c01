"""The same jobs on the same servers under one router after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from ollama_router_core.config.settings import StrategyName
from ollama_router_core.routing.strategies import STRATEGIES
from ollama_router_core.simulation.baselines import BASELINES, all_resident
from ollama_router_core.simulation.engine import Router, simulate
from ollama_router_core.simulation.machine import Machine
from ollama_router_core.simulation.report import Summary, summarise
from ollama_router_core.simulation.routers import Knowledge, StrategyRouter
from ollama_router_core.simulation.scenarios import Scenario

__all__ = ["ROUTERS", "bound", "compare"]


class _Maker(Protocol):
    """Makes a fresh router for some machines; what is known beforehand matters to our own strategies alone."""

    def __call__(self, machines: Sequence[Machine], knowledge: Knowledge | None = None, /) -> Router:
        """The router."""


def _baseline(name: str) -> _Maker:
    def make(machines: Sequence[Machine], knowledge: Knowledge | None = None) -> Router:
        del machines, knowledge
        return BASELINES[name]()

    return make


def _strategy(strategy: StrategyName, *, late: bool = True) -> _Maker:
    def make(machines: Sequence[Machine], knowledge: Knowledge | None = None) -> Router:
        return StrategyRouter(strategy, machines, late=late, knowledge=knowledge)

    return make


ROUTERS: Mapping[str, _Maker] = {
    **{name: _baseline(name) for name in BASELINES},
    **{f"{name} on arrival": _strategy(name, late=False) for name, one in STRATEGIES.items() if one.binds_late},
    **{name: _strategy(name) for name in STRATEGIES},
}
"""Makers by name: what people use today, then our own strategies."""


def compare(scenario: Scenario, routers: Iterable[str] = tuple(ROUTERS)) -> Iterator[Summary]:
    """One summary a router, as each is done.

    Raises:
        KeyError: no router has that name.
    """
    for name in routers:
        yield _run(ROUTERS[name](scenario.machines, scenario.knowledge), scenario)


def bound(scenario: Scenario) -> Summary:
    """What the same machines would do with every model always loaded, by true speeds and lengths: nothing real can."""
    machines = tuple(replace(one, resident=True) for one in scenario.machines)
    return _run(all_resident(), replace(scenario, machines=machines))


def _run(router: Router, scenario: Scenario) -> Summary:
    result = simulate(
        router,
        scenario.machines,
        scenario.models,
        scenario.jobs,
        outages=scenario.outages,
        slowdowns=scenario.slowdowns,
    )
    return summarise(result)
