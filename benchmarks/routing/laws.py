"""What `fastest` promises about every configuration of the matrix, and by how much each row keeps it.

A law's figure is at most 1 where it holds.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ollama_router_core.simulation.report import percentile

__all__ = ["FAIR_REFUSALS", "LAWS", "NEEDED", "contradictions", "figures", "known_misses", "margins", "misses"]

SIMPLE = ("least_loaded", "fastest on arrival")
USUAL = ("random", "round robin", "least connections", "power of two", "sticky")
NEEDED = (*SIMPLE, "least connections", "fastest")
"""The routers that the laws compare."""

_NEVER_WORSE = 1.05
_FOR_ANYBODY = 1.25
_LONGEST = 3.0
FAIR_REFUSALS = 1.2
_BUSY = 0.32
"""Requests a second from which on there is something to win."""
_FULL = 0.7
"""The rest of the time goes to loads."""
_SECOND = 1.0
"""Seconds below which a difference is none that a person could tell."""

_KNOWN = Path(__file__).with_name("misses.toml")

Row = Mapping[str, Any]


def _against(row: Row, field: str) -> float:
    routers = row["routers"]
    best = min(routers[name][field] for name in SIMPLE)
    return float((routers["fastest"][field] - _SECOND) / max(best * _NEVER_WORSE, 1e-9))


def _for_the_worst(row: Row, field: str) -> float:
    """The one who is served worst, against what least connections gives that one."""
    ours, theirs = row["routers"]["fastest"][field], row["routers"]["least connections"][field]
    worst = max(ours, key=lambda name: (ours[name], name))
    return float((ours[worst] - _SECOND) / max(theirs[worst] * _FOR_ANYBODY, 1e-9))


def _longest(row: Row) -> float:
    ours = row["routers"]["fastest"]
    return float(ours["ttft_max"] / (_LONGEST * ours["ttft_p99"]))


def _refused_largest(row: Row) -> float:
    """The share of the largest model in what is refused, against its share of the requests.

    Where what only its servers can hold keeps them busy by itself, nobody else's requests could make room: no law then.
    """
    if row["load_of_its_homes"] > _FULL:
        return 0.0
    ours, requests = row["routers"]["fastest"], row["models"]
    largest = row["largest"]
    if not ours["refused"] or not requests.get(largest):
        return 0.0
    share = ours["refused_models"].get(largest, 0) / ours["refused"]
    return float(share / (requests[largest] / sum(requests.values())) / FAIR_REFUSALS)


LAWS: Mapping[str, Callable[[Row], float]] = {
    "ttft p50": lambda row: _against(row, "ttft_p50"),
    "ttft p95": lambda row: _against(row, "ttft_p95"),
    "ttft p99": lambda row: _against(row, "ttft_p99"),
    "completion p95": lambda row: _against(row, "completion_p95"),
    "worst model": lambda row: _for_the_worst(row, "models"),
    "worst user": lambda row: _for_the_worst(row, "users"),
    "longest wait": _longest,
    "refusals of the largest": _refused_largest,
}
"""Never worse (the first six) and nobody starves (the other two), by name."""


def figures(row: Row) -> dict[str, float]:
    """Every law's figure for a row."""
    return {name: law(row) for name, law in LAWS.items()}


def misses(row: Row) -> dict[str, float]:
    """The laws that a row breaks, with their figures."""
    return {name: value for name, value in figures(row).items() if value > 1.0}


def known_misses() -> dict[str, dict[str, float]]:
    """What `misses.toml` names: by configuration the laws that it breaks, each with the figure that it may have."""
    parts = tomllib.loads(_KNOWN.read_text(encoding="utf-8"))
    found: dict[str, dict[str, float]] = {}
    for part in parts.values():
        for case, laws in part["misses"].items():
            found.setdefault(case, {}).update(laws)
    return found


def contradictions(rows: Iterable[Row], known: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """What the rows show that the list does not say, a line each: new misses, worse ones, and those that are gone."""
    for row in rows:
        case, now = row["case"], misses(row)
        listed = known.get(case, {})
        for law, value in now.items():
            if law not in listed:
                yield f"{case}: {law} is broken: {value:.3f}"
            elif value > listed[law]:
                yield f"{case}: {law} is {value:.3f}, above the {listed[law]:g} of the list"
        for law in listed.keys() - now.keys():
            yield f"{case}: {law} is kept now: take it from the list"


class Margin(NamedTuple):
    """The median of p95 to the first token against the best usual policy, over `count` rows, and what it may be."""

    title: str
    median: float
    bound: float
    count: int


def margins(rows: Iterable[Row]) -> list[Margin]:
    """Better where there is room: over the rows at high rates, and those of five servers with Zipf's popularity."""
    busy = [row for row in rows if row["rate"] >= _BUSY]
    five = [row for row in busy if row["fleet"] == "five" and row["popularity"] == "zipf"]
    found = (("p95 of the best usual", 0.6, busy), ("the same, five, zipf", 0.5, five))
    return [
        Margin(title, percentile([_of_usual(row) for row in some], 0.5), bound, len(some))
        for title, bound, some in found
        if some
    ]


def _of_usual(row: Row) -> float:
    routers = row["routers"]
    best = min(routers[name]["ttft_p95"] for name in USUAL if name in routers)
    return float(routers["fastest"]["ttft_p95"] / best)
