"""What went wrong, from the moment in which the router notices it to the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from ollama_router_core.testing import OllamaSimulator, model
from ollama_router_server.admin.views.incidents import incidents_view
from ollama_router_server.storage.incident_changes import IncidentKind
from ollama_router_server.storage.incident_hits import Hit
from ollama_router_server.storage.incident_store import Incident, IncidentFilter
from support.eventually import eventually_async
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

OURS, PERSON = {"x-console": "1"}, {"accept": "text/html"}


def incident(kind: IncidentKind, ended_at: float | None, **fields: Any) -> Incident:
    """One that began at 100."""
    values = {"id": 7, "router": "here:11434", "server": "", "model": "", "cause": "why", **fields}
    return Incident(kind=kind, began_at=100.0, ended_at=ended_at, **values)


@pytest.mark.parametrize(
    ("one", "sentence"),
    [
        (incident("server.down", 220.0, server="big"), "big was down for 2 min: why"),
        (incident("server.down", None, server="big"), "big is down now for 3 h: why"),
        (incident("server.suspended", 130.0, server="big"), "big got no requests for 30 s: why"),
        (
            incident("model.suspended", None, server="big", model="m:1b"),
            "big could not serve m:1b when last asked, first 3 h ago: why",
        ),
        (incident("model.suspended", 130.0, server="big", model="m:1b"), "big could not serve m:1b for 30 s: why"),
        (incident("config.refused", 400_000.0), "A changed config was refused for 5 d: why"),
        (incident("coordination.away", None), "Other routers cannot be reached now for 3 h: why"),
        (incident("line.full", 160.0), "The queue was full for 60 s: why"),
        (incident("digests.differ", None), "Servers hold different weights under one name, first 3 h ago: why"),
        (incident("versions.differ", None), "Servers have different versions of Ollama, first 3 h ago: why"),
        (incident("database.away", 160.0), "The database accepted no rows for 60 s: why"),
        (incident("router.restart", 100.0, cause="started"), "here:11434: started"),
        (incident("router.restart", 112.0, cause="stopped"), "here:11434: stopped, off for 12 s"),
    ],
)
def test_each_kind_has_its_sentence(one: Incident, sentence: str) -> None:
    """Over, and while it goes on."""
    (view,) = incidents_view([one], {}, 10_000.0).incidents
    assert view.sentence == sentence


def test_every_kind_is_among_them() -> None:
    """None is forgotten."""
    for kind in get_args(IncidentKind):
        assert incidents_view([incident(kind, 101.0)], {}, 0.0).incidents[0].sentence


def test_what_is_not_known_is_left_open() -> None:
    """Nothing went wrong; nothing was hit where nothing can be counted."""
    assert incidents_view([], {}, 0.0).sentence == "No incidents."
    found = [incident("server.down", None, server="big"), incident("config.refused", 101.0, id=8)]
    view = incidents_view(found, {7: Hit(3, 2)}, 200.0)
    assert view.sentence == "2 incidents, 1 active."
    assert [(one.failed_requests, one.users, one.server) for one in view.incidents] == [
        (3, 2, "big"),
        (None, None, None),
    ]


async def told(router: RunningRouter) -> list[tuple[str, str, bool]]:
    """Kind, server and whether it is over, oldest first."""
    found = reversed(await router.services.incidents.store.list(IncidentFilter()))
    return [(one.kind, one.server, one.ended_at is not None) for one in found]


async def test_a_server_that_goes_and_comes_is_an_incident(tmp_path: Path) -> None:
    """From its first failed probe to the one that is answered; the router's start is one, too; no request waits."""
    async with OllamaSimulator(models=[model("llama3.2:3b")]) as sim:
        servers = {"one": server_entry(sim), "gone": {"host": "127.0.0.1", "port": 9}}
        async with running_router(tmp_path, servers) as router, router.client(router.admin_token) as admin:

            async def is_down() -> bool:
                return ("server.down", "gone", False) in await told(router)

            await eventually_async(is_down)
            view = (await admin.get("/router/incidents", params={"active": "true"})).json()
            (down,) = view["incidents"]
            assert (down["server"], down["ended_at"], down["failed_requests"]) == ("gone", None, 0)
            assert down["router"].endswith(":1")
            assert down["sentence"].startswith("gone is down now for ")
            everything = (await admin.get("/router/incidents")).json()["incidents"]
            assert {one["kind"] for one in everything} == {"server.down", "router.restart"}
            assert (await admin.get("/router/incidents", params={"kind": "server"})).status_code == 400
            await admin.post("/console/session", json={"token": router.admin_token}, headers=OURS)
            page = (await admin.get("/console/history", headers=PERSON)).text
            assert 'data-incident="gone is down now for ' in page
            assert '<span class="state down">active</span>' in page
            assert "started for the first time" in page
        async with running_router(tmp_path, {"one": server_entry(sim)}, fresh=False) as again:

            async def is_over() -> bool:
                return await told(again) == [
                    ("router.restart", "", True), ("server.down", "gone", True), ("router.restart", "", True),
                ]  # fmt: skip

            await eventually_async(is_over)


async def test_a_day_without_incidents_says_what_would_be_there(tmp_path: Path) -> None:
    """The page's empty state."""
    async with (
        running_router(tmp_path, {"gone": {"host": "127.0.0.1", "port": 9}}) as router,
        router.client() as client,
    ):
        await client.post("/console/session", json={"token": router.admin_token}, headers=OURS)
        page = (await client.get("/console/history", params={"day": "2024-10-04"}, headers=PERSON)).text
        assert "No incidents. Servers that go down" in page


async def test_breakers_models_the_config_and_the_store_are_reported(tmp_path: Path) -> None:
    """Each begins and ends with what the router notices; a config that is refused again keeps its first cause."""
    async with running_router(tmp_path, {"one": {"host": "127.0.0.1", "port": 9}}) as router:
        incidents, now = router.services.incidents, router.services.fleet.now()
        for _ in range(5):
            router.services.fleet.health.failed("one", now, refused=False)
        incidents.config("line 3: unknown setting")
        incidents.config("line 4: unknown setting")
        incidents.config(None)

        async def are_told() -> bool:
            found = await told(router)
            return ("server.suspended", "one", False) in found and ("config.refused", "", True) in found

        await eventually_async(are_told)
        (refused,) = await router.services.incidents.store.list(IncidentFilter(kinds=("config.refused",)))
        assert refused.cause == "line 3: unknown setting"
