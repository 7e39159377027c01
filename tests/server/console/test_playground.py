"""The playground: a session in place of a token, and the way of every request from there on."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from ollama_router_core.testing import OllamaSimulator, model
from support.eventually import eventually
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

OURS = {"x-console": "1", "content-type": "application/json"}
PERSON = {"accept": "text/html"}
PLAY = "/console/play/api/chat"
CHAT = {"model": "llama3.2:3b", "messages": [{"role": "user", "content": "hi"}]}


@asynccontextmanager
async def playing(
    tmp_path: Path, token: str | None = None, **simulated: Any
) -> AsyncIterator[tuple[RunningRouter, OllamaSimulator, httpx.AsyncClient]]:
    """A router, its server, and a browser that alice has signed in with, or whoever has the token."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b"), model("qwen3:8b")], **simulated) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client("") as browser,
    ):
        shown = {"token": token or router.token}
        assert (await browser.post("/console/session", json=shown, headers=OURS)).status_code == 200
        yield router, sim, browser


async def test_a_chat_of_the_page_is_a_request_of_its_user(tmp_path: Path) -> None:
    """With server and reason, a row of that user; neither cookie nor the page's fields reach the server."""
    async with playing(tmp_path) as (router, sim, browser):
        someone = {"authorization": f"Bearer {router.admin_token}", "x-api-key": router.admin_token}
        chat = {**CHAT, "stream": False}
        answer = await browser.post(PLAY, json=chat, headers={**OURS, **someone, "origin": router.url})
        assert (answer.status_code, answer.json()["done"]) == (200, True)
        assert answer.headers["x-router-server"] == "one"
        assert answer.headers["x-router-reason"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers
        (row,) = await router.rows(1)
        assert (row.user, row.path, row.id) == ("alice", "/api/chat", answer.headers["x-router-request-id"])
        (got,) = sim.requests_to("/api/chat")
        sent = {name.lower() for name, _ in got.headers}
        assert not sent & {"cookie", "authorization", "x-api-key", "origin", "x-console"}


async def test_rights_and_limits_are_the_user_s(tmp_path: Path) -> None:
    """A model that is not granted is 403, a limit that is used up 429: in the words of every request."""
    async with playing(tmp_path) as (router, _, browser), router.client(router.admin_token) as admin:
        await admin.patch("/router/users/alice", json={"grants": {"models": ["qwen*"], "requests_per_minute": 2}})
        await router.services.authenticator.refresh()
        assert (await browser.post(PLAY, json=CHAT, headers=OURS)).json()["error"].startswith("this user may not use")
        for status in (200, 429):
            answer = await browser.post(PLAY, json={**CHAT, "model": "qwen3:8b"}, headers=OURS)
            assert answer.status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({**OURS, "origin": "http://evil.example"}, 403),
        ({**OURS, "sec-fetch-site": "cross-site"}, 403),
        ({**OURS, "content-type": "text/plain"}, 403),
        ({**OURS, "cookie": "orouter-console=0"}, 401),
    ],
)
async def test_what_is_no_page_of_ours_asks_no_model(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    """As everywhere in the console."""
    async with playing(tmp_path) as (_, sim, browser):
        refused = await browser.post(PLAY, content=json.dumps(CHAT), headers=headers)
        assert refused.status_code == status
        assert "default-src 'none'" in refused.headers["content-security-policy"]
        assert (await browser.get(PLAY, headers=OURS)).status_code == 405
        assert (await browser.post("/console/play/api/generate", json=CHAT, headers=OURS)).status_code == 404
        assert not sim.requests_to("/api/chat")


async def test_an_admin_names_the_server_and_nobody_else_may(tmp_path: Path) -> None:
    """Whatever the router would choose; a page that says so for a user is refused, and offers it to admins alone."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as spare,
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim), "two/2": server_entry(spare, priority=2)}) as router,
        router.client("") as root,
        router.client("") as alice,
    ):
        for browser, token in ((root, router.admin_token), (alice, router.token)):
            await browser.post("/console/session", json={"token": token}, headers=OURS)
        chat, pin = {**CHAT, "stream": False}, {**OURS, "x-router-pin": "two/2"}
        assert (await root.post(PLAY, json=chat, headers=pin)).status_code == 200
        refused = await alice.post(PLAY, json=chat, headers=pin)
        assert (refused.status_code, refused.headers["x-router-error"]) == (403, "forbidden")
        unknown = await root.post(PLAY, json=chat, headers={**OURS, "x-router-pin": "three"})
        assert (unknown.status_code, unknown.headers["x-router-error"]) == (400, "invalid_header")
        assert (len(spare.requests_to("/api/chat")), len(sim.requests_to("/api/chat"))) == (1, 0)
        row = next(row for row in await router.rows(3) if row.user == "root" and row.status == 200)
        assert (row.server, (row.reason or "").startswith("pinned to two/2; ")) == ("two/2", True)
        pages = [(await browser.get("/console/play", headers=PERSON)).text for browser in (root, alice)]
    assert ['name="pin"' in page for page in pages] == [True, False]
    assert "<option>two/2</option>" in pages[0]
    assert re.search(r"llama3.2:3b</bdi> (is in memory|has to be loaded)", pages[1])


async def test_a_stream_that_waits_has_its_id_and_tells_its_place(tmp_path: Path) -> None:
    """From the first second on, whatever the config says; by the id the page asks how far it is."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")], time_scale=1.0, answer_tokens=5_000) as sim,
        running_router(tmp_path, {"one": server_entry(sim, max_concurrent=1)}) as router,
        router.client("") as browser,
    ):
        await browser.post("/console/session", json={"token": router.token}, headers=OURS)
        assert router.services.config.load_keepalive is None
        async with browser.stream("POST", PLAY, json=CHAT, headers=OURS):
            await eventually(lambda: bool(sim.requests_to("/api/chat")))
            async with browser.stream("POST", PLAY, json=CHAT, headers=OURS) as stream:
                path = f"/console/act/requests/{stream.headers['x-router-request-id']}"
                shown = (await browser.get(path, headers=OURS)).json()
    assert "1st in line, starts " in shown["sentence"]


async def test_a_stream_ends_with_the_token_of_its_session(tmp_path: Path) -> None:
    """Revoked in mid-answer: cut, and the server is left."""
    async with (
        playing(tmp_path, time_scale=1.0, answer_tokens=5_000) as (router, sim, browser),
        router.client(router.admin_token) as admin,
        browser.stream("POST", PLAY, json=CHAT, headers=OURS) as stream,
    ):
        lines = stream.aiter_lines()
        await anext(lines)
        await admin.delete("/router/users/alice/tokens/default")
        await eventually(lambda: sim.in_flight == 0)
        told = []
        with suppress(httpx.RemoteProtocolError):
            async for line in lines:
                told.append(json.loads(line))  # noqa: PERF401 - what came before the cut counts
        assert not any(line.get("done") for line in told)


async def test_leaving_the_page_closes_the_connection_to_the_server(tmp_path: Path) -> None:
    """Nobody reads on for a page that is gone."""
    async with playing(tmp_path, time_scale=1.0, answer_tokens=5_000) as (_, sim, browser):
        async with browser.stream("POST", PLAY, json=CHAT, headers=OURS) as stream:
            await anext(stream.aiter_lines())
        await eventually(lambda: sim.aborted == 1)


async def test_the_page_offers_what_its_user_may_use(tmp_path: Path) -> None:
    """Models of the own grants, those in memory first; viewers have no playground, and no link to one."""
    async with playing(tmp_path) as (router, _, browser), router.client(router.admin_token) as admin:
        await browser.post(PLAY, json={**CHAT, "model": "qwen3:8b"}, headers=OURS)
        await eventually(lambda: bool(router.services.fleet.snapshot.servers["one"].loaded))
        page = (await browser.get("/console/play", headers=PERSON)).text
        assert '<option value="qwen3:8b">in memory</option><option value="llama3.2:3b">has to be loaded' in page
        assert 'name="model" list="models" required maxlength="512" value="qwen3:8b"' in page
        await admin.patch("/router/users/alice", json={"grants": {"models": []}})
        await router.services.authenticator.refresh()
        page = (await browser.get("/console/play", headers=PERSON)).text
        assert "No server has a model that you may use." in page
        made = (await admin.post("/router/users", json={"name": "vic", "role": "viewer"})).json()
        await router.services.authenticator.refresh()
        async with router.client("") as viewer:
            await viewer.post("/console/session", json={"token": made["token"]}, headers=OURS)
            assert (await viewer.get("/console/play", headers=PERSON)).status_code == 403
            assert ">Playground<" not in (await viewer.get("/console/", headers=PERSON)).text
