"""Users take turns over all routers on a Redis, also those who ask several of them."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from ollama_router_core.testing import Delay, OllamaSimulator, model
from support.eventually import eventually
from support.redis_group import PREFIX
from support.redis_server import RedisServer
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

MODEL = "llama3.1:8b"
Answer = asyncio.Task[httpx.Response]


@pytest.fixture
def anyio_backend() -> str:
    """The server runs on asyncio."""
    return "asyncio"


def body(text: str) -> dict[str, Any]:
    """A request."""
    return {"model": MODEL, "prompt": text, "stream": False}


async def test_a_turn_at_one_router_is_a_turn_at_each(tmp_path: Path, redis_server: RedisServer) -> None:
    """Whose request got a slot at one is in the line of the other since then, with all that is older there."""
    with redis_server.client() as store:
        store.set(f"{PREFIX}epoch", 1)  # they wait for nobody else
    settings = {"url": redis_server.url, "timeout": 5.0}
    async with OllamaSimulator(models=[model(MODEL)], time_scale=0.0) as sim, AsyncExitStack() as running:
        sim.faults.add([Delay(seconds=60.0)], path="/api/generate", times=2)
        routers: list[RunningRouter] = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            servers = {"a": server_entry(sim, max_concurrent=1)}
            routers.append(
                await running.enter_async_context(running_router(tmp_path / name, servers, coordination=settings))
            )
        one, two = routers
        alice, root = one.client(), one.client(one.admin_token)
        elsewhere = two.client()
        for client in (alice, root, elsewhere):
            await running.enter_async_context(client)

        async def asked(client: httpx.AsyncClient, text: str, router: RunningRouter, waiting: int) -> Answer:
            found = asyncio.create_task(client.post("/api/generate", json=body(text)))
            await eventually(lambda: router.services.admission.waiting == waiting)
            return found

        holds = asyncio.create_task(root.post("/api/generate", json=body("holds")))
        await eventually(lambda: len(sim.requests_to("/api/generate")) == 1)
        first = await asked(alice, "first of alice", one, 1)
        second = await asked(elsewhere, "second of alice", two, 1)
        other = await asked(root, "root's", one, 2)
        arrived = time.monotonic()
        assert two.services.admission.view.heads()["a"] < arrived
        holds.cancel()
        await eventually(lambda: len(sim.requests_to("/api/generate")) == 2)
        await eventually(lambda: two.services.admission.view.heads()["a"] > arrived)
        first.cancel()
        assert [answer.status_code for answer in await asyncio.gather(other, second)] == [200, 200]
        order = [request.json["prompt"] for request in sim.requests_to("/api/generate")[2:]]
    assert order == ["root's", "second of alice"]
