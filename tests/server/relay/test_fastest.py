"""The strategy `fastest` end to end: late binding does not lose anybody, and health counts there too."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from ollama_router_core.testing import OllamaSimulator, Reset, Silence, model
from support.eventually import eventually
from support.plain_http import async_client
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

MODEL = "llama3.1:8b"


async def ask(client: httpx.AsyncClient, name: str = MODEL) -> httpx.Response:
    """One short request."""
    return await client.post("/api/generate", json={"model": name, "prompt": "hi", "stream": False})


async def test_a_drained_server_and_a_suspended_one_get_nothing(tmp_path: Path) -> None:
    """Of three servers one is drained and one breaks every exchange: all others are served by the third."""
    models = [model(MODEL)]
    async with (
        OllamaSimulator(models=models) as drained,
        OllamaSimulator(models=models) as bad,
        OllamaSimulator(models=models) as good,
        running_router(
            tmp_path,
            {"drained": server_entry(drained, drain=True), "bad": server_entry(bad), "good": server_entry(good)},
            routing_strategy="fastest",
        ) as router,
        router.client() as client,
    ):
        bad.misbehave(Reset(), path="/api/generate")
        for _ in range(30):
            await ask(client)
        rest = [await ask(client) for _ in range(10)]
        assert not drained.requests_to("/api/generate")
        assert len(bad.requests_to("/api/generate")) <= 5
    assert {answer.headers.get("x-router-server") for answer in rest} == {"good"}


async def test_an_unknown_model_is_not_waited_for(tmp_path: Path) -> None:
    """404 at once, in Ollama's words."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, routing_strategy="fastest") as router,
        router.client() as client,
    ):
        answer = await ask(client, "nobody-has:1b")
    assert answer.status_code == 404


async def test_many_models_on_few_servers_are_all_answered(tmp_path: Path) -> None:
    """Four models that do not fit together on two servers, forty requests at once: nobody is lost or refused."""
    names = ["llama3.1:8b", "llama3.2:3b", "mistral:7b", "qwen2.5:7b"]
    models = [model(name) for name in names]
    async with (
        OllamaSimulator(models=models, vram=8 << 30, time_scale=0.002, answer_tokens=3) as one,
        OllamaSimulator(models=models, vram=8 << 30, time_scale=0.002, answer_tokens=3) as two,
        running_router(
            tmp_path,
            {"one": server_entry(one, max_memory_gb=8.0), "two": server_entry(two, max_memory_gb=8.0)},
            routing_strategy="fastest",
        ) as router,
        router.client(limits=httpx.Limits(max_connections=50)) as client,
    ):
        answers = await asyncio.gather(*(ask(client, names[number % 4]) for number in range(40)))
        assert router.services.admission.waiting == 0
        assert router.services.fleet.running("one") == router.services.fleet.running("two") == 0
    assert [answer.status_code for answer in answers] == [200] * 40


def turn(number: int, count: int) -> dict[str, object]:
    """A conversation's request for its turn `count`, all earlier ones included."""
    messages = [{"role": "user", "content": f"Tell me the story number {number}. {'Mind the details. ' * 200}"}]
    for done in range(1, count):
        messages += [{"role": "assistant", "content": "And then?"}, {"role": "user", "content": f"Go on, {done}."}]
    return {"model": MODEL, "messages": messages, "stream": False}


async def test_a_conversation_stays_where_its_beginning_is_held(tmp_path: Path) -> None:
    """Of two equal, idle servers the one that answered the last turn; when that is busy, the other."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as one,
        OllamaSimulator(models=[model(MODEL)]) as two,
        running_router(
            tmp_path,
            {"one": server_entry(one, num_parallel=4), "two": server_entry(two, num_parallel=4)},
            routing_strategy="fastest",
        ) as router,
        router.client() as client,
        router.client(router.admin_token) as admin,
    ):
        for server in ("one", "two"):  # warm on both, and both as quick
            await admin.post(f"/router/servers/{server}/drain")
            await ask(client)
            await admin.post(f"/router/servers/{server}/undrain")

        async def say(number: int, count: int) -> httpx.Response:
            return await client.post("/api/chat", json=turn(number, count))

        firsts = [(await say(number, 1)).headers["x-router-server"] for number in range(4)]
        seconds = [await say(number, 2) for number in range(4)]
        assert [answer.headers["x-router-server"] for answer in seconds] == firsts
        assert all("tokens of the conversation cached" in answer.headers["x-router-reason"] for answer in seconds)

        home, away = firsts[0], {"one": "two", "two": "one"}[firsts[0]]
        {"one": one, "two": two}[home].misbehave(Silence(), path="/api/chat", times=4)
        await admin.post(f"/router/servers/{away}/drain")
        held = [asyncio.create_task(say(9, 1)) for _ in range(4)]
        await eventually(lambda: router.services.fleet.running(home) == 4)
        await admin.post(f"/router/servers/{away}/undrain")
        assert (await say(0, 3)).headers["x-router-server"] == away
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)


async def test_an_unloaded_model_holds_no_conversation(tmp_path: Path) -> None:
    """Whoever unloads it: the router sees it with the next look at the server's memory."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(
            tmp_path, {"one": server_entry(sim)}, routing_strategy="fastest", health_check_interval=0.1
        ) as router,
        router.client() as client,
    ):
        prefixes = router.services.fleet.prefixes
        await client.post("/api/chat", json=turn(1, 1))
        await eventually(lambda: len(prefixes) == 1)
        async with async_client(sim.url) as direct:
            await direct.post("/api/generate", json={"model": MODEL, "keep_alive": 0})
        await eventually(lambda: len(prefixes) == 0)
