"""Preemption over real sockets: a batch request whose server is silent gives its slot up to an interactive one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from ollama_router_core.testing import Drip, OllamaSimulator, Silence, model
from support.eventually import eventually
from support.raw_client import RawClient, parsed, request_bytes
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

MODEL = "llama3.1:8b"
BODY = {"model": MODEL, "prompt": "hi", "stream": False}
BATCH = {"X-Router-Priority": "batch"}
CLOSING = {**BATCH, "Connection": "close"}
STRATEGIES = ["fastest", "priority_with_memory"]


def settings(strategy: str) -> dict[str, Any]:
    """Facts that do not change by themselves, and preemption."""
    return {"routing_strategy": strategy, "queue": {"max_preemptions": 1}, "health_check_interval": 300.0}


async def loaded(router: RunningRouter, client: Any) -> None:
    """The model is in memory, and known to be."""
    assert (await client.post("/api/generate", json=BODY)).status_code == 200
    await eventually(lambda: bool(router.services.fleet.servers["one"].loaded))


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_the_slot_goes_to_who_waits_and_the_batch_request_is_answered_afterwards(
    tmp_path: Path, strategy: str
) -> None:
    """One slot. The server is told by the end of the connection; its breaker counts no failure; the row tells."""
    async with (
        OllamaSimulator(models=[model(MODEL)], time_scale=0.01) as sim,
        running_router(tmp_path, {"one": server_entry(sim, max_concurrent=1)}, **settings(strategy)) as router,
        router.client() as client,
    ):
        await loaded(router, client)
        sim.misbehave(Silence(), path="/api/generate", times=1)
        batch = asyncio.create_task(client.post("/api/generate", json=BODY, headers=BATCH))
        await eventually(lambda: len(sim.requests_to("/api/generate")) == 2)
        interactive = await client.post("/api/generate", json=BODY)
        answer = await batch
        rows = await router.rows(3)
        fails = router.services.fleet.health.fails("one")
        sent = len(sim.requests_to("/api/generate"))
    assert (interactive.status_code, answer.status_code, sent) == (200, 200, 4)
    assert answer.headers["x-router-attempts"] == "2"
    (row,) = [one for one in rows if "preempted" in (one.reason or "")]
    assert row.reason.startswith("preempted on one; ")
    assert (row.attempts, row.error_code) == (2, None)
    assert not fails


async def test_a_stream_that_only_heard_heartbeats_is_preempted_too(tmp_path: Path) -> None:
    """It hears them while it waits anew, and then its answer."""
    async with (
        OllamaSimulator(models=[model(MODEL)], time_scale=0.01) as sim,
        running_router(
            tmp_path, {"one": server_entry(sim, max_concurrent=1)}, load_keepalive=0.05, **settings("fastest")
        ) as router,
        router.client() as client,
        RawClient.open(router.port) as raw,
    ):
        await loaded(router, client)
        sim.misbehave(Silence(), path="/api/generate", times=1)
        body = json.dumps({**BODY, "stream": True}).encode()
        await raw.send(request_bytes(router.token, body, path="/api/generate", headers=CLOSING))
        await raw.until(b"200 OK")
        await eventually(lambda: len(sim.requests_to("/api/generate")) == 2)
        sim.misbehave(Silence(), path="/api/generate", times=1)
        interactive = asyncio.create_task(client.post("/api/generate", json=BODY))
        await raw.until(b'"router":{"queue_position":1,')
        interactive.cancel()
        answer = parsed(await raw.to_end())
    assert (answer.status, answer.complete) == (200, True)
    assert b'"done":true' in answer.body


async def test_an_answer_that_has_begun_stays(tmp_path: Path) -> None:
    """The interactive request waits until it is over."""
    async with (
        OllamaSimulator(models=[model(MODEL)], time_scale=0.01) as sim,
        running_router(tmp_path, {"one": server_entry(sim, max_concurrent=1)}, **settings("fastest")) as router,
        router.client() as client,
        RawClient.open(router.port) as raw,
    ):
        await loaded(router, client)
        pause = Drip(seconds=lambda: 0.0 if router.services.admission.waiting else 0.02)
        sim.misbehave(pause, path="/api/generate", times=1)
        body = json.dumps({**BODY, "stream": True}).encode()
        await raw.send(request_bytes(router.token, body, path="/api/generate", headers=CLOSING))
        await raw.until(b"200 OK")
        interactive = await client.post("/api/generate", json=BODY)
        answer = parsed(await raw.to_end())
        sent = len(sim.requests_to("/api/generate"))
    assert (interactive.status_code, interactive.headers["x-router-queue-position"], sent) == (200, "1", 3)
    assert answer.fields.get("x-router-attempts") == "1"
    assert answer.complete
