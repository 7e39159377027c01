"""Stacked columns: every request once, parts on top of each other, nothing outside the box."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_server.admin.views.usage_steps import UsageStep, usage_steps
from ollama_router_server.console.stacked_chart import OTHERS, stacked
from ollama_router_server.storage.log_stats import HourRow
from ollama_router_server.storage.log_totals import FIGURES

COUNTS = st.lists(st.tuples(st.integers(0, 400), st.lists(st.integers(0, 10**6), min_size=5, max_size=5)), max_size=40)


def hour(start: int, requests: int) -> HourRow:
    """An hour with so many requests."""
    return HourRow(start=start, **{**dict.fromkeys(FIGURES, 0), "requests": requests})


def steps_of(counts: list[tuple[int, list[int]]], step: int) -> list[UsageStep]:
    """Steps of hours with these requests of a, b, c, d and others."""
    hours = {at * 3_600: found for at, found in counts}
    named = {name: {start: found[place] for start, found in hours.items()} for place, name in enumerate("abcd")}
    rows = [hour(start, sum(found)) for start, found in hours.items()]
    return usage_steps(rows, named, since=0.0, until=400 * 3_600.0, step=step)


@given(counts=COUNTS, step=st.sampled_from([3_600, 86_400]))
def test_parts_add_up_and_nothing_lies_outside(counts: list[tuple[int, list[int]]], step: int) -> None:
    """No step is missing; parts follow each other from the ground; the highest is as high as the chart."""
    steps = steps_of(counts, step)
    assert [one.start for one in steps] == list(range(0, steps[-1].start + 1, step))
    assert all(one.requests == sum(part.requests for part in one.parts) + one.others for one in steps)
    assert sum(one.requests for one in steps) == sum(sum(found) for found in dict(counts).values())
    chart = stacked(steps)
    for column in chart.columns:
        assert 0 <= column.x <= column.x + column.width <= chart.width
        assert sum(part.requests for part in column.parts) == column.step.requests
        below = chart.height
        for part in column.parts:
            assert part.y + part.height == pytest.approx(below, abs=0.01)
            below = part.y
        assert below >= 0
    if any(one.requests for one in steps):
        assert min(column.parts[0].y for column in chart.columns if column.parts) >= 0
        assert min(part.y for column in chart.columns for part in column.parts) == pytest.approx(0, abs=0.01)


def test_the_legend_has_what_is_there() -> None:
    """In the order of the parts, the others last."""
    chart = stacked(steps_of([(3, [5, 0, 2, 0, 4])], 86_400))
    assert chart.legend == [(0, "a"), (2, "c"), (OTHERS, None)]
    assert stacked([]).legend == []


def test_a_row_between_two_reads_is_counted_once() -> None:
    """Named ones may be read after the sums: then a step has as many as they say."""
    (step,) = usage_steps([hour(0, 1)], {"a": {0: 2}}, since=0.0, until=10.0, step=3_600)
    assert (step.requests, step.others) == (2, 0)
