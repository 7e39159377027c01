"""What preemption gives people and takes from a batch: `python benchmarks/routing/preemption.py`.

Shape `batch` (2,000 requests of one user at once, beside people at 0.16/s on five unlike servers) over three stretches
of the trace, and 500 beside people who all ask one server for one model at 0.1/s; with room for all in the queue. Waits
are seconds to the first token of people who came while the batch was there; the last columns are the mean seconds until
the batch was done, and how many of its answers were begun again. Minutes of a core: `--kind` plays one kind.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import NamedTuple

from matrix import FLEETS, Case, make_case
from shapes import PEOPLE, TRACE, others

from ollama_router_core.simulation.engine import simulate
from ollama_router_core.simulation.report import percentile
from ollama_router_core.simulation.routers import Knowledge, StrategyRouter
from ollama_router_core.simulation.scenarios import MODELS
from ollama_router_core.simulation.server_hardware import Machine
from ollama_router_core.simulation.workload import Job, parse_trace


class Kind(NamedTuple):
    """A fleet, and the answers of the batch there: their number, their tokens, and whether they are streamed."""

    fleet: str
    requests: int
    output: int
    streamed: bool


KINDS: Mapping[str, Kind] = {
    "five servers, 60 tokens, streamed": Kind("five", 2000, 60, streamed=True),
    "five servers, 60 tokens, whole": Kind("five", 2000, 60, streamed=False),
    "five servers, 500 tokens, whole": Kind("five", 2000, 500, streamed=False),
    "one server, 60 tokens, whole": Kind("one", 500, 60, streamed=False),
    "one server, 500 tokens, streamed": Kind("one", 500, 500, streamed=True),
    "one server, 500 tokens, whole": Kind("one", 500, 500, streamed=False),
}
PRIORITIES: Mapping[str, tuple[bool, int]] = {
    "as everybody's": (False, 0), "`batch`": (True, 0), "`batch`, `max_preemptions: 2`": (True, 2),
}  # fmt: skip
STRETCHES = (0, 1500, 3000)
QUEUE = {"max_waiting": 4096, "max_waiting_per_model": 4096, "max_wait": 86_400.0}
BATCH, BEGINS = "batch", 500.0
TITLES = ("batch", "priority", "people, p50", "p95", "the same model, p50", "p95", "the batch is done", "begun again")


class Run(NamedTuple):
    """One simulation: the waits of people, of those for the batch's model; the batch's seconds and repetitions."""

    people: list[float]
    same: list[float]
    done: float
    again: int


def machines_of(kind: Kind) -> Sequence[Machine]:
    """The fleet; one server is one of four equal ones."""
    return FLEETS["five"] if kind.fleet == "five" else FLEETS["four equal"][:1]


def jobs(kind: Kind, first: int, *, batch: bool) -> list[Job]:
    """People of one stretch of the trace, and the batch; beside one server all want its model."""
    rate = 0.16 if kind.fleet == "five" else 0.1
    case = Case(fleet="five", popularity="zipf", rate=rate, slice_="conversations 1", first=first, count=1000)
    drawn = make_case(case, parse_trace(TRACE.read_text(encoding="utf-8"))).jobs
    people = [replace(job, user=PEOPLE, model=job.model if kind.fleet == "five" else MODELS[0].name) for job in drawn]
    asked = others([BEGINS] * kind.requests, 0, 500, kind.output, BATCH)
    many = [replace(job, batch=batch, streamed=kind.streamed) for job in asked]
    ordered = sorted([*people, *many], key=lambda job: job.at)
    return [replace(job, number=number) for number, job in enumerate(ordered)]


def play(asked: tuple[str, str, int]) -> Run:
    """Simulate one row on one stretch."""
    name, priority, first = asked
    kind, (batch, most) = KINDS[name], PRIORITIES[priority]
    knows = Knowledge(settings={"queue": {**QUEUE, "max_preemptions": most}})
    machines = machines_of(kind)
    router = StrategyRouter("fastest", machines, knowledge=knows)
    outcomes = simulate(router, machines, MODELS, jobs(kind, first, batch=batch)).outcomes
    end = max(one.finished for one in outcomes if one.job.user == BATCH)
    beside = [one for one in outcomes if one.job.user == PEOPLE and BEGINS <= one.job.at <= end]
    same = [one.ttft for one in beside if one.job.model == MODELS[0].name]
    again = sum(one.tries - 1 for one in outcomes if one.job.batch)
    return Run([one.ttft for one in beside], same, end - BEGINS, again)


def row(name: str, priority: str, runs: Sequence[Run]) -> Sequence[str]:
    """One row of the table, over all stretches."""
    groups = [list(itertools.chain(*waits)) for waits in ([one.people for one in runs], [one.same for one in runs])]
    waits = [f"{percentile(group, share):.1f}" for group in groups for share in (0.5, 0.95)]
    means = [sum(figures) / len(runs) for figures in ([one.done for one in runs], [one.again for one in runs])]
    return name, priority, *waits, *[f"{mean:.0f}" for mean in means]


def rows(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """One row for each kind and priority."""
    pairs = list(itertools.product(names, PRIORITIES))
    with ProcessPoolExecutor(2) as pool:
        played = pool.map(play, [(*pair, first) for pair in pairs for first in STRETCHES])
        for pair in pairs:
            yield row(*pair, [next(played) for _ in STRETCHES])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=[*KINDS], action="append")
    names = parser.parse_args().kind or [*KINDS]
    print("|", " | ".join(TITLES), "|")
    print("|---" * len(TITLES) + "|")
    for found in rows(names):
        print("|", " | ".join(found), "|", flush=True)


if __name__ == "__main__":
    main()
