"""When a load is over: other models need not wait for an answer that comes in one piece."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from ollama_router_core.testing import OllamaSimulator, SimulatedModel
from support.eventually import eventually
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio


def model(name: str, tokens: int) -> SimulatedModel:
    """One that loads in a moment and writes fifty tokens a second."""
    known: dict[str, Any] = {"size": 1_000_000, "prefill_speed": 1e5, "decode_speed": 50.0}
    return SimulatedModel(name=name, answer_tokens=tokens, **known)


async def test_another_model_is_loaded_while_the_first_still_writes_its_answer(tmp_path: Path) -> None:
    """A report says that the first is in memory, long before its answer and before the next probe is due."""
    models = [model("slow:latest", 50_000), model("quick:latest", 1)]
    settings: dict[str, Any] = {"routing_strategy": "fastest", "health_check_interval": 600.0}
    async with (
        OllamaSimulator(models=models, load_speed=1e9, time_scale=1.0) as sim,
        running_router(tmp_path, {"one": server_entry(sim, max_memory_gb=8.0)}, **settings) as router,
        router.client() as client,
    ):
        body = {"messages": [{"role": "user", "content": "hello"}], "stream": False}
        slow = asyncio.create_task(client.post("/api/chat", json={"model": "slow", **body}))
        await eventually(lambda: bool(router.services.fleet.servers["one"].loading))
        quick = await client.post("/api/chat", json={"model": "quick", **body})
        assert (quick.status_code, slow.done()) == (200, False)
        slow.cancel()
