"""The charts of Now: nothing outside its box."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.records.phases import PHASES
from ollama_router_server.admin.views.overview import MinuteView
from ollama_router_server.admin.views.series import series_of_hours
from ollama_router_server.console.hour_chart import HEIGHT, hour_of
from ollama_router_server.console.series_chart import chart_of
from ollama_router_server.storage.log_hours import HourSums

COLUMN = re.compile(r"M(\d+) (-?[\d.]+)v-([\d.]+)h1v[\d.]+z")

PATHS = ("request_path", "failed_path", "token_path", "waiting_path", "p50_path", "p95_path")


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
def test_every_column_is_inside(minutes: list[MinuteView]) -> None:
    """Columns have whole places from left to right; shares are of all time."""
    hour = hour_of(minutes)
    for at, low, high in (column for _, path in hour.phase_paths for column in columns(path)):
        assert 0 <= at < 60
        assert -0.2 <= low - high <= low <= HEIGHT + 0.2
    assert 97 <= sum(one.percent for one in hour.shares) <= 103 or not any(any(one.phases.values()) for one in minutes)


@given(st.lists(st.tuples(st.integers(0, 900), st.integers(0, 10**7), st.floats(1, 1e7)), min_size=1, max_size=168))
def test_a_series_is_inside_and_its_half_within_its_most(steps: list[tuple[int, int, float]]) -> None:
    """Failed ones are never more than all, half of the first tokens never later than 95 of 100."""
    view = series_of_hours(
        "week",
        [
            HourSums(start=3_600 * at, requests=n, errors=n // 2, completion_tokens=t, first_token={int(ms): n, 1: 1})
            for at, (n, t, ms) in enumerate(steps)
            if n
        ],
        3_600.0 * len(steps),
    )
    chart = chart_of(view)
    assert chart.width == 168
    places = {name: {at: high for at, _, high in columns(getattr(chart, name))} for name in PATHS}
    for drawn in places.values():
        assert all(0 <= at < 168 and 0 <= high <= HEIGHT + 0.1 for at, high in drawn.items())
    for less, more in (("failed_path", "request_path"), ("p50_path", "p95_path")):
        assert all(high <= places[more][at] + 0.1 for at, high in places[less].items())
    assert len(chart.rows) <= 24


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
    assert (hour.shares, [path for _, path in hour.phase_paths if path]) == ([], [])
