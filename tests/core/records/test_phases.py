"""Where the time of a request went: parts that add up, whatever a server tells."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.records.phases import PHASES, phase_ms, phase_times
from ollama_router_core.records.request_record import RequestRecord

TOLD = st.none() | st.floats(-1_000.0, 1e7)


def record(**told: float | None) -> RequestRecord:
    """A row of a stream that wrote ten tokens."""
    times = {"total_ms": 1_000.0, **told}
    common = {"id": "x", "started_at": 0.0, "user": None, "client": None, "method": "POST", "path": "/api/chat"}
    return RequestRecord(**common, status=200, streamed=True, completion_tokens=10, **times)  # type: ignore[arg-type]


@given(st.floats(0.0, 1e7), st.tuples(*[TOLD] * 6))
def test_parts_add_up_to_the_total(total: float, told: tuple[float | None, ...]) -> None:
    """None is less than nothing, and none is longer than the request."""
    names = ("queue_ms", "connect_ms", "load_ms", "prefill_ms", "decode_ms", "ttft_ms")
    parts = phase_ms(record(total_ms=total, **dict(zip(names, told, strict=True))))
    assert len(parts) == len(PHASES)
    assert all(0.0 <= part <= total for part in parts)
    assert sum(parts) == pytest.approx(total)


def test_what_is_told_is_taken_as_far_as_there_was_time() -> None:
    """In the order in which a request goes through its phases; the rest of the time is not explained."""
    known = phase_times(record(queue_ms=100.0, load_ms=300.0, prefill_ms=200.0, decode_ms=250.0))
    assert dict(known) == dict(zip(PHASES, (100.0, 0.0, 300.0, 200.0, 250.0, 150.0), strict=True))
    assert phase_ms(record(queue_ms=100.0, load_ms=800.0, prefill_ms=200.0)) == (100.0, 0.0, 800.0, 100.0, 0.0, 0.0)


def test_without_a_report_the_first_token_ends_reading() -> None:
    """What comes after it is writing."""
    assert phase_ms(record(queue_ms=100.0, ttft_ms=400.0)) == (100.0, 0.0, 0.0, 300.0, 600.0, 0.0)
