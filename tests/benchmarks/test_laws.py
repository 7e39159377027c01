"""The list of what is known to break a law of routing is exact: nothing is lost unseen, and nothing stays named."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ollama_router_core.simulation.server_hardware import Machine
from ollama_router_core.simulation.server_state import ServerState
from ollama_router_core.simulation.workload import SimulatedModel

ROUTING = Path(__file__).parents[2] / "benchmarks" / "routing"


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(ROUTING))
    yield
    for name in ("laws", "run"):
        sys.modules.pop(name, None)


def row(p50: float) -> dict[str, Any]:
    """One that breaks `ttft p50` alone, or none, beside a median of 10 s under the others."""
    plain = {"ttft_p50": 10.0, "ttft_p95": 20.0, "ttft_p99": 30.0, "ttft_max": 40.0, "completion_p95": 20.0,
             "models": {"8b": 20.0}, "users": {"user1": 20.0}, "refused": 0}  # fmt: skip
    routers = dict.fromkeys(("least_loaded", "fastest on arrival", "least connections"), plain)
    return {
        "case": "a",
        "load_of_its_homes": 0.1,
        "models": {},
        "largest": "8b",
        "routers": {**routers, "fastest": {**plain, "ttft_p50": p50}},
    }


def test_a_list_that_says_what_a_run_shows_is_not_contradicted():
    """A law that is broken by no more than is listed, and laws that are kept."""
    from laws import contradictions

    assert list(contradictions([row(p50=22.0)], {"a": {"ttft p50": 2.01}})) == []
    assert list(contradictions([row(p50=9.0)], {"b": {"ttft p50": 2.0}})) == []


@pytest.mark.parametrize(
    ("p50", "listed", "told"),
    [
        (22.0, {}, "a: ttft p50 is broken: 2.000"),
        (22.0, {"ttft p50": 1.9}, "a: ttft p50 is 2.000, above the 1.9 of the list"),
        (9.0, {"ttft p50": 1.9}, "a: ttft p50 is kept now: take it from the list"),
    ],
)
def test_a_list_that_is_wrong_is_told_where(p50: float, listed: dict[str, float], told: str):
    """A new miss, a worse one, one that is gone."""
    from laws import contradictions

    assert list(contradictions([row(p50=p50)], {"a": listed})) == [told]


def test_what_is_won_is_told_of_busy_fleets():
    """The median of p95 against the best usual policy, over all and over five servers with Zipf's popularity."""
    from laws import margins

    def busy(p95: float, fleet: str, rate: float = 0.32) -> dict[str, Any]:
        usual = {"sticky": {"ttft_p95": 100.0}, "random": {"ttft_p95": 20.0}}
        routers = {**usual, "fastest": {"ttft_p95": p95}}
        return {"rate": rate, "fleet": fleet, "popularity": "zipf", "routers": routers}

    found = margins([busy(10.0, "five"), busy(4.0, "two"), busy(6.0, "two", 0.64), busy(90.0, "two", 0.16)])
    assert [(one.median, one.bound, one.count) for one in found] == [(0.3, 0.6, 3), (0.5, 0.5, 1)]
    assert margins([busy(90.0, "two", 0.16)]) == []


def test_the_facts_about_ollama_name_code_and_tests_that_exist():
    """Each row of the README's table, so that none outlives what it speaks of."""
    text = (ROUTING / "README.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in text.splitlines() if "| `test_" in line]
    tests = ROUTING.parents[1] / "tests" / "core" / "simulation" / "test_server_hardware.py"
    source = tests.read_text(encoding="utf-8")
    kinds = {"Machine": Machine, "ServerState": ServerState, "SimulatedModel": SimulatedModel}
    assert len(rows) > 10
    for _, _, code, named, _ in rows:
        kind, _, member = code.strip(" `").partition(".")
        assert hasattr(kinds[kind], member)
        assert all(f"def {name}(" in source for name in re.findall(r"`(\w+)`", named))


def test_what_is_listed_is_of_the_quarter_and_explained():
    """Every miss is one of a configuration and a law that exist, under a mechanism, above 1."""
    from laws import LAWS, known_misses
    from matrix import cases, quarter
    from run import SLICES

    known = known_misses()
    assert known.keys() <= {case.name for case in quarter(list(cases(SLICES)))}
    assert all(law in LAWS and figure > 1.0 for laws in known.values() for law, figure in laws.items())
    parts = tomllib.loads((ROUTING / "misses.toml").read_text(encoding="utf-8"))
    assert all(part["mechanism"].strip() and part["misses"] for part in parts.values())
