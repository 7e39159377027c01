"""Routing quality in virtual time: `python benchmarks/routing/run.py [--scenarios A,B,C] [--trace FILE] [--ollama]`.

Prints one table a scenario and load, ours beside what people use today, and whether the promises hold: the time to
first token of `fastest` against the best baseline's, and that nobody waits for longer than three times the 99th
percentile of least connections. Seeded; one core, a few minutes.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from ollama_router_core.simulation import BASELINES, ROUTERS, Summary, compare, make_scenario, table

TRACE = Path(__file__).parent.parent / "data" / "azure_llm_2023_code.csv"
PROMISES = {"A": (0.33, 0.42), "B": (0.4, 0.5), "C": (0.4, 0.5)}
LOADS = (4.0, 8.0)
LONGEST_WAIT = 3.0


def judge(scenario: str, summaries: list[Summary]) -> str:
    """The promises, and what was reached."""
    if {"fastest", "least connections"} - {one.router for one in summaries}:
        return "not judged: fastest and the baselines are needed for that"
    ours = next(one for one in summaries if one.router == "fastest")
    baselines = [one for one in summaries if one.router in BASELINES]
    p50, p95 = PROMISES[scenario]
    longest = next(one for one in baselines if one.router == "least connections").ttft_p99 * LONGEST_WAIT
    rows = (
        ("p50", ours.ttft_p50 / min(one.ttft_p50 for one in baselines), p50),
        ("p95", ours.ttft_p95 / min(one.ttft_p95 for one in baselines), p95),
        ("longest wait", ours.ttft_max / longest, 1.0),
    )
    return ", ".join(f"{name} {got:.2f} of {most} {'holds' if got <= most else 'FAILS'}" for name, got, most in rows)


def main() -> None:
    """Run the scenarios asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenarios", default="A,B,C")
    parser.add_argument("--routers", default=",".join(ROUTERS))
    parser.add_argument("--trace", type=Path, default=TRACE)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ollama", action="store_true", help="loads strictly in order, eviction by name")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    trace = options.trace.read_text(encoding="utf-8")
    found = []
    for name in options.scenarios.split(","):
        for stretch in LOADS:
            scenario = make_scenario(name, trace, stretch=stretch, seed=options.seed)
            if options.ollama:
                machines = tuple(replace(one, joins=False, eviction="ollama") for one in scenario.machines)
                scenario = replace(scenario, machines=machines)
            rate = len(scenario.jobs) / scenario.jobs[-1].at
            summaries = list(compare(scenario, options.routers.split(",")))
            print(f"\nscenario {name}, {rate:.2f} requests/s\n{table(summaries)}\n{judge(name, summaries)}", flush=True)
            found += [{"scenario": name, "rate": round(rate, 3), **one.to_json()} for one in summaries]
    if options.json:
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
