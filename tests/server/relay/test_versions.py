"""A fleet of several versions: each route goes where it is, and unknown ones where the operator lets them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ollama_router_core.testing import Answer, OllamaSimulator, model
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

HI = [{"role": "user", "content": "hi"}]
ALL = ("completion", "tools", "decision", "image", "speech")
MODEL = model("llama3.1:8b", capabilities=ALL)
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "/v1/messages": ("0.20.0", {"messages": HI, "max_tokens": 4}),
    "/v1/responses": ("0.20.0", {"input": "hi"}),
    "/v1/images/generations": ("0.20.0", {"prompt": "a cat"}),
    "/v1/responses/compact": ("0.40.8", {"input": "hi"}),
    "/v1/systemone": ("0.40.8", {"state": "x", "questions": {"q": {"type": "choice", "criteria": ["a", "b"]}}}),
    "/v1/audio/speech": ("0.40.8", {"input": "hello"}),
}


@pytest.mark.parametrize("path", ASKED)
async def test_a_route_goes_to_a_server_that_has_it(tmp_path: Path, path: str) -> None:
    """Whatever priorities say; a fleet without one says which version it needs, and asks no server."""
    version, body = ASKED[path]
    async with (
        OllamaSimulator(models=[MODEL], version="0.12.0") as old,
        OllamaSimulator(models=[MODEL], version=version) as new,
        running_router(
            tmp_path, {"old": server_entry(old, priority=1), "new": server_entry(new, priority=2)}
        ) as router,
        router.client() as client,
    ):
        answer = await client.post(path, json={"model": "llama3.1:8b", **body})
        assert (answer.status_code, answer.headers.get("x-router-server")) == (200, "new"), answer.text
        assert answer.headers["x-router-attempts"] == "1"
        assert old.requests_to(path) == []


async def test_a_fleet_without_a_route_says_what_it_needs(tmp_path: Path) -> None:
    """404 with the version, in the words of the filter."""
    async with (
        OllamaSimulator(models=[MODEL], version="0.33.0") as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        new = await client.post("/v1/systemone", json={"model": "llama3.1:8b", "questions": {"a": {}}})
        gone = await client.post("/v1/images/generations", json={"model": "llama3.1:8b", "prompt": "a"})
        assert not sim.requests_to("/v1/systemone")
    assert (new.status_code, gone.status_code) == (404, 404)
    assert "runs Ollama 0.33.0, /v1/systemone came with 0.35" in new.text
    assert "/v1/images/generations went with 0.33" in gone.text


async def test_a_route_that_a_server_does_not_know_is_remembered(tmp_path: Path) -> None:
    """A build of its own may leave routes out: it is asked once, and the next server answers."""
    async with (
        OllamaSimulator(models=[MODEL], version="0.40.9") as odd,
        OllamaSimulator(models=[MODEL], version="0.40.9") as usual,
        running_router(
            tmp_path, {"odd": server_entry(odd, priority=1), "usual": server_entry(usual, priority=2)}
        ) as router,
        router.client() as client,
    ):
        odd.misbehave(
            Answer(status=404, body=b"404 page not found", content_type="text/plain"), path="/v1/audio/speech"
        )
        body = {"model": "llama3.1:8b", "input": "hello"}
        answers = [await client.post("/v1/audio/speech", json=body) for _ in range(3)]
        assert len(odd.requests_to("/v1/audio/speech")) == 1
    assert [one.status_code for one in answers] == [200] * 3
    assert [one.headers["x-router-attempts"] for one in answers] == ["2", "1", "1"]


async def test_unknown_routes_pass_where_the_operator_lets_them(tmp_path: Path) -> None:
    """To the server of the model, body and query as they came; no path passes that could be read as another one."""
    async with (
        OllamaSimulator(models=["qwen3:8b"]) as other,
        OllamaSimulator(models=["llama3.1:8b"]) as sim,
        running_router(
            tmp_path,
            {"other": server_entry(other), "one": server_entry(sim, priority=2)},
            forward_unknown=["/v1/classify", "/api/x/..."],
        ) as router,
        router.client() as client,
    ):
        sim.misbehave(Answer(status=200, body=b'{"results": []}', content_type="application/json"), path="/v1/classify")
        sim.misbehave(Answer(status=200, body=b"{}", content_type="application/json"), path="/api/x/y")
        raw = b'{"model": "llama3.1:8b", "query": "q",  "documents": ["d"]}'
        rerank = await client.post("/v1/classify?a=b", content=raw)
        below = await client.post("/api/x/y", json={"model": "llama3.1:8b"})
        assert [bytes(one.body) for one in sim.requests_to("/v1/classify")] == [raw]
        assert sim.requests_to("/v1/classify")[0].target == "/v1/classify?a=b"
        refused = [
            (await client.post(path, json={"model": "llama3.1:8b"})).status_code
            for path in ("/v1/other", "/api/x", "/api/x/%2e%2e", "/api/x//y", "/api/x/a%2Fb")
        ]
        nameless = await client.post("/v1/classify", json={})
        deleting = await client.request("DELETE", "/api/x/y", json={"model": "llama3.1:8b"})
    assert (rerank.status_code, rerank.json(), below.status_code) == (200, {"results": []}, 200)
    assert rerank.headers["x-router-server"] == "one"
    assert refused == [404] * 5
    assert nameless.status_code == 400
    assert deleting.status_code == 403


@pytest.mark.parametrize(("passed_on", "status"), [("/v1/rerank", 200), ("/v1/...", 404)])
async def test_a_route_named_in_full_passes_before_what_the_router_makes_of_it(
    tmp_path: Path, passed_on: str, status: int
) -> None:
    """Reranking is no route of Ollama's: the operator may leave it to a server that has it."""
    async with (
        OllamaSimulator(models=["llama3.1:8b"]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, forward_unknown=[passed_on]) as router,
        router.client() as client,
    ):
        sim.misbehave(Answer(status=200, body=b'{"results": []}', content_type="application/json"), path="/v1/rerank")
        body = {"model": "llama3.1:8b", "query": "q", "documents": ["d"]}
        answer = await client.post("/v1/rerank", json=body)
    assert answer.status_code == status


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/api/chat", {"think": "deepest"}),
        ("/api/generate", {"think": "deepest", "prompt": "hi"}),
        ("/v1/chat/completions", {"reasoning_effort": "deepest"}),
        ("/v1/responses", {"reasoning": {"effort": "deepest"}, "input": "hi"}),
    ],
)
@pytest.mark.parametrize("ruled", [False, True])
async def test_how_much_a_model_thinks_is_said_in_its_own_words(
    tmp_path: Path, path: str, asked: dict[str, Any], ruled: bool
) -> None:
    """Models list their levels in `thinking.values`: whatever is asked goes to the server, which knows them."""
    rules = [{"pattern": "qwen3*", "num_ctx": 8192}] if ruled else []
    async with (
        OllamaSimulator(models=["qwen3:8b"], version="0.40.9") as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, model_config={"rules": rules}) as router,
        router.client() as client,
    ):
        sim.misbehave(Answer(status=200, body=b"{}", content_type="application/json"), path=path)
        body = {"model": "qwen3:8b", "messages": [{"role": "user", "content": "hi"}], "stream": False, **asked}
        await client.post(path, json=body)
        (sent,) = sim.requests_to(path)
    assert b"deepest" in bytes(sent.body)
