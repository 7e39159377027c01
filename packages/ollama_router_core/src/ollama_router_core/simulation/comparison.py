"""Comparison of routers with the same jobs and servers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace  # noqa: TID251 - these are dataclasses

from ollama_router_core.config.settings import StrategyName
from ollama_router_core.routing.strategies import STRATEGIES
from ollama_router_core.simulation.baselines import BASELINES, all_resident
from ollama_router_core.simulation.engine import Router, SimulationResult, simulate
from ollama_router_core.simulation.report import Summary, summarise
from ollama_router_core.simulation.routers import Knowledge, StrategyRouter
from ollama_router_core.simulation.scenarios import Scenario
from ollama_router_core.simulation.server_hardware import Machine
from ollama_router_core.simulation.what_if import Change, changed

__all__ = ["ROUTERS", "bound", "compare", "results", "serve"]


_Factory = Callable[[Sequence[Machine], Knowledge], Router]
"""Creates a router for machines; only the product's strategies use the knowledge."""


def _baseline(name: str) -> _Factory:
    return lambda _machines, _knowledge: BASELINES[name]()


def _strategy(strategy: StrategyName, *, late: bool = True) -> _Factory:
    return lambda machines, knowledge: StrategyRouter(strategy, machines, late=late, knowledge=knowledge)


ROUTERS: Mapping[str, _Factory] = {
    **{name: _baseline(name) for name in BASELINES},
    **{f"{name} on arrival": _strategy(name, late=False) for name, one in STRATEGIES.items() if one.binds_late},
    **{name: _strategy(name) for name in STRATEGIES},
}
"""Factories by name: the baselines, then the product's strategies."""


def compare(
    scenario: Scenario, routers: Iterable[str] = tuple(ROUTERS), change: Change | None = None
) -> Iterator[Summary]:
    """Yield a summary per router as it finishes; with a change, also a second one for the changed scenario.

    Raises:
        KeyError: a router's name is unknown.
        ConfigError: the change does not apply to these servers.
    """
    return map(summarise, results(scenario, routers, change))


def results(
    scenario: Scenario,
    routers: Iterable[str],
    change: Change | None = None,
    on_arrival: Callable[[], object] | None = None,
) -> Iterator[SimulationResult]:
    """Yield the results that `compare` summarises; `on_arrival` is called for each arriving job."""
    other = changed(scenario, change) if change else None
    for name in routers:
        yield serve(ROUTERS[name](scenario.machines, scenario.knowledge), scenario, on_arrival)
        if other is not None:
            result = serve(ROUTERS[name](other.machines, other.knowledge), other, on_arrival)
            yield replace(result, router=f"{name}, {change}")


def bound(scenario: Scenario) -> Summary:
    """Summarise the lower bound: the same machines with every model always loaded, by true speeds and lengths."""
    machines = tuple(replace(one, resident=True) for one in scenario.machines)
    return summarise(serve(all_resident(), replace(scenario, machines=machines)))


def serve(router: Router, scenario: Scenario, on_arrival: Callable[[], object] | None = None) -> SimulationResult:
    """Run one router on a scenario; `on_arrival` is called for each arriving job."""
    return simulate(
        router,
        scenario.machines,
        scenario.models,
        scenario.jobs,
        outages=scenario.outages,
        slowdowns=scenario.slowdowns,
        on_arrival=on_arrival,
    )
