"""Many refusals within a minute are one thing that is wrong; single ones, and what clients get wrong, are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.records.refusal_waves import MANY, RefusalWave, is_refused
from support.records import make_record


def test_many_within_a_minute_are_told_with_the_code_that_most_have() -> None:
    """And are over a minute after the last of them, though the count stays as it is."""
    wave = RefusalWave()
    assert wave.see({"queue_full": 5}, 0.0) is None
    told = wave.see({"queue_full": 25, "rate_limited": 3}, 10.0)
    assert told == "23 requests were refused within a minute, 20 of them with queue_full"
    assert wave.see({"queue_full": 25, "rate_limited": 3}, 60.0) is not None
    assert wave.see({"queue_full": 25, "rate_limited": 3}, 71.0) is None


@given(st.lists(st.integers(0, 30), max_size=200))
def test_a_look_counts_the_last_minute(counts: list[int]) -> None:
    """Whatever came before: what is told is what was refused in sixty seconds, looked at every second."""
    wave, total = RefusalWave(), 0
    for second, count in enumerate(counts):
        total += count
        told = wave.see({"rate_limited": total}, float(second))
        number = sum(counts[max(0, second - 60) + 1 : second + 1])
        assert (told is not None) == (number >= MANY)


@pytest.mark.parametrize(
    ("fields", "counts"),
    [
        ({"status": 429, "attempts": 0, "error_code": "rate_limited"}, True),
        ({"status": 503, "attempts": 0, "error_code": "queue_full"}, True),
        ({"status": 404, "attempts": 0, "error_code": "model_not_found"}, False),
        ({"status": 503, "attempts": 1, "error_code": "upstream_error"}, False),
        ({"status": 499, "attempts": 0, "error_code": None}, False),
    ],
)
def test_what_the_router_refuses_for_want_of_room_counts(fields: dict[str, object], counts: bool) -> None:
    """What a client asks for in vain does not, nor what a server answers."""
    assert is_refused(make_record(1, **fields)) is counts
