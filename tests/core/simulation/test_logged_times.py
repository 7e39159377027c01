"""When logged requests were at their server, and how fast its clock was."""

from __future__ import annotations

import pytest

from ollama_router_core.records.request_record import RequestRecord
from ollama_router_core.simulation.logged_times import clocks


def answered(total_ms: float, told_ms: float) -> RequestRecord:
    """An answer that took so long, of which its server told so much."""
    return RequestRecord(
        id="1",
        started_at=0.0,
        user="alice",
        client="127.0.0.1",
        method="POST",
        path="/api/chat",
        server="a",
        status=200,
        attempts=1,
        streamed=True,
        total_ms=total_ms,
        ttft_ms=1.0,
        prefill_ms=told_ms / 4,
        decode_ms=told_ms * 0.75,
    )


def test_one_odd_row_makes_no_server_fast() -> None:
    """Such as that of an answer during which the router's machine slept."""
    assert clocks([*[answered(4_000, 3_970)] * 15, answered(500, 3_970)]) == {"a": 1.0}


def test_a_clock_that_runs_ahead_is_known_by_few_answers() -> None:
    """A server of the demonstration tells ten seconds of each that passes."""
    assert clocks([answered(400, 4_000)] * 3)["a"] == pytest.approx(0.1)
