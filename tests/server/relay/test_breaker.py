"""Servers that fail are left alone, tried by one request, and come back slowly; over real sockets."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from ollama_router_core.fleet.breaker import FAILURES, FIRST, LONGEST, SLOW_START
from ollama_router_core.fleet.health import Health
from ollama_router_core.testing import Answer, OllamaSimulator, Reset, Silence, model
from support.eventually import eventually
from support.router import RunningRouter, running_router, server_entry
from support.tasks import tasks_for_requests

pytestmark = pytest.mark.anyio

MODEL = "llama3.1:8b"


async def ask(client: httpx.AsyncClient) -> httpx.Response:
    """One short request."""
    return await client.post("/api/generate", json={"model": MODEL, "prompt": "hi", "stream": False})


def health(router: RunningRouter) -> Health:
    """The router's breakers."""
    return router.services.fleet.health


def expire(router: RunningRouter, server: str) -> None:
    """Let a server's time out be over."""
    breaker = health(router)._breaker
    breaker._states[server] = breaker._states[server].__class__(ejections=1, until=0.0)


async def _suspend(server: OllamaSimulator, client: httpx.AsyncClient) -> None:
    """Five broken exchanges."""
    server.misbehave(Reset(), path="/api/generate")
    for _ in range(5):
        await ask(client)


async def test_five_broken_exchanges_suspend_a_server(tmp_path: Path) -> None:
    """The first server by priority breaks every exchange: five requests find out, and the other answers all."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as bad,
        OllamaSimulator(models=[model(MODEL)]) as good,
        running_router(tmp_path, {"bad": server_entry(bad), "good": server_entry(good, priority=2)}) as router,
        router.client() as client,
        router.client(router.admin_token) as admin,
    ):
        bad.misbehave(Reset(), path="/api/generate")
        answers = [await ask(client) for _ in range(8)]
        status = (await admin.get("/router/status")).json()["servers"]
        explained = (await admin.get("/router/explain", params={"model": MODEL})).json()
    assert [answer.status_code for answer in answers] == [200] * 8
    assert [answer.headers["x-router-attempts"] for answer in answers] == ["2"] * 5 + ["1"] * 3
    assert status["bad"]["breaker"] == "open"
    assert status["bad"]["up"] is True
    assert status["good"]["breaker"] == "closed"
    (refused,) = [row for row in explained["candidates"] if row["server"] == "bad"]
    assert refused["reasons"][0]["code"] == "suspended"


@pytest.mark.warm_only
@pytest.mark.front_only
async def test_a_suspended_server_costs_the_others_nothing(tmp_path: Path) -> None:
    """Somebody's laptop sleeps for days: requests to the other servers still need no task of their own."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as bad,
        OllamaSimulator(models=[model(MODEL)]) as good,
        running_router(tmp_path, {"bad": server_entry(bad), "good": server_entry(good, priority=2)}) as router,
        router.client() as client,
    ):
        bad.misbehave(Reset(), path="/api/generate")
        while not router.services.fleet.snapshot.suspended:
            assert (await ask(client)).status_code == 200
        for _ in range(3):  # which connect, each perhaps before the last connection is free again
            assert (await ask(client)).status_code == 200
        with tasks_for_requests() as tasks:
            assert [(await ask(client)).status_code for _ in range(3)] == [200] * 3
    assert tasks == []


async def test_clients_that_leave_and_their_own_errors_suspend_nobody(tmp_path: Path) -> None:
    """Twelve aborts, twelve 400 and twelve 429 in a row: the server stays."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        sim.misbehave(Silence(), path="/api/generate", times=12)
        left = [asyncio.create_task(ask(client)) for _ in range(12)]
        await eventually(lambda: router.services.fleet.running("one") == 12)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await eventually(lambda: router.services.fleet.running("one") == 0)
        for status in (400, 429):
            sim.misbehave(Answer(status=status, body=b'{"error":"no"}'), path="/api/generate", times=12)
            assert {(await ask(client)).status_code for _ in range(12)} == {status}
        sim.behave()
        assert (await ask(client)).status_code == 200
        assert not router.services.fleet.snapshot.suspended


async def test_a_hundred_at_the_end_of_the_time_out_send_one_probe(tmp_path: Path) -> None:
    """The suspect gets one request at most; all others are served elsewhere, and so is that one if it is given up."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as bad,
        OllamaSimulator(models=[model(MODEL)]) as good,
        running_router(
            tmp_path, {"bad": server_entry(bad), "good": server_entry(good, priority=2)}, probe_timeout=20
        ) as router,  # health checks that a busy machine delays must not call it down: then nobody would try it
        router.client(limits=httpx.Limits(max_connections=120)) as client,
    ):
        await _suspend(bad, client)
        bad.misbehave(Silence(), path="/api/generate")
        before = len(bad.requests_to("/api/generate"))
        expire(router, "bad")
        asked = [asyncio.create_task(ask(client)) for _ in range(100)]
        await eventually(lambda: sum(task.done() for task in asked) >= 99)
        probes = len(bad.requests_to("/api/generate")) - before
        for task in asked:
            task.cancel()
        done = await asyncio.gather(*asked, return_exceptions=True)
    assert probes <= 1
    answers = [one for one in done if isinstance(one, httpx.Response)]
    assert {one.headers["x-router-server"] for one in answers} == {"good"}


async def test_a_probe_that_succeeds_brings_a_server_back_slowly(tmp_path: Path) -> None:
    """After the one probe the server is in again, with few requests at once at first; a health check alone does not."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as one,
        OllamaSimulator(models=[model(MODEL)]) as two,
        running_router(tmp_path, {"one": server_entry(one), "two": server_entry(two, priority=2)}) as router,
        router.client() as client,
    ):
        await _suspend(one, client)
        one.behave()
        router.services.fleet.refresh_soon("one")
        await eventually(lambda: router.services.fleet.snapshot.servers["one"].up is True)
        assert "one" in router.services.fleet.snapshot.suspended
        expire(router, "one")
        assert (await ask(client)).headers["x-router-server"] == "one"
        snapshot = router.services.fleet.snapshot
        assert "one" not in snapshot.suspended
        assert snapshot.slots["one"] == 1


async def test_all_down_is_told_at_once(tmp_path: Path) -> None:
    """With every server refusing connections: 502 while it is found out, then 503 with Retry-After, no hangs."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        sim.pause()
        sim.drop_connections()
        answers = [await ask(client) for _ in range(12)]
    assert {answer.status_code for answer in answers} <= {502, 503}
    assert answers[-1].status_code == 503
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 30


async def test_the_last_server_is_kept_when_it_takes_connections(tmp_path: Path) -> None:
    """Panic: a server that fails is better than none."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        sim.misbehave(Answer(status=502, body=b"{}"), path="/api/generate", times=6)
        answers = [(await ask(client)).status_code for _ in range(8)]
    assert answers == [502] * 6 + [200] * 2


async def test_retries_stay_within_their_budget(tmp_path: Path) -> None:
    """Forty at once, the first server refuses all, the second is full: second tries are at most the budget allows."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as busy,
        OllamaSimulator(models=[model(MODEL)]) as good,
        running_router(
            tmp_path,
            {
                "busy": server_entry(busy, num_parallel=64),  # nobody expects to wait there
                "good": server_entry(good, priority=2, max_concurrent=1),
            },
        ) as router,
        router.client(limits=httpx.Limits(max_connections=60)) as client,
    ):
        busy.misbehave(Answer(status=429, body=b'{"error":"busy"}'), path="/api/generate")
        good.misbehave(Silence(), path="/api/generate")
        asked = [asyncio.create_task(ask(client)) for _ in range(40)]
        await eventually(lambda: len(busy.requests_to("/api/generate")) == 40)
        await eventually(lambda: sum(task.done() for task in asked) + router.services.fleet.running("good") == 40)
        retried = router.services.fleet.running("good")
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        await eventually(lambda: health(router).retries._retrying == 0)
    assert 1 <= retried <= 1 + 8


def test_limits_are_the_promised_ones() -> None:
    """Five in a row, ten seconds, at most five minutes, thirty seconds of slow start."""
    assert (FAILURES, FIRST, LONGEST, SLOW_START) == (5, 10.0, 300.0, 30.0)
