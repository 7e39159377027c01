"""The charts of the last hour: nothing outside its box, and every request in a row of the table."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.records.phases import PHASES
from ollama_router_server.admin.views.overview import MinuteView
from ollama_router_server.console.hour_chart import HEIGHT, hour_of

COLUMN = re.compile(r"M(\d+) (-?[\d.]+)v-([\d.]+)h1v[\d.]+z")


@st.composite
def hours(draw: st.DrawFn) -> list[MinuteView]:
    """Sixty minutes, some of them idle."""
    counts = draw(st.lists(st.integers(0, 500), min_size=60, max_size=60))
    return [
        MinuteView(
            start=60 * number,
            requests=count,
            failed=draw(st.integers(0, count)),
            completion_tokens=count * 7,
            phases={name: draw(st.integers(0, 90_000)) if count else 0 for name in PHASES},
        )
        for number, count in enumerate(counts)
    ]


def columns(path: str) -> list[tuple[int, float, float]]:
    """Each column of an outline: where it stands, its lower edge, its height."""
    return [(int(at), float(low), float(high)) for at, low, high in COLUMN.findall(path)]


@given(hours())
def test_every_column_is_inside_and_every_request_is_in_a_row(minutes: list[MinuteView]) -> None:
    """Columns have whole places from left to right; the table has what the charts have."""
    hour = hour_of(minutes)
    paths = [hour.request_path, hour.failed_path, hour.token_path, *(path for _, path in hour.phase_paths)]
    for at, low, high in (column for path in paths for column in columns(path)):
        assert 0 <= at < 60
        assert -0.2 <= low - high <= low <= HEIGHT + 0.2
    assert sum(row.requests for row in hour.rows) == hour.requests == sum(one.requests for one in minutes)
    assert sum(row.failed for row in hour.rows) == hour.failed
    assert 97 <= sum(one.percent for one in hour.shares) <= 103 or not any(any(one.phases.values()) for one in minutes)


def test_phases_stand_on_each_other() -> None:
    """The second phase's column begins where the first one's ends, and the largest share is told first."""
    phases = {**dict.fromkeys(PHASES, 0), "queue": 250, "decode": 750}
    hour = hour_of([MinuteView(start=0, requests=1, failed=0, completion_tokens=9, phases=phases)])
    drawn = {name: columns(path) for name, path in hour.phase_paths if path}
    assert drawn == {"phase queue": [(0, 64.0, 16.0)], "phase decode": [(0, 48.0, 48.0)]}
    assert [(one.name, one.percent) for one in hour.shares] == [("decode", 75), ("queue", 25)]


def test_an_idle_hour_has_no_columns() -> None:
    """Nothing is drawn, and nothing is divided by nothing."""
    idle = [MinuteView(start=0, requests=0, failed=0, completion_tokens=0, phases=dict.fromkeys(PHASES, 0))] * 60
    hour = hour_of(idle)
    assert (hour.request_path, hour.shares, hour.requests) == ("", [], 0)
