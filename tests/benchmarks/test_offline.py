"""Schedules by somebody who knows the future: as good as trying everything where that is possible."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial
from itertools import permutations, product

import pytest

from benchmarks.routing.offline import Planned, PlannedRouter, best_plan, cost
from ollama_router_core.simulation.comparison import ROUTERS, serve
from ollama_router_core.simulation.scenarios import FLEET, MODELS, Scenario
from ollama_router_core.simulation.workload import Job

RNG = partial(random.Random, 1)
MACHINES = (replace(FLEET[1], vram_gib=12), replace(FLEET[2], vram_gib=12))
JOBS = tuple(
    Job(number=number, at=float(number), model=MODELS[model].name, prompt_tokens=800, output_tokens=tokens)
    for number, (model, tokens) in enumerate(((0, 900), (3, 50), (0, 50), (5, 300)))
)
SCENARIO = Scenario(name="tiny", machines=MACHINES, models=MODELS, jobs=JOBS)


def test_the_search_finds_what_trying_everything_finds():
    """Four jobs on two servers: every assignment in every order."""
    everything = min(
        cost(
            serve(PlannedRouter([Planned(server, turn) for server, turn in zip(servers, turns, strict=True)]), SCENARIO)
        )
        for servers in product([one.name for one in MACHINES], repeat=len(JOBS))
        for turns in permutations(range(len(JOBS)))
    )
    assert cost(best_plan(SCENARIO, RNG(), tries=300)) <= everything + 1e-9


def test_no_router_is_better_than_the_plan_that_began_as_it():
    """The search only ever keeps what is better."""
    planned = best_plan(SCENARIO, RNG(), tries=20)
    assert planned.router == "offline"
    assert not planned.rejections
    for name in ("fastest", "least_loaded"):
        assert cost(planned) <= cost(serve(ROUTERS[name](MACHINES, SCENARIO.knowledge), SCENARIO))


def test_a_job_that_runs_alone_waits_for_the_others():
    """And those after it wait for it."""
    plan = [Planned("mid1", 0.0), Planned("mid1", 1.0, alone=True), Planned("mid1", 2.0), Planned("mid1", 3.0)]
    result = serve(PlannedRouter(plan), SCENARIO)
    first, second, *_ = result.outcomes
    assert second.sent == first.finished


def test_a_job_that_fits_nowhere_has_no_plan():
    """It is said, not left out."""
    large = replace(SCENARIO, jobs=(replace(JOBS[0], model=MODELS[-1].name),))
    with pytest.raises(ValueError, match="fits on no server"):
        best_plan(large, RNG(), tries=1)
