"""The matrix: every configuration once, a quarter that touches all of it, rows that are JSON."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

from benchmarks.routing.matrix import (
    FLEETS,
    HELD_OUT_FLEETS,
    POPULARITIES,
    RATES,
    cases,
    make_case,
    quarter,
    run_case,
)
from ollama_router_core.simulation.scenarios import MODELS
from ollama_router_core.simulation.workload import Arrival

SLICES = {"trace 1": (0, 40), "trace 2": (40, 40), "trace 3": (80, 40)}
ARRIVALS = tuple(Arrival(at=7.0 * number, prompt_tokens=500, output_tokens=20) for number in range(120))


def test_a_quarter_touches_every_fleet_popularity_rate_and_slice():
    """A fixed one, so that results can be compared."""
    every = list(cases(SLICES))
    chosen = quarter(every)
    assert len(set(every)) == len(every) == len(FLEETS) * len(POPULARITIES) * len(RATES) * len(SLICES)
    assert abs(len(chosen) - len(every) / 4) <= 1
    pairs = Counter((case.fleet, case.rate) for case in chosen) | Counter((case.rate, case.slice_) for case in chosen)
    assert len(pairs) == len(FLEETS) * len(RATES) + len(RATES) * len(SLICES)


def test_a_case_has_the_rate_and_the_users_that_it_names():
    """The slice is stretched to its rate; a fleet is asked only for what it can hold."""
    case = next(case for case in cases(SLICES) if case.rate == 0.64 and case.slice_ == "trace 2")
    scenario = make_case(case, ARRIVALS)
    assert len(scenario.jobs) == 40
    assert abs(39 / scenario.jobs[-1].at - 0.64) < 1e-6
    assert len({job.user for job in scenario.jobs}) > 1
    assert all(any(one.holds(model) for one in scenario.machines) for model in scenario.models
               if any(job.model == model.name for job in scenario.jobs))  # fmt: skip
    assert make_case(case, ARRIVALS) == scenario


def test_a_seed_draws_models_and_users_anew():
    """The arrivals stay where they are."""
    first, second = (make_case(next(cases(SLICES, seeds=[seed])), ARRIVALS).jobs for seed in (1, 2))
    assert [job.at for job in first] == [job.at for job in second]
    assert [job.model for job in first] != [job.model for job in second]
    assert [job.user for job in first] != [job.user for job in second]


def test_held_out_fleets_are_others():
    """None has the machines of one that rules are tuned on; each is asked for what it can hold."""
    kinds = [[replace(one, name="") for one in fleet] for fleet in FLEETS.values()]
    assert not FLEETS.keys() & HELD_OUT_FLEETS.keys()
    assert all([replace(one, name="") for one in fleet] not in kinds for fleet in HELD_OUT_FLEETS.values())
    for case in cases(SLICES, fleets=HELD_OUT_FLEETS, seeds=[2]):
        scenario = make_case(case, ARRIVALS)
        asked = {job.model for job in scenario.jobs}
        assert all(any(one.holds(model) for one in scenario.machines) for model in MODELS if model.name in asked)


def test_a_row_is_json_with_every_router():
    """And with how often each model was asked for, and the largest of them."""
    row = json.loads(json.dumps(run_case(next(cases(SLICES)), ARRIVALS, ["least_loaded", "fastest"], bounded=True)))
    assert set(row["routers"]) == {"least_loaded", "fastest", "all resident"}
    assert sum(row["models"].values()) == 40
    assert row["largest"] in row["models"]
    assert row["load_of_its_homes"] > 0.0
