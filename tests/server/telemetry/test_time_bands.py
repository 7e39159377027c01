"""Times in bands: percentiles to 5 in 100, whatever the times."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_server.telemetry.time_bands import band_of, percentile_ms


@given(st.lists(st.floats(1.5, 1e8), min_size=1, max_size=60), st.sampled_from([50, 95, 99]))
def test_a_percentile_is_near_the_true_one(times: list[float], percent: int) -> None:
    """By nearest rank, within half a band."""
    counts: dict[int, int] = {}
    for ms in times:
        counts[band_of(ms)] = counts.get(band_of(ms), 0) + 1
    true = sorted(times)[-(-len(times) * percent // 100) - 1]
    assert percentile_ms(counts, percent) == pytest.approx(true, rel=0.05)


def test_nothing_has_no_percentile() -> None:
    """Without requests there is none, and what took no time is in the first band."""
    assert percentile_ms({}, 50) is None
    assert band_of(0.0) == 0
