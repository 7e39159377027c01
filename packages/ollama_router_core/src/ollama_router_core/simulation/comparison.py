"""The same jobs on the same servers under one router after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from ollama_router_core.config.settings import StrategyName
from ollama_router_core.routing.strategies import STRATEGIES
from ollama_router_core.simulation.baselines import BASELINES
from ollama_router_core.simulation.engine import Router, simulate
from ollama_router_core.simulation.machine import Machine
from ollama_router_core.simulation.report import Summary, summarise
from ollama_router_core.simulation.routers import StrategyRouter
from ollama_router_core.simulation.scenarios import Scenario

__all__ = ["ROUTERS", "compare"]

_Maker = Callable[[Sequence[Machine]], Router]


def _baseline(name: str) -> _Maker:
    def make(machines: Sequence[Machine]) -> Router:
        del machines
        return BASELINES[name]()

    return make


def _strategy(strategy: StrategyName, *, late: bool = True) -> _Maker:
    return lambda machines: StrategyRouter(strategy, machines, late=late)


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
        router = ROUTERS[name](scenario.machines)
        result = simulate(router, scenario.machines, scenario.models, scenario.jobs, outages=scenario.outages)
        yield summarise(result)
