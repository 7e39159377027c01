"""One day: which models servers answered with, what ran and waited, failures, incidents and changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final

from ollama_router_core.errors import amount
from ollama_router_server.admin.response_bodies import AuditEntryBody
from ollama_router_server.admin.view import View
from ollama_router_server.admin.views.incidents import IncidentView
from ollama_router_server.storage.log_days import MOST_GROUPS, STEP, STEPS, DayGroup

__all__ = ["BlockView", "HistoryView", "LaneView", "MomentView", "clock", "day_lanes", "day_moments", "history_view"]

_GAP: Final = 2
"""The most steps without a request within a block: a model stays in memory for a while."""


class BlockView(View):
    """A period in which a server answered for a model, from step `begin` to step `end`, both included.

    Requests that a server started after midnight belong to the next day.
    """

    model: str | None
    begin: int
    end: int
    requests: int
    errors: int
    loads: int


class LaneView(View):
    """A server's day."""

    server: str
    blocks: list[BlockView]


class MomentView(View):
    """A step of the day with activity: the requests that ran, waited, and failed."""

    step: int
    running: int
    waiting: int
    errors: int


class HistoryView(View):
    """A day (UTC) from `begin`, in steps of `step_seconds`. Omitted steps were idle.

    `told_until` is the first step without data, null for a whole day: a day may have more requests than can be shown.
    `incidents` were active on the day, newest first. `changes` come from the audit trail, for admins only.
    """

    day: str
    begin: int
    step_seconds: int
    sentence: str
    lanes: list[LaneView]
    moments: list[MomentView]
    told_until: int | None
    incidents: list[IncidentView]
    changes: list[AuditEntryBody]


def history_view(
    day: str, begin: int, groups: Sequence[DayGroup], changes: list[AuditEntryBody], incidents: list[IncidentView]
) -> HistoryView:
    """Build the view of a day from its requests."""
    told_until = groups[-1].began if len(groups) >= MOST_GROUPS else None
    groups = [group for group in groups if group.ended >= 0]
    moments = day_moments(groups)
    return HistoryView(
        day=day,
        begin=begin,
        step_seconds=STEP,
        sentence=_sentence(groups, moments, told_until),
        lanes=day_lanes(groups),
        moments=moments,
        told_until=told_until,
        incidents=incidents,
        changes=changes,
    )


def day_lanes(groups: Iterable[DayGroup]) -> list[LaneView]:
    """Return the models that each server answered with, ordered by server."""
    by_server: dict[str, dict[str | None, list[DayGroup]]] = defaultdict(lambda: defaultdict(list))
    for group in groups:
        if group.server is not None and group.served < STEPS:
            by_server[group.server][group.model].append(group)
    return [
        LaneView(
            server=server,
            blocks=[block for _, of in sorted(models.items(), key=lambda item: item[0] or "") for block in _blocks(of)],
        )
        for server, models in sorted(by_server.items())
    ]


def _blocks(groups: list[DayGroup]) -> Iterable[BlockView]:
    """Join requests of one model on one server with short gaps between them."""
    joined: list[list[DayGroup]] = []
    end = -STEPS
    for group in sorted(groups, key=lambda one: one.served):
        if group.served - end - 1 > _GAP:
            joined.append([])
        joined[-1].append(group)
        end = max(end, group.ended)
    for members in joined:
        yield BlockView(
            model=members[0].model,
            begin=_within(members[0].served),
            end=_within(max(member.ended for member in members)),
            requests=sum(member.requests for member in members),
            errors=sum(member.errors for member in members),
            loads=sum(member.loads for member in members),
        )


def day_moments(groups: Iterable[DayGroup]) -> list[MomentView]:
    """Count the requests in each step with activity."""
    running, waiting, errors = ([0] * (STEPS + 1) for _ in range(3))
    for group in groups:
        if group.server is not None and group.served < STEPS:
            _add(running, group.served, group.ended, group.requests)
        if group.waited:
            _add(waiting, group.began, group.served, group.requests)
        errors[_within(group.ended)] += group.errors
    told = zip(accumulate(running), accumulate(waiting), errors, strict=True)
    return [
        MomentView(step=step, running=r, waiting=w, errors=e)
        for step, (r, w, e) in enumerate(told)
        if step < STEPS and (r or w or e)
    ]


def _add(changes: list[int], first: int, last: int, count: int) -> None:
    """Count from the first step to the last, as a difference at either end."""
    changes[_within(first)] += count
    changes[_within(last) + 1] -= count


def _within(step: int) -> int:
    return min(max(step, 0), STEPS - 1)


def _sentence(groups: Sequence[DayGroup], moments: Sequence[MomentView], told_until: int | None) -> str:
    requests, errors = sum(one.requests for one in groups), sum(one.errors for one in groups)
    if not requests:
        return "Nothing was asked on this day."
    most = max(moments, key=lambda one: one.waiting, default=None)
    busiest = f"most waited at {clock(most.step)}: {most.waiting:,}" if most and most.waiting else "nobody waited"
    loads = sum(one.loads for one in groups)
    until = "" if told_until is None else f" until {clock(told_until)}, of more than can be shown"
    return f"{amount(requests, 'request')}{until}, {errors:,} failed, {amount(loads, 'load')}; {busiest}."


def clock(step: int) -> str:
    """Return the start of a step of the day, as `14:02` (UTC)."""
    return f"{step * STEP // 3600:02}:{step * STEP % 3600 // 60:02}"
