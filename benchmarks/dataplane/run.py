"""The data plane beside what a user would pick instead: one command, one session, stacks alternating.

    python benchmarks/dataplane/run.py [--stacks nginx,ollama-router,...] [--seconds 4] [--rounds 3] [--only delays]
                                       [--out FOLDER]

Writes `dataplane.md` (and `dataplane.png` where matplotlib is installed). Needs wrk and nginx; haproxy, vllm-router
and litellm are left out by name where they cannot be had. Compare the ratios: absolute numbers are the machine's.
Delays of chunks are measured with backend, stack and reader before all other processes of the machine, where that is
allowed (root): else they tell of its neighbours. `--only delays` measures nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from load import chunk_delays, memory_per_stream, wrk
from stacks import STACKS, backend, before_all_others, router

ROWS = (
    ("req/s at 64 connections", "rate", "{:.0f}"),
    ("p99 at 64 connections (ms)", "p99", "{:.1f}"),
    ("added latency at 1 connection, p50 (ms)", "added", "{:.3f}"),
    ("chunks/s, 32 streams of 100", "chunks", "{:.0f}"),
    ("added delay of a chunk, 500 streams at 20/s, p50 (ms)", "delay50", "{:.2f}"),
    ("added delay of a chunk, 500 streams at 20/s, p99 (ms)", "delay99", "{:.2f}"),
    ("memory of an idle stream, 2,000 of them (KiB)", "memory", "{:.1f}"),
    ("processor seconds per million tokens", "cpu", "{:.1f}"),
    ("first answer after start (s)", "start", "{:.2f}"),
)


def main():
    """Measure, print, write."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--stacks", default=",".join(STACKS))
    asked.add_argument("--seconds", type=int, default=4)
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--only", choices=["delays"])
    asked.add_argument("--quick", action="store_true", help="only req/s, latency and chunks/s")
    asked.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = asked.parse_args()
    with backend() as direct, contextlib.ExitStack() as stack:
        running = _start(stack, options.stacks.split(","))
        figures = {name: {"start": one.started_in} for name, one in running.items()}
        if options.only == "delays":
            for name, found in _delays(running, direct, options).items():
                figures[name].update(found)
        else:
            _everything(running, direct, figures, options)
        table = _table(figures)
    print(table)
    options.out.mkdir(exist_ok=True)
    (options.out / "dataplane.md").write_text(table, encoding="utf-8")
    if options.only is None:
        _plot(figures, options.out / "dataplane.png")


def _start(stack, names):
    running = {}
    for name in names:
        try:
            running[name] = stack.enter_context(STACKS[name]())
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            print(f"{name}: left out, {error}", file=sys.stderr)
    return running


def _throughput(running, direct, figures, options):
    for one in running.values():
        wrk(one, connections=8, seconds=1)
    rounds = {name: {"rate": [], "p99": [], "one": [], "chunks": [], "cpu": []} for name in [*running, "direct"]}
    for _ in range(options.rounds):
        rounds["direct"]["one"].append(wrk(direct, connections=1, seconds=options.seconds)[1])
        for name, one in running.items():
            rate, _, p99 = wrk(one, connections=64, seconds=options.seconds)
            _, p50, _ = wrk(one, connections=1, seconds=options.seconds)
            before = one.cpu()
            streams, _, _ = wrk(one, connections=32, seconds=options.seconds, stream=True)
            tokens = streams * 100 * options.seconds
            found = {"rate": rate, "p99": p99, "one": p50, "chunks": streams * 100}
            for key, value in {**found, "cpu": (one.cpu() - before) / max(tokens, 1) * 1e6}.items():
                rounds[name][key].append(value)
    least = statistics.median(rounds["direct"]["one"])
    for name in running:
        middle = {key: statistics.median(values) for key, values in rounds[name].items()}
        figures[name].update(rate=middle["rate"], p99=middle["p99"] * 1e3, chunks=middle["chunks"], cpu=middle["cpu"])
        figures[name]["added"] = (middle["one"] - least) * 1e3


def _everything(running, direct, figures, options):
    _throughput(running, direct, figures, options)
    if not options.quick:
        _streams(running, direct, figures, options)
        _workers(figures, options)


def _streams(running, direct, figures, options):
    for name, found in _delays(running, direct, options).items():
        figures[name].update(found)
        with STACKS[name]() as fresh:
            wrk(fresh, connections=8, seconds=1)
            figures[name]["memory"] = memory_per_stream(fresh, streams=2000) / 1024


def _delays(running, direct, options):
    slow = {"streams": 500, "chunks": 100, "gap_ms": 50}
    shares = (("delay50", 0.5), ("delay99", 0.99))
    added = {name: {"delay50": [], "delay99": []} for name in running}
    for _ in range(options.rounds):
        for name, one in running.items():
            with before_all_others(direct, one):
                base, delays = chunk_delays(direct, **slow), chunk_delays(one, **slow)
            for key, share in shares:
                added[name][key].append((_at(delays, share) - _at(base, share)) * 1e3)
    return {name: {key: statistics.median(found) for key, found in one.items()} for name, one in added.items()}


def _at(values, share):
    return values[min(int(len(values) * share), len(values) - 1)]


def _workers(figures, options):
    if "ollama-router" not in figures:
        return
    with contextlib.suppress(RuntimeError), router(workers=2) as two:
        wrk(two, connections=8, seconds=1)
        rate, _, p99 = wrk(two, connections=64, seconds=options.seconds)
        figures["ollama-router, 2 workers"] = {"rate": rate, "p99": p99 * 1e3, "start": two.started_in}


def _table(figures):
    names = list(figures)
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for title, key, form in ROWS:
        cells = [form.format(figures[name][key]) if key in figures[name] else "-" for name in names]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    for title, key in (("req/s, of nginx", "rate"), ("chunks/s, of nginx", "chunks")):
        base = figures.get("nginx", {}).get(key)
        cells = [f"{figures[name][key] / base:.2f}" if base and key in figures[name] else "-" for name in names]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _plot(figures, path):
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - optional
        from matplotlib.figure import Figure  # noqa: PLC0415 - optional
    except ImportError:
        return
    names = [name for name in figures if "chunks" in figures[name]]
    figure = Figure(figsize=(11, 4))
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2)
    for axis, key, title in zip(axes, ("rate", "chunks"), ("requests/s at 64", "chunks/s at 32 streams"), strict=True):
        axis.barh(names, [figures[name][key] for name in names])
        axis.set_title(title)
        axis.invert_yaxis()
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    main()
