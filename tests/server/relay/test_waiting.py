"""Waiting over real sockets: how long, in what order, and what is shown of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ollama_router_core.testing import OllamaSimulator, model
from support.eventually import eventually
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

MODEL = "llama3.1:8b"
BODY = {"model": MODEL, "prompt": "hi", "stream": False}


async def test_the_queue_is_shown_and_its_order_and_bounds_hold(tmp_path: Path) -> None:
    """One runs; of two that wait the batch one goes last though it came first; one without patience is refused."""
    async with (
        OllamaSimulator(models=[model(MODEL, decode_speed=20.0)], time_scale=1.0, answer_tokens=20) as sim,
        running_router(tmp_path, {"one": server_entry(sim, max_concurrent=1)}) as router,
        router.client() as client,
    ):
        first = asyncio.create_task(client.post("/api/generate", json=BODY))
        await eventually(lambda: router.services.fleet.running("one") == 1)
        batch = asyncio.create_task(client.post("/api/generate", json=BODY, headers={"X-Router-Priority": "batch"}))
        await eventually(lambda: router.services.admission.waiting == 1)
        later = asyncio.create_task(client.post("/api/generate", json=BODY))
        await eventually(lambda: router.services.admission.waiting == 2)
        shown = (await client.get("/router/queue")).json()
        impatient = await client.post("/api/generate", json=BODY, headers={"X-Router-Max-Wait": "0.01"})
        unreadable = await client.post("/api/generate", json=BODY, headers={"X-Router-Max-Wait": "soon"})
        done, _ = await asyncio.wait([batch, later], return_when=asyncio.FIRST_COMPLETED)
        await asyncio.gather(first, batch, later)
    assert done == {later}
    assert [task.result().headers.get("x-router-queue-position") for task in (first, batch, later)] == [None, "1", "2"]
    assert shown["waiting"] == 2
    (row,) = shown["queue"]
    assert (row["model"], row["waiting"], row["batch"]) == (MODEL, 2, 1)
    assert impatient.status_code == 503
    assert unreadable.status_code == 400
    assert unreadable.headers["x-router-error"] == "invalid_header"
