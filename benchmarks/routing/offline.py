"""What could have been done by somebody who knew the future: schedules found by search, for small cases.

A plan gives each job its server, its turn there, and whether it runs alone. The best one found is no bound in the
strict sense, as the search may miss a better one; nobody who learns of jobs as they come can be expected to be near it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ollama_router_core.routing.strategies import STRATEGIES
from ollama_router_core.simulation.comparison import ROUTERS, serve
from ollama_router_core.simulation.engine import Action, Dispatch, Router, SimulationResult
from ollama_router_core.simulation.report import percentile
from ollama_router_core.simulation.residency import Event
from ollama_router_core.simulation.scenarios import Scenario
from ollama_router_core.simulation.server_state import ServerState
from ollama_router_core.simulation.workload import Job, SimulatedModel

__all__ = ["Planned", "PlannedRouter", "best_plan", "cost"]

BEGINNINGS = ("least connections", *(name for name in ROUTERS if name.removesuffix(" on arrival") in STRATEGIES))
"""The routers whose schedules are improved on."""


@dataclass(frozen=True, slots=True)
class Planned:
    """Where one job runs: its server, its turn among the jobs there, and whether it waits until nothing else runs."""

    server: str
    turn: float
    alone: bool = False


class PlannedRouter(Router):
    """Sends jobs as planned: each after those before it at its server, as soon as its model has a free slot there."""

    name = "offline"

    def __init__(self, plan: Sequence[Planned]) -> None:
        self._plan = plan
        order = sorted(range(len(plan)), key=lambda number: (plan[number].turn, number))
        self._lines: dict[str, list[int]] = {}
        for number in reversed(order):
            self._lines.setdefault(plan[number].server, []).append(number)
        self._here: dict[int, Job] = {}
        self._running: dict[str, dict[int, Job]] = {}
        self._servers: Mapping[str, ServerState] = {}

    def start(self, servers: Mapping[str, ServerState], models: Mapping[str, SimulatedModel]) -> None:
        """Remember the fleet."""
        del models
        self._servers = servers
        self._running = {name: {} for name in servers}

    def arrive(self, job: Job, now: float) -> Iterable[Action]:
        """Note a job that came; it may be its turn."""
        del now
        self._here[job.number] = job
        return self._next(self._plan[job.number].server)

    def observe(self, server: str, event: Event, now: float) -> Iterable[Action]:
        """Note an answer that has ended; it may let the next one go."""
        del now
        if event.kind != "finished" or event.timing is None:
            return ()
        del self._running[server][event.timing.job.number]
        return self._next(server)

    def _next(self, server: str) -> list[Action]:
        line, running = self._lines[server], self._running[server]
        found: list[Action] = []
        while line and line[-1] in self._here and self._may_go(server, self._here[line[-1]]):
            job = self._here[line.pop()]
            running[job.number] = job
            found.append(Dispatch(job, server))
        return found

    def _may_go(self, server: str, job: Job) -> bool:
        running = self._running[server].values()
        if self._plan[job.number].alone:
            return not running
        alike = sum([one.model == job.model for one in running])
        return alike < self._servers[server].machine.num_parallel


def cost(result: SimulationResult) -> float:
    """Return what a plan is to minimise: p95 plus mean of the seconds to the first token."""
    waits = [one.ttft for one in result.outcomes] + [one.wait for one in result.rejections]
    return percentile(waits, 0.95) + sum(waits) / max(1, len(waits))


def best_plan(
    scenario: Scenario, rng: random.Random, *, tries: int, beginnings: Sequence[str] = BEGINNINGS
) -> SimulationResult:
    """Find the best result of `tries` plans a beginning: what one of the routers did, changed step by step.

    Raises:
        ValueError: a job fits on no server.
    """
    homes = _homes(scenario)
    found: list[tuple[float, SimulationResult]] = []
    for name in beginnings:
        begun = serve(ROUTERS[name](scenario.machines, scenario.knowledge), scenario)
        plan = _plan_of(begun, homes)
        found.append(_improved(scenario, plan, homes, rng, tries))
    return min(found, key=lambda one: one[0])[1]


def _homes(scenario: Scenario) -> list[list[str]]:
    models = {one.name: one for one in scenario.models}
    homes = [[one.name for one in scenario.machines if one.holds(models[job.model])] for job in scenario.jobs]
    if not all(homes):
        raise ValueError("a job fits on no server")
    return homes


def _plan_of(result: SimulationResult, homes: Sequence[Sequence[str]]) -> list[Planned]:
    """Turn what was done into a plan; a job that was refused goes last to its first home."""
    plan = [Planned(names[0], math.inf) for names in homes]
    for one in result.outcomes:
        plan[one.job.number] = Planned(one.server, one.sent)
    return plan


def _improved(
    scenario: Scenario, plan: list[Planned], homes: Sequence[Sequence[str]], rng: random.Random, tries: int
) -> tuple[float, SimulationResult]:
    best = serve(PlannedRouter(plan), scenario)
    least = cost(best)
    for _ in range(tries):
        other = _stepped(plan, scenario.jobs, homes, rng)
        result = serve(PlannedRouter(other), scenario)
        found = cost(result)
        if found <= least:
            plan, best, least = other, result, found
    return least, replace(best, router="offline")


def _stepped(
    plan: Sequence[Planned], jobs: Sequence[Job], homes: Sequence[Sequence[str]], rng: random.Random
) -> list[Planned]:
    """One job, or all of a model, elsewhere; one job at another turn; one that runs alone, or no more."""
    other = list(plan)
    number = rng.randrange(len(plan))
    step = rng.random()
    if step < 0.4:
        other[number] = replace(plan[number], server=rng.choice(homes[number]))
    elif step < 0.5:
        server = rng.choice(homes[number])
        for one in [one for one, job in enumerate(jobs) if job.model == jobs[number].model]:
            other[one] = replace(plan[one], server=server)
    elif step < 0.9:
        turn = plan[rng.randrange(len(plan))].turn
        other[number] = replace(plan[number], turn=turn + rng.choice((-1e-3, 1e-3)))
    else:
        other[number] = replace(plan[number], alone=not plan[number].alone)
    return other
