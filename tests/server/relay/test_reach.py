"""What a request may ask of a provider beyond an answer of the model that was checked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ollama_router_core.testing import OllamaSimulator, model
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

INSIDE = "http://169.254.169.254/latest/meta-data"
CHAT = {"model": "gpt-4", "messages": [{"role": "user", "content": "hi"}], "stream": False, "max_tokens": 5}
IMAGE = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": INSIDE}}]}]}


@asynccontextmanager
async def paid(folder: Path, **host: Any) -> AsyncIterator[tuple[RunningRouter, OllamaSimulator]]:
    """A router with a paid host that speaks OpenAI's API, Responses included."""
    async with OllamaSimulator(models=[model("llama3.1:8b")]) as sim:
        entry = server_entry(
            sim, protocol="http", api="openai", responses=True, models={"gpt-4": "llama3.1:8b"}, **host
        )
        async with running_router(
            folder,
            {"one": server_entry(sim)},
            external_hosts={"paid": entry},
            model_config={"explicit_assignments": {"gpt-4": "paid"}},
        ) as router:
            yield router, sim


REACHING = [
    ("models", "/v1/chat/completions", {"models": ["openai/o3-pro"]}, "models"),
    ("models", "/v1/chat/completions", {"plugins": [{"id": "web"}]}, "plugins"),
    ("tools", "/v1/chat/completions", {"web_search_options": {"search_context_size": "low"}}, "web_search_options"),
    (
        "tools",
        "/v1/responses",
        {"input": "hi", "tools": [{"type": "mcp", "server_url": "https://x.example"}]},
        "tools[0]",
    ),
    ("stored", "/v1/responses", {"input": "hi", "previous_response_id": "resp_1"}, "previous_response_id"),
    ("urls", "/v1/chat/completions", IMAGE, "messages[0].content[0].image_url.url"),
]


@pytest.mark.parametrize(("kind", "path", "more", "member"), REACHING)
async def test_reaching_further_needs_a_grant(
    tmp_path: Path, kind: str, path: str, more: dict[str, Any], member: str
) -> None:
    """403 with the member's name, and nothing is sent; a grant of this kind, and of no other, lets it pass."""
    async with paid(tmp_path) as (router, sim), router.client() as client:
        body = {**CHAT, **more}
        others = [other for other in ("models", "tools", "stored", "urls") if other != kind]
        for granted in (None, others):
            await router.services.users.set_grants("alice", {"reach": granted})
            await router.services.authenticator.refresh()
            refused = await client.post(path, json=body)
            assert refused.status_code == 403
            assert member in refused.json()["error"]["message"]
        assert not sim.requests_to(path)
        await router.services.users.set_grants("alice", {"reach": [kind]})
        await router.services.authenticator.refresh()
        await client.post(path, json=body)
        assert len(sim.requests_to(path)) == 1


async def test_a_host_may_be_open_to_all_users(tmp_path: Path) -> None:
    """By its setting; admins need none."""
    async with (
        paid(tmp_path, reach=["models"]) as (router, _),
        router.client() as client,
        router.client(router.admin_token) as admin,
    ):
        chat = {**CHAT, "models": ["other"]}
        assert (await client.post("/v1/chat/completions", json=chat)).status_code == 200
        tools = {**CHAT, "web_search_options": {"search_context_size": "low"}}
        assert (await client.post("/v1/chat/completions", json=tools)).status_code == 403
        assert (await admin.post("/v1/chat/completions", json=tools)).status_code == 200


async def test_an_address_inside_is_refused_in_every_dialect(tmp_path: Path) -> None:
    """A translated request carries it as well."""
    source = {"type": "image", "source": {"type": "url", "url": INSIDE}}
    async with paid(tmp_path) as (router, sim), router.client() as client:
        body = {**CHAT, "messages": [{"role": "user", "content": [source]}]}
        refused = await client.post("/v1/messages", json=body)
        assert refused.status_code == 403
        assert "source.url" in refused.json()["error"]["message"]
        assert not sim.requests_to("/v1/chat/completions")


CODEX = [
    {"type": "function", "name": "shell", "parameters": {"type": "object", "properties": {}}},
    {"type": "web_search", "external_web_access": False},
    {"type": "image_generation"},
]


async def test_tools_that_are_only_listed_do_not_stop_a_session(tmp_path: Path) -> None:
    """A server that cannot run them, or may not for this user, gets the request without them; the answer says so."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        body = {"model": "llama3.1:8b", "input": "hi", "tools": CODEX, "stream": False}
        answer = await client.post("/v1/responses", json=body)
        assert answer.status_code == 200
        assert answer.headers["x-router-dropped"] == "tools[1].web_search, tools[2].image_generation"
        assert sim.requests_to("/v1/responses")[-1].json["tools"] == CODEX[:1]
        forced = await client.post("/v1/responses", json={**body, "tool_choice": {"type": "web_search"}})
        assert forced.status_code == 403


async def test_a_user_of_the_cloud_keeps_web_search(tmp_path: Path) -> None:
    """It runs with the account of the server's owner, who allowed it."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, cloud="all") as router,
        router.client() as client,
    ):
        body = {"model": "llama3.1:8b", "input": "hi", "tools": CODEX, "stream": False}
        answer = await client.post("/v1/responses", json=body)
        assert answer.headers["x-router-dropped"] == "tools[2].image_generation"
        assert sim.requests_to("/v1/responses")[-1].json["tools"] == CODEX[:2]
