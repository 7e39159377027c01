"""The attempts of a request, one by one: their times and parts add up, and what was not kept is not made up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.exchange.course import with_announced_wait
from ollama_router_server.admin.views.request_tries import KeptAttemptView, tries_of
from ollama_router_server.admin.views.requests import phases_of, request_detail
from support.records import make_record

TIMES = st.floats(0, 1e6)


@given(queue=TIMES, lengths=st.lists(TIMES, max_size=3), rest=TIMES, load=TIMES, decode=TIMES)
def test_attempts_follow_each_other_to_the_end(
    queue: float, lengths: list[float], rest: float, load: float, decode: float
) -> None:
    """From the slot to the end without a gap; the parts of each add up to its time."""
    kept, at = [], queue
    for ms in lengths:
        kept.append(KeptAttemptView(server="a", start_ms=at, end_ms=at + ms, end="rejected", status=503))
        at += ms
    row = make_record(
        1, attempts=len(kept) + 1, server="b", queue_ms=queue, connect_ms=at - queue, load_ms=load, decode_ms=decode,
        total_ms=at + rest,
    )  # fmt: skip
    tries = tries_of(row, kept, phases_of(row))
    assert tries is not None
    assert len(tries) == len(kept) + 1
    assert queue + sum(one.ms for one in tries) == pytest.approx(row.total_ms, abs=1)
    for one in tries:
        assert sum(part.ms for part in one.phases) == pytest.approx(one.ms, abs=1)


def test_a_single_attempt_is_told_by_its_row() -> None:
    """A request that simply went to its server needs nothing kept."""
    row = make_record(1, server="big", attempts=1, queue_ms=10.0, total_ms=1_010.0, status=200, error=None)
    (only,) = tries_of(row, [], phases_of(row)) or ()
    assert (only.server, only.start_ms, only.ms, only.end) == ("big", 10.0, 1_000.0, "answered")


def test_what_was_not_kept_is_not_made_up() -> None:
    """A row of before tells that there were three attempts, and not which."""
    row = make_record(1, server="big", attempts=3)
    assert tries_of(row, [], phases_of(row)) is None


def test_a_refused_request_has_none() -> None:
    """Nothing was sent."""
    row = make_record(1, server=None, attempts=0, status=429)
    assert tries_of(row, [], []) == []


def test_what_was_said_of_a_wait_stands_beside_it() -> None:
    """A range where enough waits were known, beside the decision; a row without one has nothing to add it to."""
    row = make_record(1, expected_wait_ms=10_000.0, queue_ms=11_000.0, decision='{"dropped":["logprobs"]}')
    detail = request_detail(with_announced_wait(row, (8.04, 14.0)))
    assert (detail.said_seconds, detail.dropped, detail.decision) == ((8.0, 14.0), ["logprobs"], None)
    assert request_detail(row).said_seconds is None
    alone = make_record(1, decision=None)
    assert with_announced_wait(alone, (1.0, 2.0)) is alone
