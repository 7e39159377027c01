"""A simulated day in another scenario, in the form of `/router/history`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ollama_router_server.admin.view import View
from ollama_router_server.admin.views.history import LaneView, MomentView, day_lanes, day_moments
from ollama_router_server.admin.views.whatif import WhatIfView
from ollama_router_server.storage.log_days import STEP, DayGroup

__all__ = ["OtherDayView", "other_day_view"]


class OtherDayView(View):
    """A simulated day (UTC) from `begin`, in steps of `step_seconds`; omitted steps were idle.

    `told_from` is the first step with data, null for a whole day: the newest 20,000 requests of a day are replayed.
    `answer` has the figures of both worlds.
    """

    day: str
    begin: int
    step_seconds: int
    answer: WhatIfView
    lanes: list[LaneView]
    moments: list[MomentView]
    told_from: int | None


def other_day_view(day: str, begin: int, answered: WhatIfView, found: dict[str, Any]) -> OtherDayView:
    """Build the view of a day from a replay in the day's steps."""
    groups = list(_groups(found["groups"]))
    told_from = found["told_from"]
    return OtherDayView(
        day=day,
        begin=begin,
        step_seconds=STEP,
        answer=answered,
        lanes=day_lanes(groups),
        moments=day_moments(groups),
        told_from=None if told_from is None else int((told_from - begin) // STEP),
    )


def _groups(counted: Iterable[list[Any]]) -> Iterator[DayGroup]:
    """Yield the replay's groups; a refused request failed, on no server."""
    for server, model, waited, began, served, ended, loaded, requests in counted:
        yield DayGroup(
            server=server,
            model=model,
            waited=waited,
            began=began,
            served=served,
            ended=ended,
            requests=requests,
            errors=requests if server is None else 0,
            loads=requests if loaded else 0,
        )
