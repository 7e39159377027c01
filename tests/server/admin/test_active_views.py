"""Requests in progress: what each does, in words, and what those wait for that wait."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from ollama_router_core.testing import OllamaSimulator, Silence, model
from ollama_router_server.admin.views.active import active_views
from support.eventually import eventually
from support.raw_client import RawClient, request_bytes
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

MODEL = "llama3.1:8b"
BODY = {"model": MODEL, "prompt": "hi", "stream": False}


def doing(router: RunningRouter) -> list[str]:
    """What all requests do."""
    found = active_views(router.services, router.services.worker_news.sync.active_requests())
    return [one.doing for one in found]


async def test_a_load_is_told_with_its_time_and_a_wait_with_what_it_is_for(tmp_path: Path) -> None:
    """The first one loads the model, the other one waits for a slot; the page says so, too."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim, max_concurrent=1)}) as router,
        router.client() as client,
    ):
        sim.misbehave(Silence(), path="/api/generate")
        first = asyncio.create_task(client.post("/api/generate", json=BODY))
        await eventually(lambda: router.services.fleet.running("one") == 1)
        second = asyncio.create_task(client.post("/api/generate", json=BODY))
        await eventually(lambda: len(doing(router)) == 2)
        loads, waits = doing(router)
        async with router.client(router.admin_token) as admin:
            shown = (await admin.get("/router/overview")).json()
            await admin.post("/console/session", json={"token": router.admin_token}, headers={"x-console": "1"})
            page = (await admin.get("/console/now")).text
        first.cancel()
        second.cancel()
    assert re.fullmatch(r"loading, \d+ of about \d+ s", loads)
    assert waits == "waiting for a slot on one"
    assert [one["doing"] for one in shown["waiting"]] == [waits]
    assert "</svg>waiting for a slot on one</span>" in page


async def test_an_answer_is_told_with_its_tokens_and_their_speed(tmp_path: Path) -> None:
    """Of a stream, by what is counted anyway."""
    slow = model(MODEL, decode_speed=40.0)
    async with (
        OllamaSimulator(models=[slow], time_scale=1.0, load_speed=1e14, answer_tokens=2_000) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        RawClient.open(router.port) as raw,
    ):
        body = json.dumps({**BODY, "stream": True}).encode()
        await raw.send(request_bytes(router.token, body, path="/api/generate"))
        written = re.compile(r"writing, \d+ tokens, \d+/s")
        await eventually(lambda: any(map(written.fullmatch, doing(router))))


async def test_what_is_not_known_is_not_told(tmp_path: Path) -> None:
    """Whether an answer in one piece is being read or written, speeds of a moment, what an odd name waits for."""
    told: list[tuple[dict[str, Any], str]] = [
        ({"state": "sent", "tokens": 0, "streamed": True}, "reading"),
        ({"state": "sent", "tokens": 0, "streamed": False}, "reading or writing"),
        ({"state": "sent", "tokens": None}, "sent"),
        ({"state": "answering", "tokens": 1, "first_byte_seconds": 1.0, "seconds": 1.2}, "writing, 1 token"),
        ({"state": "answering", "tokens": None, "first_byte_seconds": 1.0}, "answering"),
        ({"state": "waiting", "server": None, "model": "no such"}, "waiting"),
        ({"state": "waiting", "server": None, "model": "a/b/c/d/e"}, "waiting"),
    ]
    usual = {"id": "1", "user": "alice", "model": MODEL, "context": None, "server": "one", "path": None}
    usual |= {"seconds": 2.0, "first_byte_seconds": None, "queue_position": None, "starts_in_seconds": None}
    usual |= {"started_at": 1.0, "method": "POST", "pin": None, "attempts": 0, "decided_seconds": None}
    async with running_router(tmp_path, {"one": {"host": "127.0.0.1", "port": 9}}) as router:
        shown = active_views(router.services, [{**usual, "bytes_out": 0, **row} for row, _ in told])
    assert [one.doing for one in shown] == [text for _, text in told]


async def test_what_has_ended_in_another_worker_is_told_by_the_log_alone(tmp_path: Path, monkeypatch: Any) -> None:
    """That worker's requests in progress are known as of up to a second ago: its row may be in the log by now."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
        router.client(router.admin_token) as admin,
    ):
        await client.post("/api/generate", json=BODY)
        (row,) = await router.rows(1)
        running = {"id": row.id, "user": row.user, "model": MODEL, "context": None, "server": "one", "path": None}
        running |= {"seconds": 2.0, "first_byte_seconds": None, "queue_position": None, "starts_in_seconds": None}
        running |= {"started_at": row.started_at, "method": "POST", "pin": None, "attempts": 1, "tokens": None}
        running |= {"decided_seconds": None, "state": "sent", "bytes_out": 0}
        sync = router.services.worker_news.sync
        monkeypatch.setattr(sync, "_heard", lambda: [{"active": [running, {**running, "id": "f" * 28}]}])
        listed = (await admin.get("/router/requests")).json()
        ended = (await admin.get(f"/router/requests/{row.id}")).json()
        goes_on = (await admin.get(f"/router/requests/{'f' * 28}")).json()
    assert [one["id"] for one in listed["active"]] == ["f" * 28]
    assert [one["id"] for one in listed["requests"]] == [row.id]
    assert (ended["outcome"], goes_on["outcome"]) == ("ok", "in_progress")
