"""A day as its requests tell: every request once, in its place; nothing outside the day."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.admin.views.history import HistoryView, history_view
from ollama_router_server.admin.views.incidents import IncidentView, incidents_view
from ollama_router_server.console.charts import strip_of
from ollama_router_server.storage.incident_store import Incident
from ollama_router_server.storage.log_days import STEP, STEPS, DayGroup
from support.records import make_record
from support.router import running_router

pytestmark = pytest.mark.anyio

DAY = 86_400
FIRST = 20_000 * DAY
OURS, PERSON = {"x-console": "1"}, {"accept": "text/html"}


@st.composite
def groups(draw: st.DrawFn) -> DayGroup:
    """Requests of one kind, some of them from the day before or into the day after."""
    began = draw(st.integers(-30, STEPS - 1))
    served = began + draw(st.integers(0, 40))
    return DayGroup(
        server=draw(st.sampled_from(["big", "small", None])),
        model=draw(st.sampled_from(["llama3.2:3b", "qwen3:8b", None])),
        waited=draw(st.booleans()),
        began=began,
        served=served,
        ended=served + draw(st.integers(0, 40)),
        requests=draw(st.integers(1, 5)),
        errors=draw(st.integers(0, 1)),
        loads=draw(st.integers(0, 1)),
    )


def viewed(found: list[DayGroup]) -> HistoryView:
    """The day of these groups."""
    return history_view("2024-10-04", FIRST, found, [], [])


@given(st.lists(groups(), max_size=30))
def test_every_request_of_a_server_is_in_one_block(found: list[DayGroup]) -> None:
    """Blocks of one model do not overlap, nothing lies outside the day, and what failed is counted once."""
    view = viewed(found)
    of_day = [group for group in found if group.ended >= 0]
    blocks = [block for lane in view.lanes for block in lane.blocks]
    served = [one.requests for one in of_day if one.server is not None and one.served < STEPS]
    assert sum(block.requests for block in blocks) == sum(served)
    assert sum(moment.errors for moment in view.moments) == sum(one.errors for one in of_day)
    assert all(0 <= block.begin <= block.end < STEPS for block in blocks)
    for lane in view.lanes:
        for model in {block.model for block in lane.blocks}:
            mine = [block for block in lane.blocks if block.model == model]
            assert all(a.end < b.begin for a, b in pairwise(mine))


@given(st.lists(groups(), max_size=30))
def test_the_strip_draws_what_the_view_says(found: list[DayGroup]) -> None:
    """A unit a step, nothing outside its box; lanes lie below each other."""
    view = viewed(found)
    strip = strip_of(view.lanes, view.moments)
    assert [lane.server for lane in strip.lanes] == [lane.server for lane in view.lanes]
    for lane in strip.lanes:
        for one in lane.blocks:
            assert (one.x, one.x + one.width - 1) == (one.block.begin, one.block.end)
            assert lane.y < one.y <= one.y + one.height <= strip.height
    assert strip.left_out == 0


@st.composite
def incidents(draw: st.DrawFn) -> IncidentView:
    """Something that began on the day or before, and lasted into it."""
    began = FIRST + draw(st.integers(-DAY, DAY - 1))
    incident = Incident(
        id=1,
        router="here:11434",
        kind="server.down",
        server=draw(st.sampled_from(["big", "silent", ""])),
        model="",
        began_at=began,
        ended_at=max(began, FIRST) + draw(st.integers(0, 2 * DAY)),
        cause="refused",
    )
    return incidents_view([incident], {}, 0.0).incidents[0]


@given(st.lists(groups(), max_size=10), st.lists(incidents(), max_size=10))
def test_every_incident_is_a_mark_in_its_server_s_lane(found: list[DayGroup], told: list[IncidentView]) -> None:
    """A server that answered nothing has a lane, too; what is about none is below; nothing is outside the day."""
    strip = strip_of(viewed(found).lanes, [], told, begin=FIRST)
    marks = [(lane.server, mark) for lane in strip.lanes for mark in lane.marks]
    marks += [(None, mark) for mark in strip.marks]
    assert sorted(id(mark.incident) for _, mark in marks) == sorted(map(id, told))
    assert all(server == mark.incident.server for server, mark in marks)
    assert all(0 <= mark.x < mark.x + mark.width <= STEPS for _, mark in marks)
    assert {one.server for one in told if one.server} <= {lane.server for lane in strip.lanes}


def test_a_day_with_more_than_can_be_shown_says_until_when_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figure is of a whole day that is not."""
    monkeypatch.setattr("ollama_router_server.admin.views.history.MOST_GROUPS", 2)
    found = [
        DayGroup(server="big", model="m", waited=False, began=at, served=at, ended=at, requests=1, errors=0, loads=0)
        for at in (5, 30)
    ]
    view = viewed(found)
    assert view.told_until == 30
    assert view.sentence == ("2 requests until 01:00, of more than can be shown, 0 failed, 0 loads; nobody waited.")


def test_a_long_list_of_blocks_is_cut_by_requests() -> None:
    """The busiest are drawn, the others are counted."""
    found = [
        DayGroup(
            server=f"s{place}", model="m", waited=False, began=7, served=7, ended=7, requests=place + 1, errors=0,
            loads=0,
        )
        for place in range(500)
    ]  # fmt: skip
    strip = strip_of(viewed(found).lanes, [])
    assert strip.left_out == 100
    assert min(one.block.requests for lane in strip.lanes for one in lane.blocks) == 101


async def test_a_day_from_the_log_to_the_page(tmp_path: Path) -> None:
    """Blocks, waits and failures of that day alone; changes for admins; viewers read, and no day is refused."""

    def row(number: int, after: float, **fields: Any) -> RequestRecord:
        return make_record(number, started_at=FIRST + after, server="big", **fields)

    rows = [
        row(1, 10.0, model_served="llama3.2:3b", total_ms=1_000.0),
        row(2, 3 * STEP + 1.0, model_served="llama3.2:3b", total_ms=1_000.0, load_ms=5_000.0),
        row(3, 20 * STEP + 1.0, model_served="llama3.2:3b", total_ms=500_000.0, queue_ms=240_000.0),
        row(4, 30 * STEP + 1.0, model_served="qwen3:8b", status=502, error="gone", total_ms=5.0),
        make_record(5, started_at=FIRST + 31 * STEP, server=None, status=503, total_ms=5.0),
        row(6, -DAY + 5.0, model_served="old:1b", total_ms=1.0),
        row(7, DAY + 5.0, model_served="new:1b", total_ms=1.0),
    ]  # fmt: skip
    async with (
        running_router(tmp_path, {"gone": {"host": "127.0.0.1", "port": 9}}) as router,
        router.client(router.admin_token) as admin,
    ):
        await router.services.request_log.insert(rows)
        view = (await admin.get("/router/history", params={"day": "2024-10-04"})).json()
        assert view["sentence"] == "5 requests, 2 failed, 1 load; most waited at 00:40: 1."
        (lane,) = view["lanes"]
        assert [(one["model"], one["begin"], one["end"], one["requests"]) for one in lane["blocks"]] == [
            ("llama3.2:3b", 0, 3, 2), ("llama3.2:3b", 22, 24, 1), ("qwen3:8b", 30, 30, 1),
        ]  # fmt: skip
        told = {one["step"]: (one["running"], one["waiting"], one["errors"]) for one in view["moments"]}
        assert told[20] == told[21] == (0, 1, 0)
        assert told[23] == (1, 0, 0)
        assert (told[30], told[31]) == ((1, 0, 1), (0, 0, 1))
        for wrong in ("yesterday", "2024-13-01", "1969-12-31"):
            assert (await admin.get("/router/history", params={"day": wrong})).status_code == 400
        made = (await admin.post("/router/users", json={"name": "vic", "role": "viewer"})).json()
        await router.services.authenticator.refresh()
        assert (await admin.get("/router/history")).json()["changes"][0]["action"] == "user.create"
        async with router.client(made["token"]) as viewer:
            assert (await viewer.get("/router/history")).json()["changes"] == []
            await viewer.post("/console/session", json={"token": made["token"]}, headers=OURS)
            page = (await viewer.get("/console/history", params={"day": "2024-10-04"}, headers=PERSON)).text
        assert f"<h1>{view['sentence']}</h1>" in page
        assert 'x="22" y="16" width="3" height="6" data-model="llama3.2:3b"' in page
        assert "<td>00:44</td><td>00:50</td>" in page
        assert 'id="changes"' not in page
