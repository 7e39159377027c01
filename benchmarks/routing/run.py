"""Routing quality over a matrix of configurations, in virtual time: `python benchmarks/routing/run.py --quick`.

Fleets x popularities of models x rates x slices of two traces; see `matrix.py`. Each is one
JSON line of `--json FILE`, with every router's figures; the table says how many keep which law and names the worst.
`--quick` takes a fixed quarter, the routers that the laws need and the usual policies; `--full` everything, all
baselines and the bound. `--held-out` takes a quarter of another matrix: other fleets, other stretches of the traces,
another seed. No rule is ever chosen by it. `--seed N`, which may be repeated, draws models and users anew.
With `--assert` the exit code is 1 where a configuration breaks a law that `misses.toml` does not name, breaks it by
more than is said there, or keeps one that is named there; and where the median over the quarter is too close to the
usual policies.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any

from laws import LAWS, NEEDED, USUAL, contradictions, figures, known_misses, margins, misses
from matrix import FLEETS, HELD_OUT_FLEETS, Case, cases, quarter, run_case

from ollama_router_core.simulation.comparison import ROUTERS
from ollama_router_core.simulation.workload import Arrival, parse_trace

DATA = Path(__file__).parent.parent / "data"
TRACES = {"code": DATA / "azure_llm_2023_code.csv", "conversations": DATA / "azure_llm_2023_conv_part1.csv"}
COUNT = 1000
SLICES = {"code 1": (0, COUNT), "code 2": (5000, COUNT), "conversations 1": (0, COUNT)}
HELD_OUT_SLICES = {"code 3": (7500, COUNT), "conversations 2": (2500, COUNT), "conversations 3": (5000, COUNT)}
SEED, HELD_OUT_SEED = 1, 2


@cache
def arrivals(trace: str) -> tuple[Arrival, ...]:
    """A trace, read once a process."""
    return parse_trace(TRACES[trace].read_text(encoding="utf-8"))


def run(case: Case, routers: Sequence[str], *, bounded: bool) -> dict[str, Any]:
    """One row."""
    return run_case(case, arrivals(case.slice_.split(" ", maxsplit=1)[0]), routers, bounded=bounded)


def rows(chosen: Sequence[Case], routers: Sequence[str], jobs: int, *, bounded: bool) -> Iterator[dict[str, Any]]:
    """All of them, in processes."""
    work = partial(run, routers=routers, bounded=bounded)
    if jobs == 1:
        yield from map(work, chosen)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(work, chosen)


def report(found: Sequence[dict[str, Any]]) -> None:
    """Print how the laws fare."""
    laws = {row["case"]: figures(row) for row in found}
    print(f"\n{'law':26} {'kept':>9} {'median':>7} {'p90':>7} {'worst':>7}  worst of {len(found)}")
    for name in LAWS:
        values = sorted((one[name], case) for case, one in laws.items())
        kept = sum(value <= 1.0 for value, _ in values)
        middle, high, (worst, case) = values[len(values) // 2][0], values[int(len(values) * 0.9)][0], values[-1]
        print(f"{name:26} {kept:4}/{len(values):4} {middle:7.2f} {high:7.2f} {worst:7.2f}  {case}")
    whole = sum(max(one.values()) <= 1.0 for one in laws.values())
    print(f"{'all of them':26} {whole:4}/{len(laws):4}")
    for one in margins(found):
        print(f"{one.title:26} median {one.median:.2f} of {one.count} at 0.32/s and more")
    refused = sum(row["routers"]["fastest"]["refused"] for row in found)
    print(f"refused by fastest: {refused} of {sum(row['routers']['fastest']['requests'] for row in found)}")
    broken = sorted((row for row in found if misses(row)), key=lambda row: -max(misses(row).values()))
    print("\nwhat is broken, the worst first:")
    for row in broken:
        print(f"  {row['case']}: " + ", ".join(f"{name} {value:.3f}" for name, value in misses(row).items()))


def disagrees(found: Sequence[dict[str, Any]], *, whole: bool) -> bool:
    """Print where the list of known misses is wrong, and with the `whole` quarter how much is won; whether it fails."""
    told = list(contradictions(found, known_misses()))
    print("\nmisses.toml: " + ("as it says" if not told else f"wrong in {len(told)} places"))
    if whole:
        told += [
            f"{one.title}: {one.median:.3f}, above {one.bound:g}" for one in margins(found) if one.median > one.bound
        ]
    for line in told:
        print(f"  {line}")
    return bool(told)


def choose(options: argparse.Namespace) -> list[Case]:
    """The configurations that were asked for."""
    slices, fleets = (HELD_OUT_SLICES, HELD_OUT_FLEETS) if options.held_out else (SLICES, FLEETS)
    seeds = options.seed or [HELD_OUT_SEED if options.held_out else SEED]
    chosen = []
    for seed in seeds:
        every = list(cases(slices, fleets=fleets, seeds=[seed]))
        chosen += every if options.full else quarter(every)
    chosen = [case for case in chosen if options.only in case.name]
    return random.Random(1).sample(chosen, len(chosen) // options.every) if options.every > 1 else chosen


def read_options() -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--held-out", action="store_true", help="fleets, stretches and a seed that nothing is tuned on")
    parser.add_argument("--seed", type=int, action="append", help="draw models and users by it; may be repeated")
    parser.add_argument("--only", default="", help="only cases whose name has this text")
    parser.add_argument("--every", type=int, default=1, help="only one in n of the chosen, always the same")
    parser.add_argument("--routers", default="")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--assert", dest="strict", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Run the configurations asked for."""
    options = read_options()
    if options.strict and (options.full or options.held_out or options.seed):
        raise SystemExit("--assert: misses.toml is about --quick")
    chosen = choose(options)
    usual = list(ROUTERS if options.full else dict.fromkeys((*USUAL, *NEEDED)))
    routers = options.routers.split(",") if options.routers else usual
    began, found = time.monotonic(), []
    for row in rows(chosen, routers, options.jobs, bounded=options.full):
        found.append(row)
        if options.json:
            with options.json.open("a" if len(found) > 1 else "w", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    worked = sum(os.times()[:4])
    print(f"{len(found)} configurations in {time.monotonic() - began:.0f} s, {worked:.0f} s of processor time")
    report(found)
    if options.strict and disagrees(found, whole=options.every == 1 and not options.only):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
