"""How near is `fastest` to what could be known only afterwards? `python benchmarks/routing/oracle.py [--tries 1000]`.

Small cases of the matrix, 40 requests each: the best schedule that a search finds with the future known (it is seeded,
and may miss a better one), and the bound of every model always in memory. One JSON line a case with --json FILE.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from matrix import FLEETS, Case, make_case
from offline import best_plan
from run import arrivals

from ollama_router_core.simulation.comparison import bound, compare
from ollama_router_core.simulation.report import summarise

ROUTERS = ("fastest", "fastest on arrival", "least_loaded", "least connections")

CASES = [
    Case(fleet=fleet, popularity="zipf", rate=rate, slice_="conversations 1", first=0, count=40)
    for fleet in FLEETS
    for rate in (0.16, 0.64)
]


def run(case: Case, tries: int) -> dict[str, Any]:
    """One row: p50 and p95 to the first token of each, in seconds."""
    scenario = make_case(case, arrivals("conversations"))
    plan = summarise(best_plan(scenario, random.Random(1), tries=tries, beginnings=ROUTERS))
    found = {one.router: one for one in (bound(scenario), plan, *compare(scenario, ROUTERS))}
    return {"case": case.name, "p50": {name: round(one.ttft_p50, 1) for name, one in found.items()},
            "p95": {name: round(one.ttft_p95, 1) for name, one in found.items()}}  # fmt: skip


def main() -> None:
    """A table of p50 / p95."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=1000, help="plans that are tried from each of four beginnings")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with ProcessPoolExecutor(options.jobs) as pool:
        rows = list(pool.map(partial(run, tries=options.tries), CASES))
    names = list(rows[0]["p95"])
    print("| |", " | ".join(names), "|")
    print("|---" * (len(names) + 1) + "|")
    for row in rows:
        print("|", row["case"], "|", " | ".join(f"{row['p50'][name]} / {row['p95'][name]}" for name in names), "|")
    if options.json:
        options.json.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
