"""No more requests at a server than it has slots for a model: the others wait in the router, where they can be told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from ollama_router_core.testing import OllamaSimulator, SimulatedModel
from support.eventually import eventually
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

STRATEGIES = ["priority_with_memory", "least_loaded", "round_robin", "fastest"]
MODEL, SIBLING = "llama3.1:8b", "pirate:latest"
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


def simulator(**settings: Any) -> OllamaSimulator:
    """A model under two names, and one that embeds; an answer takes a fifth of a second."""
    known: dict[str, Any] = {
        "size": 1_000_000,
        "weights": "sha256:" + "a" * 64,
        "answer_tokens": 10,
        "prefill_speed": 1e5,
        "decode_speed": 50.0,
    }
    models = [SimulatedModel(name=name, capabilities=("completion", "tools"), **known) for name in (MODEL, SIBLING)]
    embedder = SimulatedModel(name="embedder:latest", size=1_000_000, capabilities=("embedding",), prefill_speed=50.0)
    return OllamaSimulator(models=[*models, embedder], load_speed=1e9, time_scale=1.0, **settings)


async def ask(client: httpx.AsyncClient, number: int) -> int:
    """One of several kinds of requests for one runner; the status."""
    path = ("/api/chat", "/v1/chat/completions")[number % 2]
    body: dict[str, Any] = {"model": (MODEL, SIBLING)[number % 3 == 0], "stream": number % 5 == 0}
    body["messages"] = [{"role": "user", "content": f"number {number}"}]
    if number % 4 == 0:
        body["tools"] = [TOOL]
    return (await client.post(path, json=body)).status_code


async def burst(client: httpx.AsyncClient, count: int) -> list[int]:
    """Requests at once; their statuses."""
    return list(await asyncio.gather(*[ask(client, number) for number in range(count)]))


async def knows(router: RunningRouter, *names: str) -> None:
    """Until the router has been told of the weights of these models."""

    def known() -> bool:
        installed = router.services.fleet.servers["one"].installed or {}
        return all(any(row.spelling == name and row.facts for row in installed.values()) for name in names)

    await eventually(known)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("slots", [1, 3])
async def test_what_was_told_bounds_what_is_sent(tmp_path: Path, strategy: str, slots: int) -> None:
    """Over two dialects, with and without tools, and under both names of the weights."""
    async with (
        simulator(num_parallel=slots) as sim,
        running_router(tmp_path, {"one": server_entry(sim, num_parallel=slots)}, routing_strategy=strategy) as router,
        router.client() as client,
    ):
        await knows(router, MODEL, SIBLING)
        await ask(client, 1)
        assert await burst(client, 12) == [200] * 12
    assert min(slots, 2) <= sim.max_in_flight <= slots


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_an_embedder_has_one_slot(tmp_path: Path, strategy: str) -> None:
    """Whatever OLLAMA_NUM_PARALLEL is."""
    async with (
        simulator(num_parallel=4) as sim,
        running_router(tmp_path, {"one": server_entry(sim, num_parallel=4)}, routing_strategy=strategy) as router,
        router.client() as client,
    ):
        await knows(router, "embedder:latest")
        bodies = [{"model": "embedder", "input": f"number {number}"} for number in range(6)]
        answers = await asyncio.gather(*[client.post("/api/embed", json=body) for body in bodies])
    assert {answer.status_code for answer in answers} == {200}
    assert sim.max_in_flight == 1


async def test_slots_are_learned_from_who_had_to_wait(tmp_path: Path) -> None:
    """Nothing was told: the first burst goes as it comes, the next ones by what it showed."""
    async with (
        simulator(num_parallel=2) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, routing_strategy="priority_with_memory") as router,
        router.client() as client,
    ):
        await knows(router, MODEL)
        for _ in range(2):
            await ask(client, 4)
        for _ in range(10):
            if router.services.fleet.snapshot.parallel == {"one": 2}:
                break
            assert await burst(client, 10) == [200] * 10
        seen, sim.max_in_flight = sim.max_in_flight, 0
        assert await burst(client, 10) == [200] * 10
    assert seen > 2
    assert sim.max_in_flight <= 2
