"""What fits a server, on real ones: a model that runs there is never refused for its size."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollama_router_core.testing import OllamaSimulator
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

GIB = 1 << 30
LARGE, SMALL = "llama3.3:70b", "llama3.2:3b"
HI = [{"role": "user", "content": "hi"}]


async def test_a_large_model_is_answered_ten_times(tmp_path: Path) -> None:
    """Ollama gave it a context that fills the server; that it is more than was foretold is no reason against it."""
    async with (
        OllamaSimulator(models=[LARGE, SMALL], vram=48 * GIB) as big,
        OllamaSimulator(models=[LARGE, SMALL], vram=8 * GIB) as small,
        running_router(
            tmp_path,
            {
                "big": server_entry(big, max_memory_gb=48.0, priority=2),
                "small": server_entry(small, max_memory_gb=8.0, priority=1),
            },
        ) as router,
        router.client() as client,
    ):
        answers = []
        for _ in range(10):
            answers.append(await client.post("/api/chat", json={"model": LARGE, "messages": HI, "stream": False}))
            router.services.fleet.measure_soon("big")
        async with router.client(router.admin_token) as admin:
            await admin.post("/api/generate", json={"model": LARGE, "keep_alive": 0})
        again = await client.post("/api/chat", json={"model": LARGE, "messages": HI, "stream": False})
        assert big.loads == 2
    assert [one.status_code for one in (*answers, again)] == [200] * 11
    assert {one.headers["x-router-server"] for one in answers} == {"big"}


async def test_the_gpus_of_a_server_are_its_limit(tmp_path: Path) -> None:
    """Two of 24 GiB hold what one would not; the memory of one server alone is no limit for another."""
    async with (
        OllamaSimulator(models=[LARGE], vram=24 * GIB) as one,
        OllamaSimulator(models=[LARGE], vram=48 * GIB) as two,
        running_router(
            tmp_path, {"one": server_entry(one, gpus=[24.0]), "two": server_entry(two, gpus=[24.0, 24.0], priority=2)}
        ) as router,
        router.client() as client,
    ):
        answer = await client.post("/api/chat", json={"model": LARGE, "messages": HI, "stream": False})
    assert answer.headers["x-router-server"] == "two"
