"""Requests by hour or day and name, as in a stacked chart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal, get_args

from ollama_router_server.admin.view import View
from ollama_router_server.storage.log_stats import HourRow

__all__ = ["STACKS", "StackBy", "UsagePart", "UsageStep", "usage_steps"]

StackBy = Literal["user", "group", "model", "server", "host"]
STACKS: tuple[StackBy, ...] = get_args(StackBy)
"""The dimensions of a step's parts."""


class UsagePart(View):
    """The requests of one name in a step."""

    name: str
    requests: int


class UsageStep(View):
    """The requests that began in the step from `start` (seconds since 1970): the sum of `parts` and `others`.

    Every step has the same parts in the same order: the names with most requests in the whole range.
    """

    start: int
    requests: int
    parts: list[UsagePart]
    others: int


def usage_steps(
    hours: Iterable[HourRow], named: Mapping[str, Mapping[int, int]], *, since: float, until: float, step: int
) -> list[UsageStep]:
    """Build steps of `step` seconds from `since` to `until`, without gaps; they add up to all counted requests.

    Args:
        hours: all requests, by hour.
        named: the requests of each listed name, by the hour's start.
        since: seconds since 1970.
        until: seconds since 1970; its step is the last.
        step: seconds, a number of whole hours.
    """
    all_ = {row.start: row.requests for row in hours}
    first = int(min(since, *all_) if all_ else since) // step * step
    sums = Counter(dict.fromkeys(range(first, int(until) + 1, step), 0))
    parts = {name: Counter[int]() for name in named}
    for start, requests in all_.items():
        sums[start // step * step] += requests
    for name, counts in named.items():
        for start, requests in counts.items():
            parts[name][max(first, start // step * step)] += requests
    return [
        _step(start, requests, {name: found[start] for name, found in parts.items()})
        for start, requests in sorted(sums.items())
    ]


def _step(start: int, requests: int, parts: Mapping[str, int]) -> UsageStep:
    """Build a step; rows written between the two reads may be in the parts alone, so raise the total to their sum."""
    requests = max(requests, sum(parts.values()))
    return UsageStep(
        start=start,
        requests=requests,
        parts=[UsagePart(name=name, requests=count) for name, count in parts.items()],
        others=requests - sum(parts.values()),
    )
