"""Who waits, who goes next and who is turned away, over real sockets with simulated servers."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from ollama_router_core.testing import OllamaSimulator, Silence, model
from support.eventually import eventually
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

MODEL = "llama3.1:8b"


def slow_model(name: str = MODEL, tokens_a_second: float = 40.0) -> Any:
    """A model whose answers take a while."""
    return model(name, decode_speed=tokens_a_second)


async def ask(client: httpx.AsyncClient, name: str = MODEL, **more: Any) -> httpx.Response:
    """One short request."""
    return await client.post("/api/generate", json={"model": name, "prompt": "hi", "stream": False, **more})


def waiting(router: RunningRouter) -> int:
    """Requests in the line."""
    return router.services.admission.waiting


async def test_at_most_max_concurrent_requests_are_on_a_server(tmp_path: Path) -> None:
    """Twelve at once on a server that takes two: never more than two there, all are answered, some have waited."""
    most = 0
    async with (
        OllamaSimulator(models=[slow_model()], time_scale=1.0, answer_tokens=3) as sim,
        running_router(tmp_path, {"one": server_entry(sim, max_concurrent=2)}) as router,
        router.client() as client,
    ):
        asked = [asyncio.create_task(ask(client)) for _ in range(12)]
        while not all(task.done() for task in asked):
            most = max(most, router.services.fleet.running("one"))
            await asyncio.wait(asked, timeout=0.005)
        rows = await router.rows(12)
    assert [task.result().status_code for task in asked] == [200] * 12
    assert most == 2
    waited = [row for row in rows if row.queue_position is not None]
    assert len(waited) == 10
    assert sorted(row.queue_position or 0 for row in waited) == list(range(1, 11))
    assert all((row.expected_wait_ms or 0) >= 0 and (row.queue_ms or 0) > 0 for row in waited)


async def test_a_full_line_is_answered_at_once_with_503_and_retry_after(tmp_path: Path) -> None:
    """Ten times more than the line holds: those beyond it are refused at once, and are told when to come back."""
    async with (
        OllamaSimulator(models=[slow_model()], time_scale=1.0) as sim,
        running_router(
            tmp_path, {"one": server_entry(sim, max_concurrent=1)}, queue={"max_waiting": 4, "max_wait": 20.0}
        ) as router,
        router.client() as client,
    ):
        sim.misbehave(Silence(), path="/api/generate", times=5)
        held = [asyncio.create_task(ask(client)) for _ in range(5)]
        await eventually(lambda: waiting(router) == 4)
        started = time.monotonic()
        refused = [await ask(client) for _ in range(45)]
        seconds = time.monotonic() - started
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
    assert {answer.status_code for answer in refused} == {503}
    assert {answer.headers["x-router-error"] for answer in refused} == {"overloaded"}
    assert all(1 <= int(answer.headers["retry-after"]) <= 30 for answer in refused)
    assert seconds / 45 < 1.0


async def test_waiting_ends_after_max_wait(tmp_path: Path) -> None:
    """Whoever waits longer than `max_wait` gets 503 with Retry-After, not silence."""
    async with (
        OllamaSimulator(models=[slow_model()]) as sim,
        running_router(tmp_path, {"one": server_entry(sim, max_concurrent=1)}, queue={"max_wait": 0.3}) as router,
        router.client() as client,
    ):
        sim.misbehave(Silence(), path="/api/generate")
        first = asyncio.create_task(ask(client))
        await eventually(lambda: router.services.fleet.running("one") == 1)
        answer = await ask(client)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
    assert answer.status_code == 503
    assert answer.headers["x-router-error"] == "overloaded"
    assert int(answer.headers["retry-after"]) >= 1


async def test_a_client_that_leaves_leaves_the_line(tmp_path: Path) -> None:
    """Its place is free at once, no server sees its request, and its row says 499."""
    async with (
        OllamaSimulator(models=[slow_model()]) as sim,
        running_router(tmp_path, {"one": server_entry(sim, max_concurrent=1)}) as router,
        router.client() as client,
    ):
        sim.misbehave(Silence(), path="/api/generate", times=1)
        first = asyncio.create_task(ask(client))
        await eventually(lambda: len(sim.requests_to("/api/generate")) == 1)
        second = asyncio.create_task(ask(client))
        await eventually(lambda: waiting(router) == 1)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        await eventually(lambda: waiting(router) == 0)
        seen = len(sim.requests_to("/api/generate"))
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await eventually(lambda: router.services.fleet.running("one") == 0)
        assert (await ask(client)).status_code == 200
        rows = await router.rows(3)
    assert seen <= 1
    assert Counter(row.status for row in rows) == {499: 2, 200: 1}


@pytest.mark.parametrize("strategy", ["priority_with_memory", "fastest"])
async def test_a_hog_does_not_starve_a_victim(tmp_path: Path, strategy: str) -> None:
    """Twenty requests of one user wait; another user's single one is served among the first, not the last."""
    order: list[str] = []

    async def one(client: httpx.AsyncClient, who: str) -> None:
        await ask(client)
        order.append(who)

    async with (
        OllamaSimulator(models=[slow_model()], time_scale=1.0, answer_tokens=2) as sim,
        running_router(tmp_path, {"one": server_entry(sim, max_concurrent=1)}, routing_strategy=strategy) as router,
        router.client() as hog,
        router.client(router.admin_token) as victim,
    ):
        hogging = [asyncio.create_task(one(hog, "hog")) for _ in range(20)]
        await eventually(lambda: waiting(router) >= 17)
        await one(victim, "victim")
        await asyncio.gather(*hogging)
    assert order.index("victim") <= 8


@pytest.mark.parametrize("strategy", ["priority_with_memory", "fastest"])
async def test_a_burst_for_a_cold_model_loads_it_on_one_server_only(tmp_path: Path, strategy: str) -> None:
    """Eight at once for a model that is nowhere in memory: one load in the whole fleet."""
    models = [model(MODEL)]
    async with (
        OllamaSimulator(models=models, time_scale=0.05) as one,
        OllamaSimulator(models=models, time_scale=0.05) as two,
        running_router(
            tmp_path,
            {"one": server_entry(one, num_parallel=8), "two": server_entry(two, num_parallel=8)},
            routing_strategy=strategy,
        ) as router,
        router.client() as client,
    ):
        answers = await asyncio.gather(*(ask(client) for _ in range(8)))
    assert [answer.status_code for answer in answers] == [200] * 8
    assert one.loads + two.loads == 1


async def test_speeds_are_learned_from_finished_requests(tmp_path: Path) -> None:
    """After a request, the explanation of the next one rests on what it showed."""
    async with (
        OllamaSimulator(models=[model(MODEL)], answer_tokens=8) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, routing_strategy="fastest") as router,
        router.client() as client,
        router.client(router.admin_token) as admin,
    ):
        await ask(client, prompt="word " * 200)
        explained = (await admin.get("/router/explain", params={"model": MODEL})).json()
    texts = [reason["text"] for reason in explained["candidates"][0]["reasons"]]
    assert any("(1 request)" in text for text in texts), texts


async def test_without_waiting_there_is_no_task_and_no_future(tmp_path: Path) -> None:
    """A free slot and nobody before means no place in the line and no row that says so."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim, max_concurrent=4)}) as router,
        router.client() as client,
    ):
        for _ in range(3):
            assert (await ask(client)).status_code == 200
        rows = await router.rows(3)
    assert {row.queue_position for row in rows} == {None}
    assert {row.expected_wait_ms for row in rows} == {None}
