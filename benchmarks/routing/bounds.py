"""What has to be refused in any order of service."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from ollama_router_core.simulation.scenarios import Scenario
from ollama_router_core.simulation.workload import SimulatedModel

__all__ = ["Wish", "least_refused", "least_refused_of"]


class Wish(NamedTuple):
    """A request: when it comes and how long it takes, in seconds."""

    at: float
    work: float


def least_refused_of(scenario: Scenario, model: SimulatedModel, patience: float) -> int:
    """How many of a model's requests must be refused though its homes serve nobody else, each as fast as the fastest.

    One request at a time and home, without loads, each begun within `patience` seconds: at least so many.
    """
    homes = [one for one in scenario.machines if one.holds(model)]
    return least_refused(
        [
            Wish(
                job.at,
                min(
                    one.prefill_seconds(model, job.prompt_tokens) + one.decode_seconds(model, job.output_tokens)
                    for one in homes
                ),
            )
            for job in scenario.jobs
            if job.model == model.name
        ],
        len(homes),
        patience,
    )


def least_refused(wishes: Sequence[Wish], servers: int, patience: float) -> int:
    """A lower bound on how many are refused, whoever goes first; `wishes` are in order of time.

    Those that come within a span have to begin before its end and `patience`. What they take together, less what each
    server may still have to do then, has to fit into that time. The bounds of spans that share none add up.
    """
    starts = [one.at for one in wishes]
    best = [0] * (len(wishes) + 1)
    for first in range(len(wishes) - 1, -1, -1):
        best[first] = best[first + 1]
        works: list[float] = []
        for after, one in enumerate(wishes[first:], first + 1):
            insort(works, one.work)
            end = one.at + patience
            served = servers + bisect_right(list(accumulate(works)), servers * (end - starts[first]))
            if served < len(works):
                rest = best[max(after, bisect_left(starts, end))]
                best[first] = max(best[first], len(works) - served + rest)
    return best[0]
