"""What it costs to refuse less of the largest model: `python benchmarks/routing/refusals.py --json FILE`.

The configurations of the matrix that break the law of refusals, under three ways that move them, each one number: age
counts more towards the end of a wait; everybody but the largest model may wait for a part of `max_wait`; the largest
may wait for longer. Beside them what of the largest has to be refused in any order, and what is refused of it when
nobody else asks. FILE gets a JSON line for each configuration, way and value; what it has already is not run again.
Draws docs/images/routing-refusals.svg and fills in the tables of docs/explanation/routing-measured.md.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bounds import least_refused_of
from laws import FAIR_REFUSALS, NEEDED, figures, misses
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matrix import Case, make_case, run_case
from plots import fill, save
from run import SLICES, arrivals
from sweeps import Row, measured
from tradeoffs import against

from ollama_router_core.admission import coordinator
from ollama_router_core.admission.tickets import Ticket
from ollama_router_core.admission.wait_queue import RequestGroup, WaitQueue
from ollama_router_core.config.settings import Queue
from ollama_router_core.simulation.comparison import compare
from ollama_router_core.simulation.engine import simulate
from ollama_router_core.simulation.report import Summary, summarise
from ollama_router_core.simulation.routers import StrategyRouter
from ollama_router_core.simulation.scenarios import Scenario

LAW = "refusals of the largest"
MAX_WAIT = Queue().max_wait
STEEP = 4
"""Age counts more by this power of the part of the wait that is over: hardly before two thirds of it."""


class Way(NamedTuple):
    """A way to move refusals, the values that are tried; 1 is shipped."""

    name: str
    title: str
    values: tuple[float, ...]
    colour: str


WAYS = (
    Way("end", "age at the end of a wait counts so many times", (4.0, 18.0), "#2b6cb0"),
    Way("others", "all others may wait for this part of `max_wait`", (0.75, 0.5, 0.25), "#c77d0a"),
    Way("longer", "the largest may wait so many times `max_wait`", (1.5, 2.0, 4.0), "#0b7a4b"),
)
BROKEN = (
    ("five", "even", 0.64, "code 1"), ("five", "large first", 0.08, "code 1"), ("five", "large first", 0.16, "code 1"),
    ("one big, four small", "zipf", 0.64, "code 1"), ("one big, four small", "even", 0.16, "code 1"),
    ("one big, four small", "even", 0.32, "code 1"), ("one big, four small", "large first", 0.08, "code 1"),
    ("one big, four small", "one hot", 0.32, "code 1"), ("one big, four small", "one hot", 0.64, "code 1"),
    ("two", "zipf", 0.64, "code 1"), ("two", "zipf", 0.64, "conversations 1"), ("two", "even", 0.32, "code 1"),
    ("two", "even", 0.32, "conversations 1"), ("two", "even", 0.64, "code 1"), ("two", "even", 0.64, "code 2"),
    ("two", "large first", 0.08, "code 1"), ("two", "large first", 0.16, "code 1"), ("two", "one hot", 0.64, "code 1"),
)  # fmt: skip
"""Those of all 240 that break the law: docs/explanation/routing-matrix.md."""


class Trial(NamedTuple):
    """A configuration under one value of a way; no way runs the other routers, and the largest model alone."""

    case: Case
    way: str = ""
    value: float = 1.0

    @property
    def key(self) -> tuple[str, str, float]:
        """What tells it apart in the file."""
        return self.case.name, self.way, self.value


def trials() -> Iterator[Trial]:
    """The shipped ones first, then every other value."""
    found = [
        Case(fleet=fleet, popularity=popularity, rate=rate, slice_=slice_, first=SLICES[slice_][0],
             count=SLICES[slice_][1])
        for fleet, popularity, rate, slice_ in BROKEN
    ]  # fmt: skip
    yield from map(Trial, found)
    for way in WAYS:
        for value in way.values:
            yield from (Trial(case, way.name, value) for case in found)


def run(trial: Trial) -> dict[str, Any]:
    """Its row."""
    trace = arrivals(trial.case.slice_.split(" ", maxsplit=1)[0])
    scenario = make_case(trial.case, trace)
    asked = {job.model for job in scenario.jobs}
    largest = max((one for one in scenario.models if one.name in asked), key=lambda one: one.weights_gib)
    if trial.way:
        served = serve(scenario, largest.name, trial.way, trial.value)
        row: dict[str, Any] = {"case": trial.case.name, "routers": {"fastest": served.to_json()}}
    else:
        own = replace(scenario, jobs=tuple([job for job in scenario.jobs if job.model == largest.name]))
        (alone,) = compare(own, ["fastest"])
        least = least_refused_of(scenario, largest, MAX_WAIT)
        row = {**run_case(trial.case, trace, NEEDED), "alone": alone.refused, "least": least}
    return {"way": trial.way, "value": trial.value, **row}


def patience(largest: str, model: str | None, way: str, value: float) -> float:
    """How many times `max_wait` a request for a model may wait."""
    changed = "longer" if model == largest else "others"
    return value if way == changed else 1.0


def queue_of(largest: str, way: str, value: float) -> type[WaitQueue]:
    """The queue with one number changed."""

    class Changed(WaitQueue):
        def patience(self, ticket: Ticket) -> float:
            return super().patience(ticket) * patience(largest, ticket.request.model, way, value)

        def weight(self, ticket: Ticket, now: float) -> float:
            over = min(1.0, (now - ticket.arrived) / self.patience(ticket))
            more = (value - 1.0) * over**STEEP if way == "end" else 0.0
            return super().weight(ticket, now) * (1.0 + more)

        def weight_of(self, group: RequestGroup, now: float) -> float:
            return sum([self.weight(ticket, now) for ticket in group.tickets.values()])

    return Changed


def serve(scenario: Scenario, largest: str, way: str, value: float) -> Summary:
    """What `fastest` makes of it with another queue, which is set for this process alone and set back.

    Who is refused counts with the wait that it might have had.
    """
    shipped = vars(coordinator)["WaitQueue"]
    vars(coordinator)["WaitQueue"] = queue_of(largest, way, value)
    try:
        router = StrategyRouter("fastest", scenario.machines, knowledge=scenario.knowledge)
    finally:
        vars(coordinator)["WaitQueue"] = shipped
    result = simulate(router, scenario.machines, scenario.models, scenario.jobs)
    refused = [
        replace(one, expected=one.expected * patience(largest, one.job.model, way, value)) for one in result.rejections
    ]
    return summarise(replace(result, rejections=tuple(refused)))


def by_value(rows: Sequence[Row], way: Way) -> dict[float, dict[str, Row]]:
    """For each value the rows by configuration, with the other routers of the shipped row in each."""
    base = {row["case"]: row for row in rows if not row["way"]}
    found = {1.0: base}
    for row in rows:
        if row["way"] == way.name:
            shipped = base[row["case"]]
            routers = {**shipped["routers"], **row["routers"]}
            found.setdefault(row["value"], {})[row["case"]] = {**shipped, "routers": routers}
    return found


def of_largest(row: Row) -> int:
    """How many requests of the largest model are refused."""
    return int(row["routers"]["fastest"]["refused_models"].get(row["largest"], 0))


def refused(rows: Mapping[str, Row]) -> tuple[int, int]:
    """In all configurations: how many requests, and how many of the largest model."""
    every = sum(row["routers"]["fastest"]["refused"] for row in rows.values())
    return every, sum(of_largest(row) for row in rows.values())


def keep(rows: Mapping[str, Row]) -> tuple[int, int]:
    """How many keep the law, and how many keep all."""
    return sum(figures(row)[LAW] <= 1.0 for row in rows.values()), sum(not misses(row) for row in rows.values())


def needed(row: Row) -> int:
    """How many of the others have to be refused for the law, where only what must be is refused of the largest."""
    share = row["models"][row["largest"]] / sum(row["models"].values())
    least = int(row["least"])
    return math.ceil(least / (FAIR_REFUSALS * share)) - least


def tell(rows: Sequence[Row]) -> list[list[str]]:
    """The table: what each value does to the seconds, to refusals and to the laws."""
    table = []
    for way in WAYS:
        values = by_value(rows, way)
        base = values[1.0]
        for value, found in values.items():
            if value == 1.0 and way is not WAYS[0]:
                continue
            seconds = [f"{against(found, base, field):.2f}" for field in ("ttft_p50", "ttft_p95", "ttft_p99")]
            laws = f"{median(figures(row)[LAW] for row in found.values()):.1f}"
            name = ["**as shipped**", ""] if value == 1.0 else [way.title, f"{value:g}"]
            table.append([*name, *seconds, *map(str, (*refused(found), laws, *keep(found)))])
    return table


def tell_each(rows: Sequence[Row]) -> list[list[str]]:
    """For each configuration what is refused and has to be, and the law's figure under one value of each way."""
    told = []
    values = {way.name: by_value(rows, way) for way in WAYS}
    for name, row in values["end"][1.0].items():
        ours = row["routers"]["fastest"]["refused"]
        others = [figures(values[way][value][name])[LAW] for way, value in EACH]
        told.append(
            [
                name.removesuffix(" · seed 1"),
                f"{ours}, {of_largest(row)} of {row['models'][row['largest']]}",
                str(row["least"]),
                str(row["alone"]),
                str(needed(row)),
                *(f"{value:.1f}" for value in (figures(row)[LAW], *others)),
            ]
        )
    return told


def draw_curve(axes: Axes, rows: Sequence[Row], way: Way) -> None:
    """What is refused in all, and the law's figure in the middle configuration, by the value."""
    points = {
        value: (refused(found)[0], median(figures(row)[LAW] for row in found.values()))
        for value, found in sorted(by_value(rows, way).items())
    }
    axes.plot(*zip(*points.values(), strict=True), "o-", ms=3, color=way.colour, label=way.title.replace("`", ""))
    for value, place in points.items():
        if value != 1.0:
            axes.annotate(f"{value:g}", place, textcoords="offset points", xytext=(4, 3), fontsize=7)


def draw_seconds(axes: Axes, rows: Sequence[Row], way: Way) -> None:
    """The 99th percentile against the shipped one, and how much is refused of the largest model's."""
    values = by_value(rows, way)
    points = {
        value: (against(found, values[1.0], "ttft_p99"), refused(found)[1]) for value, found in sorted(values.items())
    }
    axes.plot(*zip(*points.values(), strict=True), "o-", ms=3, color=way.colour)
    for value, place in points.items():
        if value != 1.0:
            axes.annotate(f"{value:g}", place, textcoords="offset points", xytext=(4, 3), fontsize=7)


def draw(rows: Sequence[Row]) -> None:
    """The plot."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for way in WAYS:
        draw_curve(left, rows, way)
        draw_seconds(right, rows, way)
    left.axhline(1.0, color="black", lw=1)
    left.set(xscale="log", xlabel="refused of all 18,000", ylabel="figure of the law, median: at most 1 keeps it")
    right.set(xlabel="p99 to the first token, of the shipped one", ylabel="refused of the largest model's")
    left.set_xticks(TICKS, [f"{one:,}" for one in TICKS])
    left.xaxis.minorticks_off()
    left.legend(fontsize=7, loc="upper right")
    save(figure, "refusals")


TICKS = (300, 500, 1000, 2000, 3000)
EACH = (("end", 18.0), ("others", 0.5), ("longer", 2.0))
HEAD = ("", "value", "p50", "p95", "p99", "refused", "of the largest", "the law's figure", "keep it", "keep all laws")
HEAD_EACH = (
    "configuration",
    "refused, of the largest model's",
    "in any order",
    "if nobody else asks",
    "others that the law costs",
    "the law's figure",
    *(f"`{way}` {value:g}" for way, value in EACH),
)


def main() -> None:
    """Measure, draw, fill in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    rows = measured(options.json, options.jobs, trials(), run, swept="way")
    draw(rows)
    fill("refusals", HEAD, tell(rows))
    fill("refusals-each", HEAD_EACH, tell_each(rows))


if __name__ == "__main__":
    main()
