"""The router at a glance: since when something needs attention, and what the last hour was."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from ollama_router_core.fleet.observations import observe_down
from ollama_router_core.testing import OllamaSimulator, model
from ollama_router_server.admin.overview_resource import find_overview
from ollama_router_server.admin.views.overview import OverviewView, attention
from ollama_router_server.admin.views.servers import server_views
from ollama_router_server.console.assets import Assets
from ollama_router_server.console.hour_chart import hour_of
from ollama_router_server.console.rendering import Renderer
from ollama_router_server.storage.incident_changes import Began, Origin
from ollama_router_server.storage.incident_store import IncidentFilter
from support.eventually import eventually, eventually_async
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

CHAT = {"model": "llama3.2:3b", "messages": [{"role": "user", "content": "hi"}], "stream": False}


async def test_what_needs_attention_says_since_when(tmp_path: Path) -> None:
    """A server that is down is so since its incident began, and not since another router saw one of that name down."""
    servers = {"off": {"host": "127.0.0.1", "port": 2}}
    async with running_router(tmp_path, servers) as router, router.client(router.admin_token) as admin:

        async def is_told() -> bool:
            return bool(await router.services.incidents.store.list(IncidentFilter(server="off", active=True)))

        await eventually_async(is_told)
        (incident,) = await router.services.incidents.store.list(IncidentFilter(server="off"))
        elsewhere = Began(kind="server.down", at=1.0, cause="another router on this database says so", server="off")
        await router.services.incidents.store.apply(Origin("elsewhere"), [elsewhere])
        (told,) = (await admin.get("/router/overview")).json()["attention"]
        assert (told["kind"], told["server"]) == ("server.down", "off")
        assert told["since"] == incident.began_at


async def test_what_no_incident_tells_has_no_date(tmp_path: Path) -> None:
    """A drain is no incident."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client(router.admin_token) as admin,
    ):
        await admin.post("/router/servers/one/drain")
        told = {one["kind"]: one["since"] for one in (await admin.get("/router/overview")).json()["attention"]}
        assert told["server.draining"] is None


async def test_what_is_wrong_with_all_is_told(tmp_path: Path) -> None:
    """Versions of servers that are up and differ, rows that were lost."""
    versions = [OllamaSimulator(models=[model("llama3.2:3b")], version=one) for one in ("0.20.1", "0.32.15")]
    async with (
        versions[0] as one,
        versions[1] as other,
        running_router(tmp_path, {"one": server_entry(one), "other": server_entry(other)}) as router,
        router.client(router.admin_token) as admin,
    ):
        router.services.sink.dropped = 3
        told = {one["kind"]: one["what"] for one in (await admin.get("/router/overview")).json()["attention"]}
        wanted = {
            "log.lost": "3 rows of the request log were lost since the router started.",
            "versions.differ": "Servers have different versions of Ollama: 0.20.1, 0.32.15.",
        }
        assert told.items() >= wanted.items()
        services = router.services
        services.fleet.update("other", partial(observe_down, error="gone", now=services.clock.monotonic()))
        assert "versions.differ" not in {one.kind for one in attention(services, server_views(services).servers)}


async def test_models_that_are_not_as_expected_are_told(tmp_path: Path) -> None:
    """One name with two digests, and a model that takes far more than was computed; each with what fixes it."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as one,
        OllamaSimulator(models=[model("llama3.2:3b", digest="f" * 64)]) as other,
        running_router(tmp_path, {"one": server_entry(one), "other": server_entry(other, priority=2)}) as router,
        router.client() as client,
        router.client(router.admin_token) as admin,
    ):
        await client.post("/api/chat", json=CHAT)
        await eventually(lambda: bool(router.services.fleet.servers["one"].loaded))
        shown = (await admin.get("/router/servers/one")).json()
        assert 0.8 < shown["loaded"][0]["size"] / shown["loaded"][0]["computed"] < 1.2
        told = r"Memory within \d+ % of what was computed for 1 of 1 loads\."
        assert re.match(told, shown["memory"]["accuracy"])
        views = server_views(router.services).servers
        assert [told.kind for told in attention(router.services, views)] == ["digests.differ"]
        loaded = views[0].loaded[0].model_copy(update={"computed": views[0].loaded[0].size // 2})
        told = list(attention(router.services, [views[0].model_copy(update={"loaded": [loaded]})]))
        config = router.services.config
        overridden = config.models.model_copy(update={"memory_overrides": {"llama3.2:3b": 2.0}})
        router.services.running_config.config = config.model_copy(update={"models": overridden})
        left = list(attention(router.services, [views[0].model_copy(update={"loaded": [loaded]})]))
    (differs, memory) = told
    assert left == [differs]
    assert differs.what.startswith("llama3.2:3b differs between servers: ")
    assert "ffffffffffff on other" in differs.what
    assert (memory.kind, memory.server) == ("memory.differs", "one")
    assert memory.fix.startswith('memory_overrides: {"llama3.2:3b": ')


async def test_workers_that_are_not_heard_are_told(tmp_path: Path) -> None:
    """The page says how many answered, and is quiet where all did."""
    async with running_router(tmp_path, {"off": {"host": "127.0.0.1", "port": 2}}) as router:
        view = await find_overview(router.services, router.services.worker_news.sync)
        assert (view.heard, view.workers) == (1, 1)
        renderer, viewer = Renderer(Assets()), SimpleNamespace(role="viewer")

        def shown(view: OverviewView) -> str:
            values = {"view": view, "hour": hour_of(view.last_hour.minutes), "user": viewer, "span": "hour"}
            values |= {"series": None, "chart": None}
            return renderer.text("parts/now.html", "/console/now", **values)

        assert "workers answered" not in shown(view)
        assert "2 of 3 workers answered" in shown(view.model_copy(update={"workers": 3, "heard": 2}))


async def test_readers_are_told_how_often_models_are_used(tmp_path: Path) -> None:
    """And when last; plain users are not told of others, and a database that is away hides no model."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b"), model("qwen3:8b")]) as sim,
        running_router(
            tmp_path,
            {"one": server_entry(sim)},
            models={"rules": [{"pattern": "qwen3*", "min_num_ctx": 2048}], "aliases": {"small": "llama3.2:3b"}},
        ) as router,
        router.client() as alice,
        router.client(router.admin_token) as admin,
    ):
        await alice.post("/api/generate", json={"model": "small", "prompt": "hi", "stream": False})
        await router.rows(1)
        used, unused = (await admin.get("/router/models")).json()["models"]
        assert (used["name"], used["requests"], used["last_used_at"] % 3_600) == ("llama3.2:3b", 1, 0)
        assert (unused["requests"], unused["last_used_at"], unused["rule"]) == (0, None, "qwen3*")
        assert {one["requests"] for one in (await alice.get("/router/models")).json()["models"]} == {None}
        await admin.post("/console/session", json={"token": router.admin_token}, headers={"x-console": "1"})
        page = (await admin.get("/console/models")).text
        assert "not in 7 days" in page
        assert 'alias <bdi class="mono">small</bdi>' in page


async def test_the_last_hour_counts_what_ended(tmp_path: Path) -> None:
    """Sixty minutes with their requests, failures and tokens; a sentence and charts on the page."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
        router.client(router.admin_token) as admin,
    ):
        assert (await admin.get("/router/overview")).json()["last_hour"]["sentence"] == "No request ended."
        await client.post("/api/chat", json=CHAT)
        await client.post("/api/chat", json={**CHAT, "model": "nobody-has-this"})
        await router.rows(2)
        hour = (await admin.get("/router/overview")).json()["last_hour"]
        assert len(hour["minutes"]) == 60
        assert sum(one["requests"] for one in hour["minutes"]) == 2
        assert hour["sentence"].startswith("2 requests ended, 1 failed; ")
