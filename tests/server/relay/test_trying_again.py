"""Clients are told whether, and when, another try can succeed; official clients act on it."""

from __future__ import annotations

from pathlib import Path

import openai
import pytest

from ollama_router_core.testing import OllamaSimulator, model
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

CHAT = {"model": "llama3.1:8b", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3, "stream": False}
PATHS = ["/api/chat", "/v1/chat/completions", "/v1/messages"]


@pytest.mark.parametrize("path", PATHS)
async def test_no_client_error_invites_another_try(tmp_path: Path, path: str) -> None:
    """A mistyped token, an unknown model, a broken body, an unknown route: once is enough."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
        router.client("no-such-token") as stranger,
    ):
        answers = [
            await stranger.post(path, json=CHAT),
            await client.post(path, json={**CHAT, "model": "nobody:1b"}),
            await client.post(path, content=b"{"),
            await client.post(path + "/unknown", json=CHAT),
            await client.put(path, json=CHAT),
            await client.get("/router/status"),
        ]
    assert [answer.status_code for answer in answers] == [401, 404, 400, 404, 405, 403]
    assert {answer.headers.get("x-should-retry") for answer in answers} == {"false"}
    assert not any("retry-after" in answer.headers for answer in answers)


@pytest.mark.parametrize("path", PATHS)
async def test_a_model_too_large_for_every_server_is_no_passing_trouble(tmp_path: Path, path: str) -> None:
    """400 that says how large it is, and no invitation to come back."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": {**server_entry(sim), "max_memory_gb": 1}}) as router,
        router.client() as client,
    ):
        answer = await client.post(path, json=CHAT)
    assert (answer.status_code, answer.headers["x-router-error"]) == (400, "model_too_large")
    assert "limit 1.0 GiB" in answer.text
    assert answer.headers["x-should-retry"] == "false"
    assert "retry-after" not in answer.headers


async def test_an_official_client_tries_a_mistyped_token_once(tmp_path: Path) -> None:
    """Though it is told to try five times."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        openai.AsyncOpenAI(base_url=f"{router.url}/v1", api_key="mistyped", max_retries=5) as sdk,
        router.client(router.admin_token) as admin,
    ):
        with pytest.raises(openai.AuthenticationError):
            await sdk.chat.completions.create(model="llama3.1:8b", messages=[{"role": "user", "content": "hi"}])
        metrics = (await admin.get("/metrics")).text
    assert 'orouter_refused_total{code="invalid_credential"} 1.0' in metrics
