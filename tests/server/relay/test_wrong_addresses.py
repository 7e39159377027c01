"""A client with a wrong base URL is told the right one, or sent there."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollama_router_core.testing import OllamaSimulator, model
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

MODEL = "llama3.1:8b"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": False}


@pytest.mark.parametrize(
    ("path", "base"),
    [
        ("/v1/v1/chat/completions", "/v1"),
        ("/api/v1/chat/completions", "/v1"),
        ("/v1/v1/messages", ""),
        ("/v1/api/chat", ""),
    ],
)
async def test_the_right_base_url_is_told(tmp_path: Path, path: str, base: str) -> None:
    """In the text of the error, which every client shows."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        answer = await client.post(path, json=CHAT)
        assert answer.status_code == 404
        assert f"base URL to {router.url}{base}" in answer.text
        assert answer.headers["x-router-error"] == "unknown_route"
        (row,) = await router.rows(0) or (None,)
    assert row is None


@pytest.mark.parametrize("path", ["/api/chat/", "//api/chat", "/api//chat"])
async def test_slashes_too_many_are_redirected(tmp_path: Path, path: str) -> None:
    """As Ollama does; a client that follows gets its answer, one that does not sees where to."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        there = f"{router.url}{path}?a=b"
        seen = await client.post(there, json=CHAT)
        followed = await client.post(there, json=CHAT, follow_redirects=True)
        got = await client.get(f"{router.url}/api/tags/")
    assert seen.status_code == 307
    assert str(seen.next_request.url) == f"{router.url}/api/chat?a=b"
    assert (followed.status_code, got.status_code) == (200, 301)


async def test_a_token_in_the_path_stays_in_it(tmp_path: Path) -> None:
    """The address of a redirect is relative: what is before the path is the client's."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, token_in_path=True) as router,
        router.client("") as client,
    ):
        answer = await client.post(f"/t/{router.token}/api/chat/", json=CHAT, follow_redirects=True)
        told = await client.post(f"/t/{router.token}/v1/v1/responses", json=CHAT)
    assert answer.status_code == 200
    assert told.status_code == 404
    assert router.token not in told.text
    assert f"{router.url}/v1" in told.text


async def test_a_public_address_is_told(tmp_path: Path) -> None:
    """Behind a proxy only the operator knows it."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(
            tmp_path, {"one": server_entry(sim)}, console={"public_url": "https://llm.example/router/"}
        ) as router,
        router.client() as client,
    ):
        answer = await client.get("/models")
    assert answer.text.endswith("https://llm.example/router/v1")
