"""What users are told when servers fail names servers, never where they are."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from ollama_router_core.testing import Cut, Fault, Garbage, OllamaSimulator, Reset, Silence, model
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

CHAT = {"model": "llama3.1:8b", "messages": [{"role": "user", "content": "hi"}], "stream": False}
ROUTES = ["/api/chat", "/v1/chat/completions", "/v1/responses", "/v1/messages"]


@pytest.mark.parametrize(
    "fault", [Reset(), Silence(), Garbage(), Cut(after_chunks=0)], ids=lambda fault: type(fault).__name__
)
@pytest.mark.parametrize("path", ROUTES)
async def test_a_failure_names_the_server_alone(tmp_path: Path, fault: Fault, path: str) -> None:
    """Neither the answer nor the row has an address or a port."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(
            tmp_path, {"big": server_entry(sim)}, request_timeout=0.5, idle_timeout=0.5, routing_strategy="round_robin"
        ) as router,
        router.client() as client,
    ):
        sim.misbehave(fault, path=path)
        told = []
        with suppress(httpx.RemoteProtocolError):  # of an answer that was cut in the middle only the row tells
            answer = await client.post(path, json={**CHAT, "input": "hi", "max_tokens": 5})
            assert answer.status_code in {502, 504}
            told.append(answer.text)
        (row,) = await router.rows()
    for text in (*told, row.error or ""):
        assert "big" in text
        assert "127.0.0.1" not in text
        assert str(sim.port) not in text


@pytest.mark.parametrize("path", ROUTES)
async def test_a_place_that_cannot_be_reached_is_named(tmp_path: Path, path: str) -> None:
    """An external host as well."""
    dead = {"host": "127.0.0.1", "port": 9, "protocol": "http", "api": "openai"}
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(
            tmp_path,
            {"one": server_entry(sim)},
            external_hosts={"paid": dead},
            model_config={"explicit_assignments": {"gpt-4": "paid"}},
        ) as router,
        router.client() as client,
    ):
        answer = await client.post(path, json={**CHAT, "model": "gpt-4", "input": "hi", "max_tokens": 5})
    assert answer.status_code == 502
    assert "cannot connect to paid: Connection refused" in answer.text
    assert "127.0.0.1" not in answer.text


async def test_a_refusal_of_two_hundred_servers_is_short(tmp_path: Path) -> None:
    """How many for which reason, and five by name; an operator gets the list from `route explain`."""
    servers = {f"s{number:03}": {"host": "127.0.0.1", "port": 20_000 + number} for number in range(199)}
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(
            tmp_path, {"big": server_entry(sim, max_memory_gb=1), **servers}, health_check_interval=60
        ) as router,
        router.client() as client,
        router.client(router.admin_token) as admin,
    ):
        answer = await client.post("/api/chat", json=CHAT)
        explained = (await admin.get("/router/explain", params={"model": "llama3.1:8b"})).json()
    assert answer.status_code == 503
    text = answer.json()["error"]
    assert "of 200 servers" in text
    assert len(text) < 1000
    assert sum(f"s{number:03} " in text for number in range(199)) <= 5
    assert len(explained["candidates"]) == 200
