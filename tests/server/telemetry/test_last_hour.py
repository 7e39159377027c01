"""The last hour in minutes: every request once, no more than an hour kept, the sums of several workers."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.records.phases import PHASES
from ollama_router_server.telemetry.last_hour import MINUTES, LastHour, add_up_minutes, minutes_of
from support.records import make_record

NOW = 1_700_000_040.0
"""In the middle of a minute."""


def hour_of(*ended: tuple[float, int]) -> LastHour:
    """One whose requests ended so many seconds before now, with this status."""
    hour = LastHour()
    for number, (ago, status) in enumerate(ended):
        hour.add(make_record(number, started_at=NOW - ago - 2.0, total_ms=2_000.0, status=status, error=None))
    return hour


@given(st.lists(st.tuples(st.integers(0, 3_000), st.sampled_from([200, 404, 499, 502])), max_size=40))
def test_every_request_is_in_one_minute(ended: list[tuple[float, int]]) -> None:
    """In whatever order they are counted, those of the hour are all there, the failed ones among them."""
    ended.sort(reverse=True)
    minutes = minutes_of(hour_of(*ended).rows(), NOW)
    assert len(minutes) == MINUTES
    assert sum(one.requests for one in minutes) == len(ended)
    assert sum(one.failed for one in minutes) == sum(status in {404, 502} for _, status in ended)
    assert minutes[-1].start <= NOW < minutes[-1].start + 60


def test_the_phases_of_a_minute_are_those_of_its_requests() -> None:
    """Milliseconds add up, phase by phase, and so do the tokens that were written."""
    hour = LastHour()
    for number in range(3):
        hour.add(
            make_record(
                number, started_at=NOW, queue_ms=100.0, connect_ms=0.0, load_ms=None, prefill_ms=300.0,
                decode_ms=500.0, total_ms=1_000.0, completion_tokens=20,
            )
        )  # fmt: skip
    (minute,) = [one for one in minutes_of(hour.rows(), NOW) if one.requests]
    wanted = {"queue": 300, "connect": 0, "load": 0, "prefill": 900, "decode": 1_500, "unexplained": 300}
    assert minute.phases == wanted
    assert tuple(minute.phases) == PHASES
    assert minute.completion_tokens == 60


def test_first_tokens_of_all_workers_are_counted_together() -> None:
    """By bands, also where a worker of before published none; a request without a first token is in no band."""
    one, other = LastHour(), LastHour()
    for hour, ttft in ((one, 500.0), (one, None), (other, 500.0), (other, 40.0)):
        hour.add(make_record(1, started_at=NOW, total_ms=0.0, ttft_ms=ttft))
    before = [(int(NOW) // 60, 1, *[0] * (2 + len(PHASES)))]
    (minute,) = [each for each in minutes_of([*one.rows(), *other.rows(), *before], NOW) if each.requests]
    assert minute.requests == 5
    assert sorted(minute.first_token.values()) == [1, 2]


@given(st.lists(st.integers(-20_000, 20_000), min_size=1, max_size=300))
def test_no_more_than_an_hour_is_kept(moments: list[int]) -> None:
    """Also when the clock is set back and forth; the request that ended last is always there."""
    hour = LastHour()
    for moment in moments:
        hour.add(make_record(1, started_at=NOW + moment * 60.0, total_ms=0.0))
        rows = hour.rows()
        assert len(rows) <= MINUTES + 2
        assert int(NOW + moment * 60.0) // 60 in {row[0] for row in rows}


def test_what_is_put_by_is_counted_whether_anybody_looks_or_not() -> None:
    """Requests are counted together: each once, and what waits to be counted is bounded."""
    hour, record = LastHour(), make_record(1, started_at=NOW, total_ms=0.0)
    before = sys.getrefcount(record)
    for _ in range(1_000):
        hour.add(record)
    assert sys.getrefcount(record) - before < 500
    assert sum(row[1] for row in hour.rows()) == 1_000
    assert sum(row[1] for row in hour.rows()) == 1_000


def test_workers_are_added_up() -> None:
    """What two have counted in the same minute is one minute; what one has published is bounded."""
    one, other = hour_of((0, 200), (60, 502)), hour_of((0, 200))
    minutes = minutes_of([*one.rows(), *other.rows()], NOW)
    assert [each.requests for each in minutes[-2:]] == [1, 2]
    long = [(number, *[1] * (3 + len(PHASES))) for number in range(500)]
    assert len(add_up_minutes(long)) == MINUTES + 2
