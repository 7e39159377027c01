"""A server's last 24 hours: spans inside the day, from incidents, restarts and drains; drawn where they were."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.testing import OllamaSimulator, model
from ollama_router_server.admin.views.server_day import DAY_SECONDS, server_day
from ollama_router_server.console.charts import DAY_WIDTH, day_marks
from ollama_router_server.storage.audit_log import Actor, AuditEntry, AuditFilter
from ollama_router_server.storage.incident_changes import Began, Ended, IncidentKind, Origin
from ollama_router_server.storage.incident_store import Incident
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

NOW = 1_700_000_000.0
KINDS: tuple[IncidentKind, ...] = ("server.down", "server.suspended", "model.suspended", "router.restart")
BEFORE = st.floats(0.0, 3 * DAY_SECONDS)


def incident(kind: IncidentKind, began: float, ended: float | None, cause: str = "why") -> Incident:
    """One that began and ended so many seconds before now."""
    return Incident(
        id=1, router="here", kind=kind, server="big", model="", began_at=NOW - began,
        ended_at=None if ended is None else NOW - ended, cause=cause,
    )  # fmt: skip


def change(ago: float, *, on: bool, by: str = "root", **detail: bool) -> AuditEntry:
    """A drain, or its end, so many seconds before now."""
    action = "server.drain" if on else "server.undrain"
    return AuditEntry(at=NOW - ago, actor=Actor(by, "http"), action=action, subject="big", detail=detail)


@st.composite
def incidents(draw: st.DrawFn) -> Incident:
    """Any, under way or over."""
    began = draw(BEFORE)
    ended = draw(st.none() | st.floats(0.0, began))
    return incident(draw(st.sampled_from(KINDS)), began, ended)


@given(st.lists(incidents(), max_size=12), st.lists(st.tuples(st.floats(0, 86_000), st.booleans())), st.booleans())
def test_every_span_lies_in_the_day_and_on_the_strip(
    found: list[Incident],
    drains: list[tuple[float, bool]],
    draining: bool,
) -> None:
    """Whatever was written in whatever order."""
    day = server_day(found, [change(ago, on=on) for ago, on in drains], NOW, draining=draining)
    for one, mark in zip(day.spans, day_marks(day), strict=True):
        assert day.begin <= one.begin <= one.end <= day.end
        assert mark.x >= 0
        assert mark.x + mark.width <= DAY_WIDTH + 0.2
        assert mark.width > 0
    assert draining == any(one.state == "draining" and one.goes_on for one in day.spans)


def test_it_is_told_in_a_sentence() -> None:
    """How often and for how long, and what nobody saw."""
    found = [
        incident("server.down", 7_200, 5_400),
        incident("server.down", 60, None),
        incident("router.restart", 4_000, 3_700, "stopped and started again"),
    ]
    day = server_day(found, [change(600, on=True), change(300, on=False)], NOW, draining=False)
    assert day.sentence == "Down 2 times, 31 min in all, draining 1 time, 5 min in all; nobody looked for 5 min."
    assert server_day([], [], NOW, draining=False).sentence == "Nothing went wrong."


def test_what_overlaps_counts_once() -> None:
    """A router's own suspension of before the fleet shared its breakers, say, and the fleet's."""
    twice = [incident("server.suspended", 600, 120), incident("server.suspended", 300, None)]
    assert server_day(twice, [], NOW, draining=False).sentence == "Suspended 1 time, 10 min in all."


def test_before_its_first_start_a_router_knows_nothing() -> None:
    """The day until then is unknown; a restart that took no time is no span."""
    first = incident("router.restart", 3_600, 3_600, "started for the first time")
    (one,) = server_day([first, incident("router.restart", 60, 60)], [], NOW, draining=False).spans
    assert (one.state, one.begin, one.end) == ("unknown", NOW - DAY_SECONDS, NOW - 3_600)


def test_a_drain_that_the_trail_does_not_begin_began_before() -> None:
    """Its end alone, or none at all while it goes on."""
    (ended,) = server_day([], [change(300, on=False)], NOW, draining=False).spans
    (lasting,) = server_day([], [], NOW, draining=True).spans
    assert (ended.begin, ended.end) == (NOW - DAY_SECONDS, NOW - 300)
    assert (lasting.begin, lasting.goes_on) == (NOW - DAY_SECONDS, True)


def test_a_drain_that_the_config_ended_does_not_last_until_the_next() -> None:
    """No entry tells its end: a second drain begins anew, unless it says that the server was draining already."""
    first, second = change(80_000, on=True, by="alice"), change(600, on=True, by="bob")
    (anew,) = server_day([], [first, second], NOW, draining=True).spans
    assert (anew.begin, anew.cause) == (NOW - 600, "drained by bob")
    (same,) = server_day([], [first, change(600, on=True, by="bob", already=True)], NOW, draining=True).spans
    assert (same.begin, same.cause) == (NOW - 80_000, "drained by alice")


async def test_the_page_and_the_route_tell_the_same(tmp_path: Path) -> None:
    """What was written of this router's server, and a drain, by whom for admins; not what another router saw."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client(router.admin_token) as admin,
        router.client("") as browser,
    ):
        now, store = router.services.clock.wall(), router.services.incidents.store
        down = Began(kind="server.down", at=now - 600, cause="it was unplugged", server="one")
        await store.apply(
            Origin(router.services.router_name), [down, Ended(kind="server.down", at=now - 300, server="one")]
        )
        elsewhere: tuple[IncidentKind, ...] = ("server.down", "server.suspended")
        await store.apply(
            Origin("elsewhere"), [Began(kind=kind, at=1.0, cause="x", server="one") for kind in elsewhere]
        )
        await admin.post("/router/servers/one/drain")
        day = (await admin.get("/router/servers/one/history")).json()
        states = [(one["state"], one["cause"]) for one in day["spans"] if one["state"] != "unknown"]
        assert states == [("down", "it was unplugged"), ("draining", "drained by root")]
        await admin.post("/router/servers/one/drain")
        trail = await router.services.audit.list(AuditFilter(actions=("server.drain",)))
        assert [one.detail for one in trail] == [{"already": True}, {}]
        made = await router.services.users.create("vic", role="viewer")
        async with router.client(made.token.reveal()) as viewer:
            seen = (await viewer.get("/router/servers/one/history")).json()
        assert seen["spans"][-1]["cause"] == "drained by an admin"
        assert (await admin.get("/router/servers/nobody/history")).status_code == 404
        await browser.post("/console/session", json={"token": router.admin_token}, headers={"x-console": "1"})
        page = (await browser.get("/console/servers/one", headers={"accept": "text/html"})).text
        assert "it was unplugged" in page
        assert "Down 1 time, 5 min in all" in page
