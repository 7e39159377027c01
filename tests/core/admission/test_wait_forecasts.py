"""Expected waits become ranges by how far earlier ones were off."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.admission import WaitForecasts

SECONDS = st.floats(0.0, 3_600.0)


def test_few_waits_say_nothing_of_the_spread() -> None:
    """Below 20 of them the range is the expected wait itself."""
    forecasts = WaitForecasts()
    for _ in range(19):
        forecasts.ended(10.0, 30.0)
    assert forecasts.range(10.0) == (10.0, 10.0)


def test_eight_of_ten_waits_end_within_the_range() -> None:
    """The tenth that was shortest and the tenth that was longest are outside."""
    forecasts = WaitForecasts()
    for number in range(20):
        forecasts.ended(10.0, float(number))
    assert forecasts.range(20.0) == (4.0, 34.0)


def test_the_last_two_hundred_count() -> None:
    """What was off long ago is forgotten."""
    forecasts = WaitForecasts()
    for waited in (90.0,) * 200 + (10.0,) * 200:
        forecasts.ended(10.0, waited)
    assert forecasts.range(5.0) == (5.0, 5.0)


def test_waits_of_next_to_nothing_do_not_count() -> None:
    """A wait of 0.1 s that took 1 s does not make ten times of every other."""
    forecasts = WaitForecasts()
    for _ in range(50):
        forecasts.ended(0.1, 1.0)
    assert forecasts.range(10.0) == (10.0, 10.0)


@given(st.lists(st.tuples(SECONDS, SECONDS), max_size=250), SECONDS)
def test_a_range_is_never_upside_down(waits: list[tuple[float, float]], expected: float) -> None:
    """And never before now."""
    forecasts = WaitForecasts()
    for told, waited in waits:
        forecasts.ended(told, waited)
    least, most = forecasts.range(expected)
    assert 0.0 <= least <= most
