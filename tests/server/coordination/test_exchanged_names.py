"""Two servers that exchange their names in one reload, in a whole router: each keeps to its limit."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from ollama_router_core.config import load_config
from ollama_router_core.testing import Delay, OllamaSimulator, model
from support.eventually import eventually
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The server runs on asyncio."""
    return "asyncio"


def body(name: str) -> dict[str, Any]:
    """A request for a model, which only one of the servers has."""
    return {"model": name, "prompt": "hi", "stream": False}


async def test_what_runs_at_a_server_counts_there_under_the_name_that_it_has_now(tmp_path: Path) -> None:
    """A second request waits until the first one has left; the other server is as free as it was."""
    async with (
        OllamaSimulator(models=[model("one:1b")], time_scale=0.0) as one,
        OllamaSimulator(models=[model("two:1b")], time_scale=0.0) as two,
    ):
        one.faults.add([Delay(seconds=60.0)], path="/api/generate", times=1)
        servers = {"a": server_entry(one, max_concurrent=1), "b": server_entry(two, max_concurrent=1)}
        async with running_router(tmp_path, servers) as router, router.client() as client:
            services = router.services
            first = asyncio.create_task(client.post("/api/generate", json=body("one:1b")))
            await eventually(lambda: one.in_flight == 1)
            written = {"servers": {"a": servers["b"], "b": servers["a"]}, "proxy_port": 1}
            await services.running_config.declare(load_config(json.dumps(written)))
            assert [services.fleet.running(name) for name in "ab"] == [0, 1]
            second = asyncio.create_task(client.post("/api/generate", json=body("one:1b")))
            await eventually(lambda: services.admission.waiting == 1)
            assert (await client.post("/api/generate", json=body("two:1b"))).status_code == 200
            assert one.max_in_flight == 1
            first.cancel()
            answer = await second
            assert (answer.status_code, answer.headers["x-router-server"]) == (200, "b")
            await eventually(lambda: [services.fleet.running(name) for name in "ab"] == [0, 0])
