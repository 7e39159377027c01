"""Reranking reaches the hosts that have it, by any of the paths that clients know."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ollama_router_core.testing import Answer, OllamaSimulator, model
from ollama_router_server.storage.identities import UserChange
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

MODEL = "bge-reranker:v2"
RESULT = {"results": [{"index": 1, "relevance_score": 0.9}], "usage": {"total_tokens": 12}}
ASK = {"model": MODEL, "query": "what?", "documents": ["a", "b"], "top_n": 1}
PATHS = ["/v1/rerank", "/rerank", "/api/rerank"]


def answering(sim: OllamaSimulator, path: str) -> None:
    """Let the simulator have the route."""
    sim.misbehave(Answer(status=200, body=json.dumps(RESULT).encode()), path=path)


@pytest.mark.parametrize("path", PATHS)
async def test_a_host_that_has_it_is_asked(tmp_path: Path, path: str) -> None:
    """On its own path, under its own name of the model."""
    async with OllamaSimulator(models=[model(MODEL)]) as sim:
        answering(sim, "/v2/rerank")
        host = server_entry(sim, protocol="http", api="openai", rerank="/v2/rerank", models={"rank": "remote-name"})
        config = {"external_hosts": {"jina": host}, "model_config": {"explicit_assignments": {"rank": "jina"}}}
        async with running_router(tmp_path, {}, **config) as router, router.client() as client:
            answer = await client.post(path, json={**ASK, "model": "rank"})
            (row,) = await router.rows()
        (sent,) = sim.requests_to("/v2/rerank")
    assert (answer.status_code, answer.json()) == (200, RESULT)
    assert answer.headers["x-router-server"] == "jina"
    assert sent.json == {**ASK, "model": "remote-name"}
    assert (row.path, row.server, row.model_asked) == (path, "jina", "rank")


async def test_a_server_that_has_it_and_the_model_is_asked(tmp_path: Path) -> None:
    """Of several, and no other."""
    async with (
        OllamaSimulator(models=[model(MODEL)]) as plain,
        OllamaSimulator(models=[model(MODEL)]) as able,
        running_router(
            tmp_path, {"a": server_entry(plain), "b": server_entry(able, rerank="/v1/rerank", priority=9)}
        ) as router,
        router.client() as client,
    ):
        answering(able, "/v1/rerank")
        answer = await client.post("/rerank", json=ASK)
    assert answer.json() == RESULT
    assert not plain.requests_to("/v1/rerank")


@pytest.mark.parametrize("path", PATHS)
async def test_who_would_is_named(tmp_path: Path, path: str) -> None:
    """A model elsewhere, or nobody at all, is 404 with what to set."""
    async with OllamaSimulator(models=[model(MODEL)]) as sim:
        host = server_entry(sim, protocol="http", rerank="/v1/rerank")
        servers = {"one": server_entry(sim)}
        async with (
            running_router(tmp_path, servers, external_hosts={"jina": host}) as router,
            router.client() as client,
        ):
            elsewhere = await client.post(path, json=ASK)
    (tmp_path / "other").mkdir()
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path / "other", {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        nobody = await client.post(path, json=ASK)
    assert (elsewhere.status_code, nobody.status_code) == (404, 404)
    assert "one that does (explicit_assignments): jina" in elsewhere.text
    assert "set `rerank`" in nobody.text


async def test_models_and_hosts_are_granted_as_elsewhere(tmp_path: Path) -> None:
    """It costs money there."""
    async with OllamaSimulator(models=[model(MODEL)]) as sim:
        answering(sim, "/v1/rerank")
        host = server_entry(sim, protocol="http", api="openai", rerank="/v1/rerank")
        config = {"external_hosts": {"jina": host}, "model_config": {"explicit_assignments": {MODEL: "jina"}}}
        async with running_router(tmp_path, {}, external_hosts_for="granted", **config) as router:
            async with router.client() as client:
                host_refused = await client.post("/v1/rerank", json=ASK)
                await router.services.users.change("alice", UserChange(grants={"hosts": ["jina"], "models": ["x"]}))
                await router.services.authenticator.refresh()
                model_refused = await client.post("/v1/rerank", json=ASK)
            assert not sim.requests_to("/v1/rerank")
    assert (host_refused.status_code, model_refused.status_code) == (403, 403)
