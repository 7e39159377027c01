"""A server that stands still: the program's requests that wait there go on elsewhere once probes say so."""

from __future__ import annotations

import json

import anyio
import httpx
import pytest

from ollama_router_core import AsyncRouterTransport
from ollama_router_core.config import load_config
from ollama_router_core.testing import Silence, SimulatorThread

CHAT = {"model": "llama3.1:8b", "messages": [{"role": "user", "content": "hi"}], "stream": False}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_who_waits_at_a_frozen_server_goes_on_elsewhere(backend: str) -> None:
    """Other requests prompt the probes; the one that waits is answered by the next server."""
    with SimulatorThread(models=["llama3.1:8b"]) as one, SimulatorThread(models=["llama3.1:8b"]) as two:
        servers = {
            name: {"host": "127.0.0.1", "port": server.port, "priority": place}
            for place, (name, server) in enumerate({"one": one, "two": two}.items(), 1)
        }
        settings = {
            "servers": servers,
            "health_check_interval": 0.1,
            "probe_timeout": 0.3,
            "server_busy_threshold_ms": 300,
        }
        anyio.run(_freeze, json.dumps(settings), one, backend=backend)


async def _freeze(settings: str, one: SimulatorThread) -> None:
    transport = AsyncRouterTransport(load_config(settings, env={}))
    answers: list[httpx.Response] = []
    answered = anyio.Event()

    async def ask() -> None:
        answers.append(await client.post("/api/chat", json=CHAT))
        if len(answers) == 2:
            answered.set()

    async with httpx.AsyncClient(transport=transport, base_url="http://router", timeout=60) as client:
        await ask()
        one.simulator.misbehave(Silence())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            with anyio.fail_after(30):
                while not answered.is_set():
                    await transport.explain("nobody:1b")
                    with anyio.move_on_after(0.05):
                        await answered.wait()
    assert [(answer.status_code, answer.headers["x-router-server"]) for answer in answers] == [
        (200, "one"),
        (200, "two"),
    ]
