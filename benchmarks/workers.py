"""One worker and two, side by side: requests a second, processor time a request, and who served how many.

    python benchmarks/workers.py [--seconds 4] [--rounds 3]

On a machine whose cores are shared with the load and the backend the rate says little; processor time a request does:
what it grows by is what several workers cost each other. Needs wrk and nginx, as `dataplane/run.py` does.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "dataplane"))

from load import wrk
from stacks import backend, router

TICKS = os.sysconf("SC_CLK_TCK")
CONNECTIONS = 64


def main():
    """Measure and print."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--seconds", type=int, default=4)
    asked.add_argument("--rounds", type=int, default=3)
    options = asked.parse_args()
    with backend(), router() as one, router(workers=2) as two:
        figures = {1: [], 2: []}
        for running in (one, two):
            wrk(running, connections=8, seconds=1)
        for _ in range(options.rounds):
            for count, running in ((1, one), (2, two)):
                figures[count].append(measure(running, count, options.seconds))
    for count, rows in figures.items():
        rate, cost, shares = (statistics.median(row[place] for row in rows) for place in range(3))
        print(
            f"{count} worker(s): {rate:.0f} req/s, {cost * 1e6:.0f} us of processor a request, least share {shares:.2f}"
        )
    ratio = statistics.median(row[1] for row in figures[2]) / statistics.median(row[1] for row in figures[1])
    print(f"processor time a request, two workers of one: {ratio:.2f}")


def measure(running, count, seconds):
    """Requests a second, processor seconds a request, and the share of the worker that did least."""
    pids = [running.pids[0], *children(running.pids[0])][-count:]
    before = [spent(pid) for pid in pids]
    rate, _, _ = wrk(running, connections=CONNECTIONS, seconds=seconds)
    used = [spent(pid) - start for pid, start in zip(pids, before, strict=True)]
    return rate, sum(used) / (rate * seconds), min(used) / sum(used) * count


def children(pid):
    """Processes that a process started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def spent(pid):
    """Processor seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


if __name__ == "__main__":
    main()
