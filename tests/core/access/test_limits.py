"""Limits of a user: verdicts, texts, header fields."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ollama_router_core.access.grants import Grants
from ollama_router_core.access.limits import (
    Allowance,
    Elsewhere,
    Meter,
    Standing,
    allowances,
    check_minute,
    day_of,
    estimate_tokens,
    first_day_of_month,
    limit_headers,
    standing_of,
)
from ollama_router_core.errors import LimitExceeded

NOON = datetime(2026, 2, 27, 12, tzinfo=UTC).timestamp()
TODAY = day_of(NOON)
HALF_A_DAY = 43_200.0


def test_a_user_without_limits_is_never_refused_and_gets_no_header() -> None:
    """Nothing is kept for such a user either."""
    meter = Meter()
    for _ in range(1000):
        standing = meter.admit(Grants(), now=0.0, wall=NOON)
    assert (standing, limit_headers(standing)) == (Standing(), ())
    assert meter.recent(0.0) == ()


def test_requests_of_a_minute() -> None:
    """The refusal says when the oldest request leaves the window, and that moment admits."""
    meter, grants = Meter(), Grants(requests_per_minute=2)
    meter.admit(grants, now=0.0, wall=NOON)
    meter.admit(grants, now=10.0, wall=NOON)
    with pytest.raises(LimitExceeded, match="2 requests per minute") as caught:
        meter.admit(grants, now=15.0, wall=NOON)
    assert caught.value.retry_after == 45.0
    meter.admit(grants, now=60.0, wall=NOON)


def test_a_lowered_limit_says_when_more_is_left() -> None:
    """Twenty requests under a limit that is three now: the field and Retry-After name the same moment."""
    meter = Meter()
    for second in range(20):
        meter.admit(Grants(requests_per_minute=20), now=float(second), wall=NOON)
    grants = Grants(requests_per_minute=3)
    with pytest.raises(LimitExceeded) as caught:
        meter.admit(grants, now=30.0, wall=NOON)
    standing = standing_of(meter, grants, now=30.0, wall=NOON)
    assert standing.requests == Allowance(limit=3, remaining=0, reset=47.0)
    assert caught.value.retry_after == 47.0


def test_requests_at_once() -> None:
    """One that ends makes room for one."""
    meter, grants = Meter(), Grants(concurrent_requests=1)
    meter.admit(grants, now=0.0, wall=NOON)
    with pytest.raises(LimitExceeded, match="concurrent requests"):
        meter.admit(grants, now=0.0, wall=NOON)
    meter.release()
    meter.admit(grants, now=0.0, wall=NOON)


def test_what_other_processes_admitted_counts() -> None:
    """Requests at once, and those of the last 60 seconds; older ones are over."""
    meter, others = Meter(), Elsewhere(in_flight=1, requests=((-1.0, 5), (0.0, 5), (20.0, 2)))
    meter.admit(Grants(requests_per_minute=20), now=30.0, wall=NOON, elsewhere=others)
    assert meter.recent(60.0, others) == (20.0, 20.0, 30.0)
    with pytest.raises(LimitExceeded, match="3 requests per minute") as caught:
        meter.admit(Grants(requests_per_minute=3), now=60.0, wall=NOON, elsewhere=others)
    assert caught.value.retry_after == 20.0
    with pytest.raises(LimitExceeded, match="2 concurrent requests"):
        meter.admit(Grants(concurrent_requests=2), now=60.0, wall=NOON, elsewhere=others)


def test_what_was_admitted_before_a_meter_was_made_counts() -> None:
    """A process that starts is told of the last minute."""
    meter = Meter()
    meter.recall(10.0)
    meter.recall(20.0)
    assert meter.recent(70.0) == (20.0,)


def test_what_is_left_of_each_limit() -> None:
    """Each that the user has, by the name of its grant; none that the user has not."""
    grants = Grants(
        requests_per_minute=5,
        concurrent_requests=3,
        tokens_per_minute=1000,
        tokens_per_day=2000,
        tokens_per_month=3000,
    )
    meter = Meter()
    meter.admit(grants, now=10.0, wall=NOON)
    meter.take(TODAY, 400)
    meter.take(TODAY, -100)
    others = Elsewhere(in_flight=1, requests=((20.0, 1),))
    found = allowances(meter, grants, now=30.0, wall=NOON, elsewhere=others, spent=((25.0, 300),))
    month_end = (day_of(datetime(2026, 3, 1, tzinfo=UTC).timestamp()) - TODAY) * 86_400 - HALF_A_DAY
    assert found == {
        "requests_per_minute": Allowance(limit=5, remaining=3, reset=40.0),
        "concurrent_requests": Allowance(limit=3, remaining=1, reset=0.0),
        "tokens_per_minute": Allowance(limit=1000, remaining=700, reset=55.0),
        "tokens_per_day": Allowance(limit=2000, remaining=1700, reset=HALF_A_DAY),
        "tokens_per_month": Allowance(limit=3000, remaining=2700, reset=month_end),
    }
    assert allowances(meter, Grants(), now=30.0, wall=NOON) == {}


def test_a_refused_request_costs_nothing() -> None:
    """Whoever hammers while refused is let in as soon as whoever waits."""
    meter, grants = Meter(), Grants(requests_per_minute=1, concurrent_requests=1)
    meter.admit(grants, now=0.0, wall=NOON)
    for moment in range(1, 60):
        with pytest.raises(LimitExceeded):
            meter.admit(grants, now=float(moment), wall=NOON)
    meter.release()
    meter.admit(grants, now=60.0, wall=NOON)


def test_tokens_of_a_day_come_back_at_midnight_utc() -> None:
    """Retry-After leads exactly there."""
    meter, grants = Meter(), Grants(tokens_per_day=100)
    meter.take(TODAY, 100)
    with pytest.raises(LimitExceeded, match="100 tokens per day") as caught:
        meter.admit(grants, now=0.0, wall=NOON)
    assert caught.value.retry_after == HALF_A_DAY
    meter.admit(grants, now=0.0, wall=NOON + HALF_A_DAY)


def test_tokens_of_a_month_come_back_on_its_first_day() -> None:
    """February 27 at noon is a day and a half from March."""
    meter, grants = Meter(), Grants(tokens_per_day=100, tokens_per_month=150)
    meter.take(first_day_of_month(TODAY), 90)
    meter.take(TODAY, 60)
    with pytest.raises(LimitExceeded, match="150 tokens per month") as caught:
        meter.admit(grants, now=0.0, wall=NOON)
    assert caught.value.retry_after == 3 * HALF_A_DAY
    meter.admit(grants, now=0.0, wall=NOON + 3 * HALF_A_DAY)


@pytest.mark.parametrize(("year", "month", "days"), [(2024, 2, 29), (2026, 2, 28), (2026, 12, 31), (2027, 1, 31)])
def test_months_have_their_own_length(year: int, month: int, days: int) -> None:
    """Leap years and the turn of a year included."""
    first = datetime(year, month, 1, tzinfo=UTC).timestamp()
    meter = Meter()
    standing = standing_of(meter, Grants(tokens_per_month=1), now=0.0, wall=first)
    assert standing.tokens == Allowance(limit=1, remaining=1, reset=days * 86_400.0)


def test_headers_are_those_of_openai_s_clients() -> None:
    """Limit, what is left, and whole seconds until more is."""
    standing = Standing(
        requests=Allowance(limit=60, remaining=59, reset=0.2), tokens=Allowance(limit=1000, remaining=0, reset=7200.0)
    )
    assert limit_headers(standing) == (
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-remaining-requests", "59"),
        ("x-ratelimit-reset-requests", "1s"),
        ("x-ratelimit-limit-tokens", "1000"),
        ("x-ratelimit-remaining-tokens", "0"),
        ("x-ratelimit-reset-tokens", "7200s"),
    )


def test_the_tighter_of_day_and_month_is_shown() -> None:
    """What a client may still use now."""
    meter = Meter()
    meter.take(TODAY, 10)
    standing = standing_of(meter, Grants(tokens_per_day=100, tokens_per_month=50), now=0.0, wall=NOON)
    assert standing.tokens is not None
    assert (standing.tokens.limit, standing.tokens.remaining) == (50, 40)


@pytest.mark.parametrize(
    ("tokens", "wait"),
    [(40, None), (41, 20.0), (70, 20.0), (71, 50.0), (5_000, 50.0)],
)
def test_a_minute_says_when_so_many_tokens_will_be_left(tokens: int, wait: float | None) -> None:
    """What was counted leaves it after 60 seconds; a request of any size fits into an empty one."""
    spent = [(10.0, 30), (40.0, 30)]
    if wait is None:
        check_minute(100, spent, now=50.0, tokens=tokens)
        return
    with pytest.raises(LimitExceeded, match="100 tokens per minute") as caught:
        check_minute(100, spent, now=50.0, tokens=tokens)
    assert caught.value.retry_after == wait


def test_a_minute_without_a_token_has_room_for_nothing() -> None:
    """A limit of 0 closes."""
    with pytest.raises(LimitExceeded):
        check_minute(0, [], now=0.0, tokens=1)
    check_minute(None, [(0.0, 10**9)], now=0.0, tokens=10**9)


def test_a_minute_that_is_tighter_than_the_day_is_shown() -> None:
    """With the seconds until all of it is left again."""
    standing = standing_of(
        Meter(), Grants(tokens_per_minute=50, tokens_per_day=100), now=30.0, wall=NOON, spent=[(10.0, 5), (20.0, 5)]
    )
    assert standing.tokens == Allowance(limit=50, remaining=40, reset=50.0)


def test_an_estimate_has_the_prompt_and_the_answer() -> None:
    """A quarter of the bytes; the client's bound for the answer, if it gives one; never nothing."""
    assert estimate_tokens(100, 50) == 151
    assert estimate_tokens(0, 0) == 1
    assert estimate_tokens(100, None) == estimate_tokens(100, -1) > 151
