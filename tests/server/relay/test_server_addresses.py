"""Servers behind a key, a path or an authority of their own, and routers in front of routers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ollama_router_core.testing import OllamaSimulator
from support.eventually import eventually
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

CHAT = {"model": "llama3.1:8b", "messages": [{"role": "user", "content": "hi"}], "stream": False}


async def test_a_router_in_front_of_a_router(tmp_path: Path) -> None:
    """The outer one shows the inner one's token, and its answer says once what the outer one did."""
    inner_home, outer_home = tmp_path / "inner", tmp_path / "outer"
    inner_home.mkdir()
    outer_home.mkdir()
    async with (
        OllamaSimulator(models=["llama3.1:8b"]) as sim,
        running_router(inner_home, {"gpu": server_entry(sim)}) as inner,
        running_router(
            outer_home,
            {"site": {"url": inner.url, "api_key_env": "SITE_TOKEN"}},
            environment={"SITE_TOKEN": inner.token},
        ) as outer,
        outer.client() as client,
    ):
        await eventually(lambda: bool(outer.services.fleet.snapshot.servers["site"].installed))
        answer = await client.post("/api/chat", json=CHAT)
        listed = await client.get("/api/tags")
        streamed = await client.post("/api/chat", json={**CHAT, "stream": True})
        ((row,), (inner_row, *_)) = (
            [row for row in await outer.rows(2) if row.path == "/api/chat"][:1],
            await inner.rows(),
        )
    assert answer.status_code == 200, answer.text
    for name in ("x-router-server", "x-router-reason", "x-router-attempts", "x-router-request-id"):
        assert len(answer.headers.get_list(name)) == 1
    assert answer.headers["x-router-server"] == "site"
    assert json.loads(streamed.text.splitlines()[-1])["done"] is True
    assert [one["name"] for one in listed.json()["models"]] == ["llama3.1:8b"]
    assert (row.server, inner_row.server, inner_row.user) == ("site", "gpu", "alice")


async def test_a_server_below_a_path(tmp_path: Path) -> None:
    """Probes, lists, models' facts and requests: all go below the prefix, with the server's own fields."""
    async with (
        OllamaSimulator(models=["llama3.1:8b"]) as sim,
        running_router(
            tmp_path,
            {"one": {"url": f"http://127.0.0.1:{sim.port}/gpu/a/", "headers": {"X-Door": "canary"}}},
            probe_timeout=0.2,
        ) as router,
    ):
        await eventually(lambda: len({one.path for one in sim.requests}) > 0)
        assert {one.path.startswith("/gpu/a/api/") for one in sim.requests} == {True}
        assert {one.header("X-Door") for one in sim.requests} == {"canary"}
        assert router.services.config.servers["one"].path_prefix == "/gpu/a"
