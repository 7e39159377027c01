"""Request rates and latencies by step: the last hour, day or week."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Literal

from msgspec.structs import replace

from ollama_router_core.errors import amount
from ollama_router_server.admin.view import View
from ollama_router_server.admin.views.requests import seconds
from ollama_router_server.storage.log_hours import HourSums
from ollama_router_server.telemetry.last_hour import Minute
from ollama_router_server.telemetry.time_bands import nearest_rank, percentile_ms

__all__ = ["HOURS", "SeriesView", "Span", "StepView", "series_of_hours", "series_of_minutes"]

Span = Literal["hour", "day", "week"]
HOURS: Final[Mapping[Span, int]] = {"hour": 1, "day": 24, "week": 168}
_HOUR: Final = 3_600


class StepView(View):
    """The requests of a step from `start` (seconds since 1970).

    In steps of a day or week, `failed` includes requests whose client disconnected, as the log's errors do; in an hour
    it does not. `per_second` divides the requests by the step's seconds, in the last step by the elapsed ones.
    `waiting` is the mean number of queued requests, from the waits of those that ended; null if unknown.
    `ttft_p50_ms` and `ttft_p95_ms` are percentiles of the time to first token.
    """

    start: int
    requests: int
    failed: int
    per_second: float
    waiting: float | None
    completion_tokens: int
    ttft_p50_ms: float | None
    ttft_p95_ms: float | None


class SeriesView(View):
    """Steps without gaps, oldest first, the current one last.

    Steps of an hour are minutes, by the requests' end, counted since the router started; steps of a day or week are
    hours, by the requests' start, from the request log.
    """

    span: Span
    step_seconds: int
    sentence: str
    ttft_p50_ms: float | None
    ttft_p95_ms: float | None
    steps: list[StepView]


_Percentile = Callable[[Mapping[int, int], int], float | None]


def series_of_minutes(minutes: Sequence[Minute], now: float) -> SeriesView:
    """Build the series of the last hour, of all workers."""
    steps = [
        StepView.from_object(
            one,
            per_second=_rate(one.requests, one.start, 60, now),
            waiting=round(one.phases["queue"] / 1000 / _passed(one.start, 60, now), 3),
            ttft_p50_ms=percentile_ms(one.first_token, 50),
            ttft_p95_ms=percentile_ms(one.first_token, 95),
        )
        for one in minutes
    ]
    return _series("hour", 60, steps, (one.first_token for one in minutes), percentile_ms)


def series_of_hours(span: Span, hours: Sequence[HourSums], now: float) -> SeriesView:
    """Build the series of a day or a week from the request log.

    Its bands put percentiles at most 1 ms, or from 100 ms on 1 in 100, below the true values.
    """
    found = {one.start: one for one in hours}
    last = int(now // _HOUR) * _HOUR
    starts = range(last - (HOURS[span] - 1) * _HOUR, last + 1, _HOUR)
    nothing = HourSums(start=0, requests=0, errors=0, completion_tokens=0, first_token={})
    steps = [_hour(found.get(start) or replace(nothing, start=start), now) for start in starts]
    return _series(span, _HOUR, steps, (one.first_token for one in hours), nearest_rank)


def _hour(one: HourSums, now: float) -> StepView:
    return StepView.from_object(
        one,
        failed=one.errors,
        per_second=_rate(one.requests, one.start, _HOUR, now),
        waiting=None,
        ttft_p50_ms=nearest_rank(one.first_token, 50),
        ttft_p95_ms=nearest_rank(one.first_token, 95),
    )


def _series(
    span: Span, step: int, steps: list[StepView], times: Iterable[Mapping[int, int]], percentile: _Percentile
) -> SeriesView:
    together: Counter[int] = Counter()
    for one in times:
        together.update(one)
    requests, failed = sum(one.requests for one in steps), sum(one.failed for one in steps)
    p50, p95 = percentile(together, 50), percentile(together, 95)
    ended = "failed" if span == "hour" else "failed or lost their client"
    told = f"{amount(requests, 'request')}, {failed or 'none'} {ended}"
    if p50 is not None and p95 is not None:
        told = f"{told}; first token after {seconds(p50)}, of 95 in 100 within {seconds(p95)}"
    sentence = f"{told}." if requests else "No requests."
    return SeriesView(span=span, step_seconds=step, sentence=sentence, ttft_p50_ms=p50, ttft_p95_ms=p95, steps=steps)


def _rate(requests: int, start: int, step: int, now: float) -> float:
    return round(requests / _passed(start, step, now), 4)


def _passed(start: int, step: int, now: float) -> float:
    """Return the elapsed seconds of a step, at least one."""
    return min(max(now - start, 1.0), step)
