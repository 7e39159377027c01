"""How fast a server loads is learned from loads, and not from waiting for those of others."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.fleet.speeds import model_weight
from ollama_router_core.testing import OllamaSimulator, SimulatedModel
from support.eventually import eventually
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

BIG, SMALL = "big:70b", "small:1b"


async def test_a_load_that_queued_behind_another_says_nothing(tmp_path: Path) -> None:
    """Ollama's `load_duration` includes the wait: 20 s of a small model's 21 are the big one's."""
    models = [SimulatedModel(name=BIG, size=20 * 10**9), SimulatedModel(name=SMALL, size=10**9)]
    async with (
        OllamaSimulator(models=models, load_speed=1e9, time_scale=0.01) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, routing_strategy="priority_with_memory") as router,
        router.client() as client,
    ):
        bodies = [{"model": name, "prompt": "hi", "stream": False} for name in (BIG, SMALL)]
        first = asyncio.create_task(client.post("/api/generate", json=bodies[0]))
        await eventually(lambda: len(sim.requests_to("/api/generate")) == 1)
        second = await client.post("/api/generate", json=bodies[1])
        assert (await first).json()["load_duration"] == pytest.approx(20e9, rel=0.01)
        speeds = router.services.fleet.snapshot.speeds
        installed = router.services.fleet.servers["one"].installed
        assert speeds is not None
        assert installed is not None
        name = canonical_name(SMALL)
        learned = speeds.expect("one", name, model_weight(name, installed[name]))
    assert second.json()["load_duration"] == pytest.approx(21e9, rel=0.01)
    assert learned.load_seconds < 3.0
