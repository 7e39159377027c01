"""Many configurations instead of one scenario: fleets, popularities of models, rates, traces.

A `Case` names a configuration and is small enough to be sent to another process; `make_case` draws its scenario, and
`run_case` has every router serve it and returns one row.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from ollama_router_core.simulation.comparison import bound, compare
from ollama_router_core.simulation.scenarios import FLEET, MODELS, Scenario
from ollama_router_core.simulation.server_hardware import Machine
from ollama_router_core.simulation.workload import Arrival, SimulatedModel, assign_models, zipf_weights

__all__ = ["FLEETS", "HELD_OUT_FLEETS", "POPULARITIES", "RATES", "Case", "cases", "make_case", "quarter", "run_case"]

_BIG, _MID, _MID2, _OLD, _MAC = FLEET

FLEETS: Mapping[str, tuple[Machine, ...]] = {
    "five": FLEET,
    "one big, four small": (
        _BIG,
        *(replace(_OLD, name=f"small{n}", vram_gib=12, load_rate=1.5, priority=2) for n in range(1, 5)),
    ),
    "two": (replace(_BIG, name="one"), replace(_MID2, name="two")),
    "four equal": tuple(replace(_MID, name=f"gpu{n}", priority=1) for n in range(1, 5)),
    "eight large": tuple(replace(_BIG, name=f"node{n}") for n in range(1, 9)),
}
"""Unlike and alike, scarce and plentiful. Rules are tuned on these."""

HELD_OUT_FLEETS: Mapping[str, tuple[Machine, ...]] = {
    "three": (replace(_BIG, name="rack", vram_gib=80), replace(_MID, name="desk"), replace(_OLD, name="laptop")),
    "macs": tuple(
        Machine(name=f"mac{gib}", vram_gib=gib, bandwidth=bandwidth, tflops=tflops, load_rate=4.0)
        for gib, bandwidth, tflops in ((72, 800, 50), (48, 410, 28), (24, 270, 16))
    ),
    "six small": tuple(replace(_OLD, name=f"box{n}", vram_gib=12 + 4 * (n % 2), priority=1) for n in range(1, 7)),
    "four slots": tuple(replace(one, num_parallel=4) for one in (_BIG, _MID, _MID2)),
    "ten mixed": (
        *(replace(_MID, name=f"new{n}") for n in range(1, 6)),
        *(replace(_OLD, name=f"old{n}") for n in range(1, 6)),
    ),
}
"""For judging alone: nothing is ever tuned on these."""

POPULARITIES: Mapping[str, tuple[float, ...]] = {
    "zipf": zipf_weights(len(MODELS)),
    "even": tuple(1.0 for _ in MODELS),
    "large first": zipf_weights(len(MODELS))[::-1],
    "one hot": (float(len(MODELS)), *(1.0 for _ in MODELS[1:])),
}
"""Weights in the order of `MODELS`."""

RATES = (0.08, 0.16, 0.32, 0.64)
"""Requests a second."""

_USERS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One configuration. `slice_` names the part of a trace, `first` is its first arrival of `count`."""

    fleet: str
    popularity: str
    rate: float
    slice_: str
    first: int
    count: int
    seed: int = 1

    @property
    def name(self) -> str:
        """One line."""
        return f"{self.fleet} · {self.popularity} · {self.rate:g}/s · {self.slice_} · seed {self.seed}"


def cases(
    slices: Mapping[str, tuple[int, int]], *, fleets: Iterable[str] = tuple(FLEETS), seeds: Sequence[int] = (1,)
) -> Iterator[Case]:
    """Every configuration; `slices` maps a trace's part to its first arrival and their number."""
    for fleet, popularity, rate, (slice_, (first, count)), seed in product(
        fleets, POPULARITIES, RATES, slices.items(), seeds
    ):
        yield Case(fleet=fleet, popularity=popularity, rate=rate, slice_=slice_, first=first, count=count, seed=seed)


def quarter(every: Sequence[Case]) -> list[Case]:
    """Every fourth of them, shifted so that each fleet meets each rate, popularity and slice."""
    return [case for number, case in enumerate(every) if (number + number // 4 + number // 16) % 4 == 0]


def make_case(case: Case, arrivals: Sequence[Arrival]) -> Scenario:
    """Build the scenario of a case, from all arrivals of its trace."""
    part = arrivals[case.first : case.first + case.count]
    stretch = (len(part) - 1) / case.rate / (part[-1].at - part[0].at)
    moved = [replace(one, at=(one.at - part[0].at) * stretch) for one in part]
    machines = FLEETS.get(case.fleet) or HELD_OUT_FLEETS[case.fleet]
    held = [any(one.holds(model) for one in machines) for model in MODELS]
    weights = [weight if able else 0.0 for weight, able in zip(POPULARITIES[case.popularity], held, strict=True)]
    rng = random.Random(f"{case.seed} {case.name}")
    jobs = assign_models(moved, MODELS, weights, rng)
    users = rng.choices(range(_USERS), weights=zipf_weights(_USERS), k=len(jobs))
    return Scenario(
        name=case.name,
        machines=machines,
        models=MODELS,
        jobs=tuple(replace(job, user=f"user{user}") for job, user in zip(jobs, users, strict=True)),
    )


def run_case(
    case: Case, arrivals: Sequence[Arrival], routers: Sequence[str], *, bounded: bool = False
) -> dict[str, Any]:
    """Every router's summary of a case, as a row for JSON; with `bounded` also that of `bound`."""
    scenario = make_case(case, arrivals)
    summaries = {one.router: one.to_json() for one in compare(scenario, routers)}
    if bounded:
        best = bound(scenario)
        summaries[best.router] = best.to_json()
    requests: dict[str, int] = {}
    for job in scenario.jobs:
        requests[job.model] = requests.get(job.model, 0) + 1
    largest = max(scenario.models, key=lambda one: (one.name in requests, one.weights_gib))
    return {
        "case": case.name,
        "fleet": case.fleet,
        "popularity": case.popularity,
        "rate": case.rate,
        "slice": case.slice_,
        "seed": case.seed,
        "models": requests,
        "largest": largest.name,
        "load_of_its_homes": round(_load_of_homes(scenario, largest), 3),
        "routers": summaries,
    }


def _load_of_homes(scenario: Scenario, model: SimulatedModel) -> float:
    """How busy those who hold a model are with what no other server can hold, without loads: 1 is all day."""
    homes = [one for one in scenario.machines if one.holds(model)]
    others = [one for one in scenario.machines if not one.holds(model)]
    bound = {one.name: one for one in scenario.models if not any(other.holds(one) for other in others)}
    work = 0.0
    for job in scenario.jobs:
        if job.model in bound:
            wanted = bound[job.model]
            work += min(
                one.prefill_seconds(wanted, job.prompt_tokens) + one.decode_seconds(wanted, job.output_tokens)
                for one in homes
            )
    return work / (len(homes) * max(scenario.jobs[-1].at, 1e-9))
