"""Servers that stand still: probes find out, and who waits there is answered elsewhere, or told at once."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx
import pytest

from ollama_router_core.fleet.stalls import Progress, Wait
from ollama_router_core.testing import Drip, OllamaSimulator, Silence, model
from support.eventually import eventually
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

MODEL = "llama3.1:8b"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": False}
QUICK = {"health_check_interval": 0.2, "probe_timeout": 0.3, "server_busy_threshold_ms": 300.0}
SHORT = {**CHAT, "options": {"num_predict": 1}}
WAITING = 8
"""Few and short enough that waiting behind them is quicker than a load on another server."""


async def wait_there(
    router: RunningRouter, client: httpx.AsyncClient, server: str
) -> list[asyncio.Task[httpx.Response]]:
    """Requests that a server holds without a byte of an answer."""
    asking = [asyncio.create_task(client.post("/api/chat", json=SHORT)) for _ in range(WAITING)]
    await eventually(lambda: router.services.fleet.running(server) == WAITING)
    return asking


async def test_who_waits_at_a_frozen_server_goes_on_elsewhere(tmp_path: Path) -> None:
    """Once its probes say so, not after `request_timeout`: the other server answers all of them."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as one,
        OllamaSimulator(models=[model(MODEL)]) as two,
        running_router(
            tmp_path, {"one": server_entry(one, priority=1), "two": server_entry(two, priority=2)}, **QUICK
        ) as router,
        router.client(limits=httpx.Limits(max_connections=50)) as client,
    ):
        one.misbehave(Silence(), path="/api/chat")
        asking = await wait_there(router, client, "one")
        one.misbehave(Silence())
        began = time.monotonic()
        answers = await asyncio.gather(*asking)
        seconds = time.monotonic() - began
    assert {(answer.status_code, answer.headers["x-router-server"]) for answer in answers} == {(200, "two")}
    assert {answer.headers["x-router-attempts"] for answer in answers} == {"2"}
    assert seconds < 20


async def test_where_nothing_else_can_answer_the_client_is_told_at_once(tmp_path: Path) -> None:
    """504 that names the server and not its address; the server's connections are closed."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as one,
        running_router(tmp_path, {"one": server_entry(one)}, **QUICK) as router,
        router.client(limits=httpx.Limits(max_connections=50)) as client,
    ):
        one.misbehave(Silence(), path="/api/chat")
        asking = await wait_there(router, client, "one")
        one.misbehave(Silence())
        began = time.monotonic()
        answers = await asyncio.gather(*asking)
        seconds = time.monotonic() - began
        rows = await router.rows(WAITING)
    assert {answer.status_code for answer in answers} == {504}
    assert {answer.json()["error"] for answer in answers} == {
        "one stopped answering probes while the request was in flight"
    }
    assert {row.error_code for row in rows} == {"upstream_timeout"}
    assert seconds < 20


async def test_an_answer_that_has_begun_is_not_ended_by_probes(tmp_path: Path) -> None:
    """The client has bytes of it: only silence within the answer, or its end, ends it."""
    async with (
        OllamaSimulator(models=[model(MODEL)], answer_tokens=40) as one,
        running_router(tmp_path, {"one": server_entry(one)}, **QUICK) as router,
        router.client() as client,
    ):
        one.misbehave(Drip(size=100, seconds=0.05), path="/api/chat")
        asking = asyncio.create_task(client.post("/api/chat", json={**CHAT, "stream": True}))
        await eventually(lambda: one.requests_to("/api/chat") and one.requests_to("/api/chat")[0].status == 200)
        one.misbehave(Silence(), path="/api/version")
        await eventually(lambda: router.services.fleet.snapshot.servers["one"].up is False)
        answer = await asking
    assert answer.text.splitlines()[-1].endswith("}")
    assert '"done":true' in answer.text


async def test_a_scheduler_that_holds_its_lock_is_slow_and_not_down(tmp_path: Path) -> None:
    """`/api/ps` may stall for minutes while something loads: the server is up, and goes on serving."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as one,
        running_router(
            tmp_path,
            {"one": server_entry(one)},
            **{**QUICK, "server_busy_threshold_ms": 1000.0},
            model_info_timeout=0.2,
        ) as router,
        router.client() as client,
    ):
        one.misbehave(Silence(), path="/api/ps")
        await eventually(lambda: len(one.requests_to("/api/ps")) >= 6)
        up = router.services.fleet.snapshot.servers["one"].up
        answer = await client.post("/api/chat", json=CHAT)
    assert up is True
    assert answer.status_code == 200


async def test_a_runner_that_stands_still_is_left_to_those_who_wait(tmp_path: Path) -> None:
    """Its server answers probes. Once nothing came for longer than expected, others are preferred, and it is told."""
    tiny = model("tiny:0.1b")
    async with (
        OllamaSimulator(models=[tiny]) as one,
        OllamaSimulator(models=[tiny]) as two,
        running_router(
            tmp_path, {"one": server_entry(one, priority=1), "two": server_entry(two, priority=2)}, **QUICK
        ) as router,
        router.client() as client,
        router.client(router.admin_token) as admin,
    ):
        asked = {**CHAT, "model": "tiny:0.1b", "stream": True}
        first = await client.post("/api/chat", json=asked)
        one.misbehave(Silence(), path="/api/chat")
        waiting = asyncio.create_task(client.post("/api/chat", json=asked))
        await eventually(lambda: bool(router.services.fleet.snapshot.suspended_models))
        answers = [await client.post("/api/chat", json=asked) for _ in range(3)]
        shown = (await admin.get("/router/status")).json()["servers"]["one"]
        waiting.cancel()
    assert first.headers["x-router-server"] == "one"
    assert {(answer.status_code, answer.headers["x-router-server"]) for answer in answers} == {(200, "two")}
    assert shown["up"] is True
    (found,) = shown["suspended_models"].values()
    assert "its runner may be frozen" in found["error"]


async def test_loads_that_stand_still_are_named_with_the_remedy(tmp_path: Path) -> None:
    """A model that never leaves memory and is in use keeps others from being loaded; hours of waiting are skipped."""
    pace = {"time_scale": 1.0, "load_speed": 1e13, "answer_tokens": 100_000}
    async with (
        OllamaSimulator(models=[model("tiny:0.1b"), model("kept:0.1b")], max_loaded_models=1, **pace) as one,
        running_router(tmp_path, {"one": server_entry(one)}, **QUICK) as router,
        router.client() as client,
        router.client(router.admin_token) as admin,
    ):
        fleet, asked = router.services.fleet, {**CHAT, "stream": True, "keep_alive": -1}
        busy = asyncio.create_task(client.post("/api/chat", json={**asked, "model": "kept:0.1b"}))
        await eventually(lambda: "kept:0.1b" in fleet.snapshot.servers["one"].loaded)
        await eventually(lambda: any(isinstance(one, Progress) and one.pieces for one in fleet._watched()))
        waits = asyncio.create_task(client.post("/api/chat", json={**asked, "model": "tiny:0.1b"}))
        await eventually(lambda: any(isinstance(one, Wait) for one in fleet._watched()))
        fleet.state.runners.suspect("one", fleet._watched(), fleet.now() + 9999.0)
        shown = (await admin.get("/router/status")).json()["servers"]["one"]
        for task in (waits, busy):
            task.cancel()
        await asyncio.gather(waits, busy, return_exceptions=True)
    assert "loads there wait for kept:0.1b" in shown["suspended_models"]["tiny:0.1b"]["error"]
    assert "`ollama stop kept:0.1b` on that server ends it" in shown["suspended_models"]["tiny:0.1b"]["error"]
