"""Draw what routing does, and fill in the tables beside the plots: `python benchmarks/routing/plots.py --matrix FILE`.

FILE has the JSON lines of `run.py --json FILE`, that of `--held-out` those of `run.py --held-out --json FILE`; without
them these parts are left as they are. Everything else is simulated anew: minutes of a core. Writes
docs/images/routing-*.svg and the measured parts of docs/explanation/routing-measured.md and of a page for each shape in
docs/explanation/routing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from laws import LAWS, NEEDED, figures, misses
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matrix import Case, make_case
from run import arrivals
from shapes import PEOPLE, SHAPES, scenario

from ollama_router_core.simulation.comparison import compare, results
from ollama_router_core.simulation.engine import SimulationResult
from ollama_router_core.simulation.report import Summary, percentile
from ollama_router_core.simulation.what_if import Change, changed

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "explanation" / "routing-measured.md"
SHAPE_PAGES = DOCS / "explanation" / "routing"
DRAWS = (1, 2, 3, 4)
ROUTERS = (*NEEDED, "sticky")
COLOURS = dict(zip(ROUTERS, ("#7a7a7a", "#c77d0a", "#2b6cb0", "#0b7a4b", "#9b3fa5"), strict=True))
WINDOWS = 40
PATIENCES = (30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 2400.0)
COLLIDING = {
    "one big, four small, largest first, 0.08/s": ("one big, four small", "large first", 0.08),
    "two, largest first, 0.16/s": ("two", "large first", 0.16),
    "five, Zipf, 0.64/s": ("five", "zipf", 0.64),
}
mpl.rcParams.update(
    {"svg.fonttype": "none", "svg.hashsalt": "routing", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3}
)


def save(figure: Figure, name: str) -> None:
    """One SVG, the same bytes for the same figures."""
    path = DOCS / "images" / f"routing-{name}.svg"
    figure.savefig(path, metadata={"Date": None})
    path.write_text("".join(f"{line.rstrip()}\n" for line in path.read_text(encoding="utf-8").splitlines()), "utf-8")


def waits(result: SimulationResult) -> list[tuple[float, str, float]]:
    """When each request came, whose it was and how long it waited for its first token, or until it was refused."""
    found = [(one.job.at, one.job.user, one.ttft) for one in result.outcomes]
    return sorted(found + [(one.job.at, one.job.user, one.wait) for one in result.rejections])


def draw_shares(axes: Axes, values: Sequence[float], **style: Any) -> None:
    """The share of requests that wait at most so long."""
    ordered = sorted(values)
    axes.plot([max(0.05, percentile(ordered, n / 100)) for n in range(1, 101)], range(1, 101), **style)


def draw_course(axes: Axes, told: Sequence[tuple[float, str, float]], **style: Any) -> None:
    """The mean wait of those who came in each fortieth of the time."""
    end = told[-1][0] / WINDOWS
    groups: list[list[float]] = [[] for _ in range(WINDOWS)]
    for at, _, seconds in told:
        groups[min(WINDOWS - 1, int(at / end))].append(seconds)
    points = [((n + 0.5) * end / 60, sum(one) / len(one)) for n, one in enumerate(groups) if one]
    axes.plot(*zip(*points, strict=True), **style)


def draw_shape(name: str) -> list[list[str]]:
    """One plot; returns the rows of its table."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    rows = []
    for result in results(scenario(name), ROUTERS):
        told, style = waits(result), {"color": COLOURS[result.router], "lw": 1.3}
        own = [seconds for _, user, seconds in told if user == PEOPLE]
        rest = [seconds for _, user, seconds in told if user != PEOPLE]
        draw_shares(left, own, label=result.router, **style)
        if rest:
            draw_shares(left, rest, linestyle=":", **style)
        draw_course(right, told, label=result.router, **style)
        spread = [f"{percentile(own, share):.1f}" for share in (0.5, 0.95, 0.99)]
        other = [f"{percentile(rest, share):.1f}" if rest else "-" for share in (0.5, 0.95)]
        rows.append([f"`{result.router}`", *spread, *other, str(result.loads), str(result.refused)])
    left.set(xscale="log", xlabel="seconds to the first token (dotted: the other user)", ylabel="% of the requests")
    right.set(yscale="log", xlabel="minute of arrival", ylabel="mean seconds to the first token")
    left.legend(loc="lower right", fontsize=7)
    save(figure, name)
    return rows


def tell_draws(name: str) -> list[list[str]]:
    """The 95th percentile of people under each router, draw by draw."""
    found: dict[str, list[str]] = {}
    for draw in DRAWS:
        for one in compare(scenario(name, draw), ROUTERS):
            found.setdefault(one.router, []).append(f"{one.users[PEOPLE]:.1f}")
    return [[f"`{router}`", *cells] for router, cells in found.items()]


def draw_matrix(rows: Sequence[Mapping[str, Any]], name: str) -> list[list[str]]:
    """How far each law is kept over the matrix, and the 95th percentile against least connections by rate."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    laws = [figures(row) for row in rows]
    table = []
    for law in LAWS:
        values = sorted(one[law] for one in laws)
        left.plot(
            [100 * (n + 1) / len(values) for n in range(len(values))], [max(0.05, one) for one in values], label=law
        )
        kept = sum(one <= 1.0 for one in values)
        table.append(
            [
                law,
                f"{kept} of {len(values)}",
                f"{values[len(values) // 2]:.2f}",
                f"{values[-1]:.2f}",
            ]
        )
    left.axhline(1.0, color="black", lw=1)
    left.set(yscale="log", xlabel="% of the configurations", ylabel="figure of the law: at most 1 keeps it")
    left.legend(fontsize=6.5)
    for number, rate in enumerate(sorted({row["rate"] for row in rows})):
        found = sorted(ratio(row) for row in rows if row["rate"] == rate)
        right.plot([number + (n / len(found) - 0.5) * 0.6 for n in range(len(found))], found, ".", color="#0b7a4b")
        right.plot([number - 0.3, number + 0.3], [percentile(found, 0.5)] * 2, color="black", lw=1)
    right.axhline(1.0, color="black", lw=1)
    rates = sorted({row["rate"] for row in rows})
    right.set(yscale="log", ylabel="p95 of fastest / least connections", xlabel="requests/s (line: the median)")
    right.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
    save(figure, name)
    return [*table, tell_all_kept(laws)]


def tell_all_kept(laws: Sequence[Mapping[str, float]]) -> list[str]:
    """The row of those that keep all."""
    return ["all of them", f"{sum(max(one.values()) <= 1.0 for one in laws)} of {len(laws)}", "", ""]


def tell_worst(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The ten configurations that miss a law by most, and what each misses."""
    worst = sorted((row for row in rows if misses(row)), key=lambda row: -max(misses(row).values()))[:10]
    return [[row["case"], ", ".join(f"{name} {value:.2f}" for name, value in misses(row).items())] for row in worst]


def ratio(row: Mapping[str, Any]) -> float:
    """The p95 to the first token of `fastest` against least connections."""
    routers = row["routers"]
    return float(routers["fastest"]["ttft_p95"] / routers["least connections"]["ttft_p95"])


def serve_patiently() -> list[tuple[str, float, Summary, float]]:
    """What comes of every `queue.max_wait` on fleets that are full, and the % refused of the largest model's."""
    found = []
    for title, (fleet, popularity, rate) in COLLIDING.items():
        case = Case(fleet=fleet, popularity=popularity, rate=rate, slice_="conversations 1", first=0, count=1000)
        world = make_case(case, arrivals("conversations"))
        counts = Counter(str(job.model) for job in world.jobs)
        largest = max((one for one in world.models if counts[one.name]), key=lambda one: one.weights_gib).name
        for patience in PATIENCES:
            (one,) = compare(changed(world, Change(max_wait=patience)), ["fastest"])
            found.append((title, patience, one, 100 * one.refused_models.get(largest, 0) / counts[largest]))
    return found


def tell_patience() -> list[list[str]]:
    """The rows of its table."""
    return [
        [title, f"{patience:g}", f"{one.ttft_p50:.1f}", f"{one.ttft_p95:.0f}",
         f"{100 * one.refused / one.requests:.1f}", f"{share:.0f}"]
        for title, patience, one, share in serve_patiently()
    ]  # fmt: skip


def draw_patience(rows: Sequence[Sequence[str]]) -> None:
    """p95 and refusals against each other, from the rows of the table."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for title, colour in zip(COLLIDING, COLOURS.values(), strict=False):
        points = [[float(cell) for cell in row[1:]] for row in rows if row[0] == title]
        style = {"ms": 3, "color": colour, "label": title}
        left.plot([one[2] for one in points], [one[3] for one in points], "o-", **style)
        right.plot([one[0] for one in points], [one[4] for one in points], "o-", **style)
    left.set(xscale="log", xlabel="p95 to the first token, seconds", ylabel="% refused")
    right.set(xscale="log", xlabel="queue.max_wait, seconds", ylabel="% refused of the largest model's")
    left.legend(fontsize=7)
    save(figure, "patience")


MATRIX_HEAD = ("", "kept", "median", "worst")
HEADS = {
    "matrix": MATRIX_HEAD,
    "held-out": MATRIX_HEAD,
    "worst": ("configuration", "misses"),
    "patience": ("", "`max_wait`", "p50", "p95", "% refused", "% of the largest model's"),
}
DRAWS_HEAD = ("", *(f"draw {draw}" for draw in DRAWS))
SHAPE_HEAD = ("", "p50", "p95", "p99", "the other user: p50", "p95", "loads", "refused")


def fill(name: str, head: Sequence[str], rows: Iterable[Sequence[str]], page: Path = PAGE) -> None:
    """Replace a measured part of a page, with its picture if it has one."""
    lines = [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows)]
    picture = DOCS / "images" / f"routing-{name}.svg"
    image = [f"![{name}]({os.path.relpath(picture, page.parent)})", ""] if picture.exists() else []
    part = "\n".join([f"<!-- measured: {name} -->", "", *image, *lines, "", "<!-- end -->"])
    text = page.read_text(encoding="utf-8")
    pattern = re.compile(rf"<!-- measured: {name} -->.*?<!-- end -->", re.DOTALL)
    page.write_text(pattern.sub(lambda _: part, text), encoding="utf-8")


def fill_matrix(name: str, file: Path) -> None:
    """The part of a matrix, from the lines of its file; of the one for development also its worst ten."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    fill(name, HEADS[name], draw_matrix(rows, name))
    if name == "matrix":
        fill("worst", HEADS["worst"], tell_worst(rows))


def main() -> None:
    """Everything, or what is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--matrix", type=Path)
    parser.add_argument("--held-out", type=Path)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(SHAPES)}, patience, matrix, held-out; default: all")
    options = parser.parse_args()
    files = {"matrix": options.matrix, "held-out": options.held_out}
    for name in options.names or [*SHAPES, "patience", *files]:
        if name in files:
            if files[name] is not None:
                fill_matrix(name, files[name])
        elif name == "patience":
            told = tell_patience()
            draw_patience(told)
            fill(name, HEADS[name], told)
        else:
            page = SHAPE_PAGES / f"{name}.md"
            fill(name, SHAPE_HEAD, draw_shape(name), page)
            fill(f"{name}-draws", DRAWS_HEAD, tell_draws(name), page)


if __name__ == "__main__":
    main()
