"""Arrivals that are no hour of a trace, on five unlike servers: `python benchmarks/routing/shapes.py`.

burst: 30 requests in a second for a model that is not loaded, beside a trace; day: a rate that rises and falls twice;
batch: one user sends 2,000 requests at once beside twenty who take turns; agents: conversations whose prompts grow, one
turn after the other; embeddings: a thousand short texts for a small model beside a trace.
The waits are those of the users named people, in seconds to the first token.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from laws import NEEDED

from ollama_router_core.simulation import MODELS, Job, Scenario, compare, parse_trace
from ollama_router_core.simulation.matrix import FLEETS, Case, make_case

TRACE = Path(__file__).parent.parent / "data" / "azure_llm_2023_conv_part1.csv"
PEOPLE = "people"


def people(rate: float, count: int = 600) -> list[Job]:
    """Conversations by Zipf's popularity, all of one name."""
    case = Case(fleet="five", popularity="zipf", rate=rate, slice_="conversations 1", first=0, count=count)
    arrivals = parse_trace(TRACE.read_text(encoding="utf-8"))
    return [replace(job, user=PEOPLE) for job in make_case(case, arrivals).jobs]


def others(times: Iterable[float], model: int, prompt: int, output: int, user: str) -> list[Job]:
    """Requests of somebody else for one of the models."""
    name = MODELS[model].name
    return [Job(number=0, at=at, model=name, prompt_tokens=prompt, output_tokens=output, user=user) for at in times]


def burst() -> list[Job]:
    """Thirty in one second for the 27b."""
    return people(0.16) + others([1000 + n / 30 for n in range(30)], 10, 800, 100, "burst")


def day() -> list[Job]:
    """Between a fifth of the mean rate and twice of it, two periods."""
    jobs, period = people(0.2), 1500.0
    swing = 0.8 * period / (2 * math.pi)
    return [replace(job, at=job.at + swing * math.sin(2 * math.pi * job.at / period)) for job in jobs]


def batch() -> list[Job]:
    """2,000 at once for the 8b."""
    return people(0.16) + others([500.0] * 2000, 0, 500, 60, "batch")


def agents() -> list[Job]:
    """Twenty conversations of thirty turns; a turn begins half a minute after the one before."""
    rng, jobs = random.Random(1), []
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


def embeddings() -> list[Job]:
    """A thousand for the 1.5b, ten a second."""
    return people(0.16) + others([500 + n / 10 for n in range(1000)], 7, 300, 1, "embeddings")


SHAPES: Mapping[str, Callable[[], list[Job]]] = {
    "burst": burst, "day": day, "batch": batch, "agents": agents, "embeddings": embeddings,
}  # fmt: skip


def scenario(name: str) -> Scenario:
    """The shape on the fleet, in order of time."""
    jobs = sorted(SHAPES[name](), key=lambda job: job.at)
    numbered = tuple(replace(job, number=number) for number, job in enumerate(jobs))
    return Scenario(name=name, machines=FLEETS["five"], models=MODELS, jobs=numbered)


TITLES = ("shape", "router", "people, p95", "the other user, p95", "all, p50", "loads", "refused")


def main() -> None:
    """One line for each shape and router."""
    print("|", " | ".join(TITLES), "|")
    print("|---" * len(TITLES) + "|")
    for name in SHAPES:
        for one in compare(scenario(name), NEEDED):
            rest = [f"{seconds:.1f}" for user, seconds in one.users.items() if user != PEOPLE] or ["-"]
            row = (name, one.router, f"{one.users[PEOPLE]:.1f}", *rest, f"{one.ttft_p50:.1f}", one.loads, one.refused)
            print("|", *(f"{cell} |" for cell in row), flush=True)


if __name__ == "__main__":
    main()
