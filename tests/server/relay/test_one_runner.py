"""One runner for one file of weights: which requests load it anew, and how a rule keeps them from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ollama_router_core.testing import OllamaSimulator, model
from support.eventually import eventually
from support.plain_http import async_client
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

MODEL = "llama3.1:8b"
HI = [{"role": "user", "content": "hi"}]
ROUTES: dict[str, dict[str, Any]] = {
    "/api/chat": {"model": MODEL, "messages": HI, "stream": False, "options": {"num_ctx": 2048}},
    "/v1/chat/completions": {"model": MODEL, "messages": HI},
    "/v1/messages": {"model": MODEL, "messages": HI, "max_tokens": 8},
    "/v1/responses": {"model": MODEL, "input": "hi"},
    "/v1/completions": {"model": MODEL, "prompt": "hi"},
    "/api/generate": {"model": MODEL, "prompt": "hi", "stream": False},
}
RULE = {"model_config": {"rules": [{"pattern": "llama3.1*", "num_ctx": 8192}]}}


async def knows_architectures(router: RunningRouter, *servers: str) -> None:
    """Wait until each model of these servers was asked about."""

    def known() -> bool:
        facts = (router.services.fleet.snapshot.servers[name] for name in servers)
        return all(one.installed and all(row.facts for row in one.installed.values()) for one in facts)

    await eventually(known)


@pytest.mark.parametrize("paths", [list(ROUTES)[:3], list(ROUTES)[3:]])
async def test_a_rule_s_context_holds_on_every_route(tmp_path: Path, paths: list[str]) -> None:
    """18 requests in turn over three routes: one load, at the context of the rule."""
    async with (
        OllamaSimulator(models=[MODEL], answer_tokens=4) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, **RULE) as router,
        router.client() as client,
    ):
        for path in paths * 6:
            answer = await client.post(path, json=ROUTES[path])
            assert answer.status_code == 200, answer.text
        assert sim.loads == 1
        assert [one.num_ctx for one in sim.scheduler.running()] == [8192]


async def test_without_a_rule_each_change_of_route_loads_anew(tmp_path: Path) -> None:
    """What the rule saves: 12 of 18 requests wait for a load, and the reason says so before."""
    async with (
        OllamaSimulator(models=[MODEL], answer_tokens=4) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        reasons = []
        for path in list(ROUTES)[:3] * 6:
            answer = await client.post(path, json=ROUTES[path])
            reasons.append(answer.headers["x-router-reason"])
        assert sim.loads == 12
    assert "must reload for the server's own context" in reasons[1]
    assert "must reload for 2048" in reasons[3]
    assert "loaded" in reasons[5]
    assert "reload" not in reasons[5]


async def test_a_sibling_is_warm(tmp_path: Path) -> None:
    """A name built on loaded weights goes to the server that holds them, unless its context differs."""
    base = model(MODEL)
    names = [
        base,
        base.variant("brief:latest", system="Be brief."),
        base.variant("short:latest", parameters={"num_ctx": 2048}),
    ]
    async with (
        OllamaSimulator(models=names) as cold,
        OllamaSimulator(models=names) as warm,
        running_router(
            tmp_path, {"cold": server_entry(cold, priority=2), "warm": server_entry(warm, priority=1)}
        ) as router,
        router.client() as client,
    ):
        await knows_architectures(router, "cold", "warm")
        chat = {"messages": HI, "stream": False}
        first = await client.post("/api/chat", json={"model": MODEL, **chat})
        again = await client.post("/api/chat", json={"model": "brief", **chat})
        other = await client.post("/api/chat", json={"model": "short", **chat})
        assert (cold.loads, warm.loads) == (0, 2)
    assert [one.headers["x-router-server"] for one in (first, again, other)] == ["warm"] * 3
    assert f"loaded as {MODEL}" in again.headers["x-router-reason"]
    assert "must reload for 2048" in other.headers["x-router-reason"]


async def test_the_answer_in_another_dialect_is_the_same(tmp_path: Path) -> None:
    """A server that is asked in its own dialect says what it says in theirs: text, finish, counts, errors."""
    async with (
        OllamaSimulator(models=[MODEL], answer_tokens=4) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, **RULE) as router,
        router.client() as through,
        async_client(sim.url) as direct,
    ):
        for path, body in list(ROUTES.items())[1:5]:
            for asked in (body, {**body, "stream": True}):
                texts = [_text_of(path, (await client.post(path, json=asked)).text) for client in (direct, through)]
                assert texts[0] == texts[1], path
            assert sim.requests_to(path)[-1].connection is not None
        assert {one.path for one in sim.requests if one.method == "POST"} >= {"/api/chat", "/api/generate"}
        thinking = {**ROUTES["/v1/messages"], "thinking": {"type": "enabled", "budget_tokens": 1024}}
        assert (await through.post("/v1/messages", json=thinking)).status_code == 200
        for client in (direct, through):
            refused = await client.post("/v1/chat/completions", json={**ROUTES["/v1/chat/completions"], "messages": []})
            assert (refused.status_code, refused.json()["error"]["message"]) == (400, "[] is too short - 'messages'")


_SAID = ("content", "text", "finish_reason", "stop_reason", "completion_tokens", "output_tokens")


def _text_of(path: str, answer: str) -> list[object]:
    """What an answer of a route says, streamed or whole: its words and its counts."""
    events = [line.removeprefix("data: ") for line in answer.splitlines() if line.startswith("data: {")]
    found: list[object] = []
    for event in events or [answer]:
        _collect(json.loads(event), found)
    return ["".join(str(one) for one in found)] if events else found


def _collect(value: object, found: list[object]) -> None:
    match value:
        case dict():
            found.extend((key, value[key]) for key in _SAID if value.get(key) and isinstance(value[key], str | int))
            for one in value.values():
                _collect(one, found)
        case list():
            for one in value:
                _collect(one, found)
