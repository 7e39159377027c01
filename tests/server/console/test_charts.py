"""Charts: parts add up, and nothing lies outside."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_server.console.charts import segments

VALUES = st.lists(st.floats(0, 1e9), max_size=20)


@given(VALUES, st.floats(50, 1000))
def test_segments_lie_side_by_side_within_the_bar(values: list[float], width: float) -> None:
    """Each begins where the one before ends, and the last ends at the bar's end or before."""
    found = segments(values, width)
    for before, after in pairwise(found):
        assert abs(before.x + before.width - after.x) < 0.01
    if any(values):
        assert found[-1].x + found[-1].width <= width + 0.1


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=10))
def test_whatever_has_a_value_can_be_seen(values: list[float]) -> None:
    """However small, as long as there is room for all."""
    assert all(segment.width >= 1.9 for segment in segments(values, 640))


@given(VALUES, st.floats(1, 1e9))
def test_less_than_the_whole_fills_less_than_the_bar(values: list[float], whole: float) -> None:
    """What is missing stays empty; what is too much is scaled down."""
    found = segments(values, 100, whole=whole, least=0)
    filled = sum(segment.width for segment in found)
    assert filled <= 100.1
    if sum(values) < whole:
        assert abs(filled - sum(values) / whole * 100) < 0.1


@given(VALUES, st.floats(1, 1e9))
def test_small_values_make_a_bar_no_longer(values: list[float], whole: float) -> None:
    """Two bars on one scale can be compared: larger values give way, as long as there are any."""
    found = segments(values, 640, whole=whole)
    least = 2.0 * sum(value > 0 for value in values)
    asked = sum(values) / max(sum(values), whole) * 640
    assert sum(segment.width for segment in found) == pytest.approx(min(640, max(asked, least)), abs=0.2)
