"""Arrivals that are no hour of a trace, on five unlike servers: `python benchmarks/routing/shapes.py`.

burst: 30 requests in a second for a model that is not loaded, beside a trace; day: a rate that rises and falls twice;
batch: one user sends 2,000 requests at once beside twenty who take turns; agents: conversations whose prompts grow, one
turn after the other; embeddings: a thousand short texts for a small model beside a trace.
The waits are those of the users named people, in seconds to the first token. One draw is one chance: `agents day
--draws 6` tells of the first six, each with other arrivals and lengths.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

from laws import NEEDED
from matrix import FLEETS, Case, make_case

from ollama_router_core.simulation.comparison import compare
from ollama_router_core.simulation.scenarios import MODELS, Scenario
from ollama_router_core.simulation.workload import Job, parse_trace

TRACE = Path(__file__).parent.parent / "data" / "azure_llm_2023_conv_part1.csv"
PEOPLE = "people"


def people(rate: float, draw: int, count: int = 600) -> list[Job]:
    """Conversations by Zipf's popularity, all of one name, each draw from another part of the trace."""
    case = Case(fleet="five", popularity="zipf", rate=rate, slice_=f"conversations {draw}", first=count * (draw - 1),
                count=count, seed=draw)  # fmt: skip
    arrivals = parse_trace(TRACE.read_text(encoding="utf-8"))
    return [replace(job, user=PEOPLE) for job in make_case(case, arrivals).jobs]


def others(times: Iterable[float], model: int, prompt: int, output: int, user: str) -> list[Job]:
    """Requests of somebody else for one of the models."""
    name = MODELS[model].name
    return [Job(number=0, at=at, model=name, prompt_tokens=prompt, output_tokens=output, user=user) for at in times]


def burst(draw: int) -> list[Job]:
    """Thirty in one second for the 27b."""
    return people(0.16, draw) + others([1000 + n / 30 for n in range(30)], 10, 800, 100, "burst")


def day(draw: int) -> list[Job]:
    """Between a fifth of the mean rate and twice of it, two periods."""
    jobs, period = people(0.2, draw), 1500.0
    swing = 0.8 * period / (2 * math.pi)
    return [replace(job, at=job.at + swing * math.sin(2 * math.pi * job.at / period)) for job in jobs]


def batch(draw: int) -> list[Job]:
    """2,000 at once for the 8b."""
    return people(0.16, draw) + others([500.0] * 2000, 0, 500, 60, "batch")


def agents(draw: int) -> list[Job]:
    """Twenty conversations of thirty turns; a turn begins half a minute after the one before."""
    rng, jobs = random.Random(draw), []
    for agent in range(20):
        at, prompt, model = agent * 15.0, 3000, MODELS[agent % 4].name
        for _ in range(30):
            output = rng.randint(50, 300)
            jobs.append(
                Job(number=0, at=at, model=model, prompt_tokens=prompt, output_tokens=output, user=PEOPLE,
                    conversation=f"agent{agent}")
            )  # fmt: skip
            at, prompt = at + 30.0 + rng.random() * 20.0, prompt + output + 400
    return jobs


def embeddings(draw: int) -> list[Job]:
    """A thousand for the 1.5b, ten a second."""
    return people(0.16, draw) + others([500 + n / 10 for n in range(1000)], 7, 300, 1, "embeddings")


SHAPES: Mapping[str, Callable[[int], list[Job]]] = {
    "burst": burst, "day": day, "batch": batch, "agents": agents, "embeddings": embeddings,
}  # fmt: skip


def scenario(name: str, draw: int = 1) -> Scenario:
    """A draw of the shape on the fleet, in order of time."""
    jobs = sorted(SHAPES[name](draw), key=lambda job: job.at)
    numbered = tuple(replace(job, number=number) for number, job in enumerate(jobs))
    return Scenario(name=name, machines=FLEETS["five"], models=MODELS, jobs=numbered)


TITLES = ("shape", "draw", "router", "people, p95", "the other user, p95", "all, p50", "p95", "p99", "loads", "refused")


def main() -> None:
    """One line for each shape, draw and router."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(SHAPES)}; default: all")
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--routers", default=",".join(NEEDED))
    options = parser.parse_args()
    print("|", " | ".join(TITLES), "|")
    print("|---" * len(TITLES) + "|")
    for name, draw in product(options.names or SHAPES, range(1, options.draws + 1)):
        for one in compare(scenario(name, draw), options.routers.split(",")):
            rest = [f"{seconds:.1f}" for user, seconds in one.users.items() if user != PEOPLE] or ["-"]
            spread = [f"{seconds:.1f}" for seconds in (one.ttft_p50, one.ttft_p95, one.ttft_p99)]
            row = (name, draw, one.router, f"{one.users[PEOPLE]:.1f}", *rest, *spread, one.loads, one.refused)
            print("|", *(f"{cell} |" for cell in row), flush=True)


if __name__ == "__main__":
    main()
