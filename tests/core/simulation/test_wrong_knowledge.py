"""What a router is told wrongly makes it a little worse, and no more."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROUTING = Path(__file__).parents[3] / "benchmarks" / "routing"
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(ROUTING))
    BENCHMARK = runpy.run_path(str(ROUTING / "knowledge.py"))
MOST = 1.5
ASSERTED = 2
"""The other configurations are in the table of docs/explanation/performance.md alone: tests are to be quick."""


@pytest.mark.parametrize("wrong", BENCHMARK["WRONG"])
@pytest.mark.parametrize("case", list(BENCHMARK["CASES"])[:ASSERTED])
def test_wrong_knowledge_degrades_and_does_not_collapse(case: str, wrong: str) -> None:
    """The 95th percentile to the first token is at most half as long again as with right knowledge."""
    assert BENCHMARK["ratio"](case, wrong) <= MOST
