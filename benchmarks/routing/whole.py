"""The whole matrix, and what it was under other rules: `python benchmarks/routing/whole.py AFTER BEFORE`.

Both files have the JSON lines of `run.py --full --json FILE`, AFTER with the rules of now, BEFORE with others on the
same simulator; configurations that one of them lacks are left out. Draws docs/images/routing-whole.svg and fills in the
measured parts of docs/explanation/routing-matrix.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from laws import LAWS, figures, margins, misses
from matplotlib.figure import Figure
from plots import DOCS, fill, save

from ollama_router_core.simulation.report import percentile

PAGE = DOCS / "explanation" / "routing-matrix.md"
COLOURS = {"before": "#c77d0a", "now": "#0b7a4b"}
BOUND = "all resident"

Row = Mapping[str, Any]
Worlds = Mapping[str, Sequence[Row]]


def read(after: Path, before: Path) -> Worlds:
    """The rows of both, of the same configurations and in the same order."""
    files = {"before": before, "now": after}
    found = {
        name: {row["case"]: row for row in map(json.loads, file.read_text(encoding="utf-8").splitlines())}
        for name, file in files.items()
    }
    cases = sorted(found["before"].keys() & found["now"].keys())
    return {name: [rows[case] for case in cases] for name, rows in found.items()}


def keep_all(rows: Sequence[Row]) -> int:
    """How many break no law."""
    return sum(not misses(row) for row in rows)


def tell_laws(worlds: Worlds) -> list[list[str]]:
    """Each law: how many keep it, the median and the worst, before and now."""
    told = []
    for law in LAWS:
        cells = []
        for rows in worlds.values():
            values = [figures(row)[law] for row in rows]
            kept = sum(one <= 1.0 for one in values)
            cells.append((str(kept), *(f"{percentile(values, share):.2f}" for share in (0.5, 0.9, 1.0))))
        told.append([law, *(cell for pair in zip(*cells, strict=True) for cell in pair)])
    kept = [str(keep_all(rows)) for rows in worlds.values()]
    return [*told, ["all of them", *kept, *[""] * 6]]


def tell_groups(worlds: Worlds) -> list[list[str]]:
    """Each fleet, popularity, rate and trace: how many keep all laws, how much shorter p95 is, who is refused."""
    told = []
    for field in ("fleet", "popularity", "rate", "slice"):
        for value in sorted({row[field] for row in worlds["now"]}):
            old, new = ([row for row in rows if row[field] == value] for rows in worlds.values())
            ratios = [_p95(after) / _p95(before) for before, after in zip(old, new, strict=True)]
            refused = [str(sum(row["routers"]["fastest"]["refused"] for row in rows)) for rows in (old, new)]
            title = f"{value:g}/s" if field == "rate" else value
            kept = [f"{keep_all(rows)} of {len(rows)}" for rows in (old, new)]
            told.append([title, *kept, f"{percentile(ratios, 0.5):.2f}", f"{max(ratios):.2f}", *refused])
    return told


def _p95(row: Row, router: str = "fastest") -> float:
    return float(row["routers"][router]["ttft_p95"])


def tell_routers(rows: Sequence[Row]) -> list[list[str]]:
    """Every router against least connections, in the median, and what it refuses."""
    told = []
    for router in sorted(rows[0]["routers"], key=lambda name: percentile([_p95(row, name) for row in rows], 0.5)):
        cells = [router if router != BOUND else f"{BOUND} (a bound)"]
        for field in ("ttft_p50", "ttft_p95", "ttft_p99", "completion_p95"):
            both = [(row["routers"][router][field], row["routers"]["least connections"][field]) for row in rows]
            cells.append(f"{percentile([ours / theirs for ours, theirs in both], 0.5):.2f}")
        refused = sum(row["routers"][router]["refused"] for row in rows)
        told.append([*cells, f"{100 * refused / sum(row['routers'][router]['requests'] for row in rows):.1f}"])
    return told


def tell_margins(worlds: Worlds) -> list[list[str]]:
    """The median of p95 against the best usual policy, before and now, and what it may be."""
    usual = {row["case"]: row["routers"] for row in worlds["now"]}
    old = [{**row, "routers": {**usual[row["case"]], "fastest": row["routers"]["fastest"]}} for row in worlds["before"]]
    pairs = zip(margins(old), margins(worlds["now"]), strict=True)
    return [
        [f"{one.title}, {one.count} configurations", f"{was.median:.2f}", f"{one.median:.2f}", f"{one.bound:g}"]
        for was, one in pairs
    ]


def tell_worst(rows: Sequence[Row]) -> list[list[str]]:
    """The ten that break a law by most: what they break, and who is refused there."""
    worst = sorted((row for row in rows if misses(row)), key=lambda row: -max(misses(row).values()))[:10]
    told = []
    for row in worst:
        ours = row["routers"]["fastest"]
        largest = ours["refused_models"].get(row["largest"], 0)
        refused = [row["routers"][name]["refused"] for name in ("fastest", "least_loaded")]
        waits = [f"{row['routers'][name]['ttft_p95']:.0f}" for name in ("fastest", "least_loaded", "least connections")]
        law = ", ".join(f"{name} {value:.2f}" for name, value in misses(row).items())
        case = row["case"].rsplit(" · ", 1)[0]
        told.append([case, law, f"{refused[0]}, {largest} of the largest", str(refused[1]), " / ".join(waits)])
    return told


def draw(worlds: Worlds) -> None:
    """How far each configuration is from keeping all laws, and its p95 against the better of the simple strategies."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, rows in worlds.items():
        values = sorted(max(figures(row).values()) for row in rows)
        share = [100 * (n + 1) / len(values) for n in range(len(values))]
        left.plot(share, values, label=name, color=COLOURS[name])
        ratios = sorted(figures(row)["ttft p95"] for row in rows)
        right.plot(share, [max(0.1, one) for one in ratios], label=name, color=COLOURS[name])
    for axes, label in ((left, "its worst figure of the eight laws"), (right, "figure of the law for p95")):
        axes.axhline(1.0, color="black", lw=1)
        axes.set(yscale="log", xlabel="% of the configurations", ylabel=label)
        axes.legend(fontsize=7)
    save(figure, "whole")


LAW_HEAD = ("", "kept before", "kept", "median before", "median", "p90 before", "p90", "worst before", "worst")
GROUP_HEAD = ("", "all laws before", "all laws", "p95, now / before", "the worst", "refused before", "refused")
ROUTER_HEAD = ("", "p50", "p95", "p99", "last token, p95", "% refused")
WORST_HEAD = (
    "configuration",
    "breaks",
    "refused",
    "by `least_loaded`",
    "p95: `fastest` / `least_loaded` / least connections",
)


def main() -> None:
    """Everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("after", type=Path)
    parser.add_argument("before", type=Path)
    options = parser.parse_args()
    worlds = read(options.after, options.before)
    draw(worlds)
    fill("whole", LAW_HEAD, tell_laws(worlds), PAGE)
    fill("margins", ("", "before", "now", "at most"), tell_margins(worlds), PAGE)
    fill("groups", GROUP_HEAD, tell_groups(worlds), PAGE)
    fill("routers", ROUTER_HEAD, tell_routers(worlds["now"]), PAGE)
    fill("worst", WORST_HEAD, tell_worst(worlds["now"]), PAGE)


if __name__ == "__main__":
    main()
