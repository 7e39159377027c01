"""What two constants of `fastest` move between the laws: `python benchmarks/routing/tradeoffs.py --json FILE`.

The configurations of the quarter that break a law (`misses.toml`) and a dozen that keep all, each with values around
the one that is shipped: the margin that a load has to gain where a crowd waits, and the seconds that double a ticket's
weight. FILE gets a JSON line for each configuration and value, and what it has already is not run again. Draws
docs/images/routing-tradeoffs.svg and fills in the tables of docs/explanation/routing-measured.md. With `--quarter
NAME` it is one of the constants, such as CROWDED_MARGIN, in all of the quarter, and its table is printed.
"""

from __future__ import annotations

import argparse
import math
import os
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from laws import NEEDED, known_misses, misses
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matrix import FLEETS, Case, cases, quarter, run_case
from plots import fill, save
from run import SLICES, arrivals
from sweeps import Row, measured

from ollama_router_core.admission import scheduler, wait_queue

HELD = 12


class Constant(NamedTuple):
    """A constant of a rule, what it is called in the plot, and the values that are tried."""

    module: ModuleType
    name: str
    title: str
    values: tuple[float, ...]

    @property
    def shipped(self) -> float:
        """Its value."""
        return float(getattr(self.module, self.name))


CONSTANTS = (
    Constant(scheduler, "CROWDED_MARGIN", "margin of a load in a crowd", (1.1, 1.75, 2.5, 4.0, 6.0)),
    Constant(wait_queue, "AGEING", "seconds that double a weight", (10.0, 30.0, 60.0, 120.0, 300.0)),
)
COLOURS = dict(zip((one.name for one in CONSTANTS), ("#0b7a4b", "#c77d0a"), strict=True))


TICKS = (0.3, 0.5, 1.0, 2.0, 5.0, 10.0)


class Trial(NamedTuple):
    """A configuration under one value of a constant; no constant runs the other routers."""

    case: Case
    constant: int | None
    value: float

    @property
    def key(self) -> tuple[str, str, float]:
        """What tells it apart in the file."""
        return self.case.name, "" if self.constant is None else CONSTANTS[self.constant].name, self.value


def run(trial: Trial) -> dict[str, Any]:
    """Its row; the constant is set for this process alone, and set back."""
    trace = arrivals(trial.case.slice_.split(" ", maxsplit=1)[0])
    if trial.constant is None:
        return {"constant": "", "value": 0.0, **run_case(trial.case, trace, NEEDED)}
    constant = CONSTANTS[trial.constant]
    shipped = constant.shipped
    setattr(constant.module, constant.name, trial.value)
    try:
        return {"constant": constant.name, "value": trial.value, **run_case(trial.case, trace, ["fastest"])}
    finally:
        setattr(constant.module, constant.name, shipped)


def chosen(*, every_one: bool) -> list[Case]:
    """Those that break a law, and a dozen others, always the same; or every one of the quarter."""
    every, known = quarter(list(cases(SLICES, fleets=FLEETS, seeds=[1]))), known_misses()
    if every_one:
        return every
    kept = [case for case in every if case.name not in known]
    return [case for case in every if case.name in known] + random.Random(1).sample(kept, HELD)


def trials(alone: str | None) -> Iterator[Trial]:
    """The shipped ones with all routers first, then every other value; of one constant `alone` in the whole quarter."""
    found = chosen(every_one=alone is not None)
    yield from (Trial(case, None, 0.0) for case in found)
    for number, constant in enumerate(CONSTANTS):
        for value in constant.values if alone in {None, constant.name} else ():
            if value != constant.shipped:
                yield from (Trial(case, number, value) for case in found)


def by_value(rows: Sequence[Row], constant: Constant) -> dict[float, dict[str, Row]]:
    """For each value the rows by configuration, with the other routers of the shipped row in each."""
    base = {row["case"]: row for row in rows if not row["constant"]}
    found: dict[float, dict[str, Row]] = {constant.shipped: base}
    for row in rows:
        if row["constant"] == constant.name:
            routers = {**base[row["case"]]["routers"], **row["routers"]}
            found.setdefault(row["value"], {})[row["case"]] = {**row, "routers": routers}
    return dict(sorted(found.items()))


def mean(values: Iterable[float]) -> float:
    """Geometric."""
    logs = [math.log(max(value, 0.01)) for value in values]
    return math.exp(sum(logs) / len(logs))


def against(rows: Mapping[str, Row], base: Mapping[str, Row], field: str) -> float:
    """A field of `fastest` relative to the shipped one, geometric mean."""
    ours, shipped = ({name: row["routers"]["fastest"][field] for name, row in one.items()} for one in (rows, base))
    return mean(ours[name] / shipped[name] for name in base)


def against_largest(rows: Mapping[str, Row], base: Mapping[str, Row]) -> float:
    """The same of the 95th percentile of each configuration's largest model."""
    ours, shipped = (
        {name: row["routers"]["fastest"]["models"].get(base[name]["largest"]) for name, row in one.items()}
        for one in (rows, base)
    )
    return mean(ours[name] / shipped[name] for name in base if ours[name] and shipped[name])


def exchanged(rows: Mapping[str, Row], base: Mapping[str, Row]) -> tuple[int, int]:
    """How many configurations keep all laws that broke one as shipped, and how many break one that kept all."""
    gained = sum(bool(misses(base[name])) and not misses(row) for name, row in rows.items())
    lost = sum(not misses(base[name]) and bool(misses(row)) for name, row in rows.items())
    return gained, lost


def tell(rows: Sequence[Row]) -> list[list[str]]:
    """The table: what each value does to the seconds, to refusals and to the laws."""
    table = []
    for constant in CONSTANTS:
        values = by_value(rows, constant)
        base = values[constant.shipped]
        for value, found in values.items() if len(values) > 1 else ():
            seconds = [f"{against(found, base, field):.2f}" for field in ("ttft_p50", "ttft_p95", "ttft_p99")]
            refused = sum(row["routers"]["fastest"]["refused"] for row in found.values())
            gained, lost = exchanged(found, base)
            name = f"**{value:g}**" if value == constant.shipped else f"{value:g}"
            largest = f"{against_largest(found, base):.2f}"
            table.append([constant.title, name, *seconds, largest, str(refused), str(gained), str(lost)])
    return table


def tell_each(rows: Sequence[Row]) -> list[list[str]]:
    """For each configuration that breaks a law: what every other value would make of it."""
    base = {row["case"]: row for row in rows if not row["constant"]}
    found = []
    for name, row in base.items():
        if not misses(row):
            continue
        cells = []
        for constant in CONSTANTS:
            others = [(value, misses(one[name])) for value, one in by_value(rows, constant).items()]
            kept = [f"{value:g}" for value, broken in others if not broken]
            cells.append(", ".join(kept) or "none")
        found.append(
            [
                name.removesuffix(" · seed 1"),
                ", ".join(f"{law} {value:.2f}" for law, value in misses(row).items()),
                *cells,
            ]
        )
    return found


def draw_seconds(axes: Axes, rows: Sequence[Row]) -> None:
    """The median and the 99th percentile against each other, a point for each value."""
    for constant in CONSTANTS:
        values = by_value(rows, constant)
        base = values[constant.shipped]
        places = {
            value: (against(found, base, "ttft_p50"), against(found, base, "ttft_p99"))
            for value, found in values.items()
        }
        axes.plot(
            *zip(*places.values(), strict=True),
            "o-",
            ms=3,
            color=COLOURS[constant.name],
            label=f"{constant.title}, shipped {constant.shipped:g}",
        )
        for value, place in places.items():
            if value != constant.shipped:
                axes.annotate(f"{value:g}", place, textcoords="offset points", xytext=(4, 3), fontsize=7)
    axes.plot([1.0], [1.0], "o", ms=9, mfc="none", color="black")
    axes.set(xlabel="p50 to the first token, of the shipped one", ylabel="p99, of the shipped one")
    axes.legend(fontsize=7)


def draw_laws(axes: Axes, rows: Sequence[Row]) -> None:
    """How many configurations get to keep all laws by every value, and how many no longer do."""
    for constant in CONSTANTS:
        values = by_value(rows, constant)
        counts = [exchanged(found, values[constant.shipped]) for found in values.values()]
        for number, (style, title) in enumerate((("o-", "mended"), ("o--", "broken"))):
            axes.plot(
                [value / constant.shipped for value in values], [one[number] for one in counts], style, ms=3,
                color=COLOURS[constant.name], label=f"{constant.title}: {title}",
            )  # fmt: skip
    axes.set(xscale="log", xlabel="value / the shipped one", ylabel="configurations")
    axes.set_xticks(TICKS, [f"{one:g}" for one in TICKS])
    axes.xaxis.minorticks_off()
    axes.legend(fontsize=7, handlelength=4)


def draw(rows: Sequence[Row]) -> None:
    """The plot."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_seconds(left, rows)
    draw_laws(right, rows)
    save(figure, "tradeoffs")


def main() -> None:
    """Measure, draw, fill in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--quarter", metavar="NAME", choices=[one.name for one in CONSTANTS])
    options = parser.parse_args()
    rows = measured(options.json, options.jobs, trials(options.quarter), run, swept="constant")
    if options.quarter:
        for line in ((*HEAD[:-2], "mended", "broken"), ["---"] * len(HEAD), *tell(rows)):
            print(f"| {' | '.join(line)} |")
        return
    draw(rows)
    fill("tradeoffs", HEAD, tell(rows))
    fill("tradeoffs-each", HEAD_EACH, tell_each(rows))


HEAD = (
    "",
    "value",
    "p50",
    "p95",
    "p99",
    "p95 of the largest model",
    "refused",
    f"mended, of {len(known_misses())}",
    f"broken, of {HELD}",
)
HEAD_EACH = ("configuration", "breaks", "keeps all with a margin of", "with an age of")

if __name__ == "__main__":
    main()
