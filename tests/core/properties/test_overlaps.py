"""Who was beside a request, as its log tells."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.records.request_record import RequestRecord
from ollama_router_core.simulation.logged_times import stay
from ollama_router_core.simulation.overlaps import overlaps

ROWS = st.lists(
    st.builds(
        RequestRecord,
        id=st.just("r"),
        started_at=st.integers(0, 40).map(lambda half: 1.7e9 + half / 2),
        user=st.none(),
        client=st.none(),
        method=st.just("POST"),
        path=st.just("/api/chat"),
        model_served=st.sampled_from(["m:8b", "n:3b"]),
        server=st.sampled_from(["one", "two", None]),
        status=st.just(200),
        queue_ms=st.sampled_from([None, 500.0, 2000.0]),
        total_ms=st.integers(4, 40).map(lambda half: half * 500.0),
    ),
    max_size=30,
)


@given(rows=ROWS)
def test_each_counts_the_others_of_its_server_for_as_long_as_they_were_there(rows: list[RequestRecord]) -> None:
    """A request's neighbours are the seconds that it shared with each other one, by its own; it is none of them."""
    for row, found in zip(rows, overlaps(rows, {}), strict=True):
        came, left = stay(row)
        others = [one for one in rows if one is not row and one.server == row.server and row.server is not None]
        shared = sum(max(0.0, min(left, stay(one)[1]) - max(came, stay(one)[0])) for one in others)
        before = [one for one in others if one.model_served == row.model_served and stay(one)[0] < came <= stay(one)[1]]
        assert found.neighbours == pytest.approx(shared / (left - came) if left > came else found.neighbours, abs=1e-3)
        assert found.ahead == len(before)
