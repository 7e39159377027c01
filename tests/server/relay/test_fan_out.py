"""Routes that every server answers together."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import unquote

import anyio
import pytest
from structlog.testing import capture_logs

from ollama_router_core.testing import Answer, OllamaSimulator, Silence, model
from support.eventually import eventually
from support.plain_http import async_client
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio


async def test_lists_are_the_union_of_all_servers(tmp_path: Path) -> None:
    """A model on two servers stands once; every field is as its server sent it; assigned ids are listed too."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b"), model("llama3.2:3b")], version="0.32.15") as one,
        OllamaSimulator(models=[model("llama3.2:3b")], version="0.9.7") as two,
        running_router(
            tmp_path,
            {"one": server_entry(one), "two": server_entry(two)},
            external_hosts={"openai": {"host": "api.openai.com"}},
            model_config={"explicit_assignments": {"gpt-4o": "openai"}},
        ) as router,
        router.client() as client,
    ):
        tags = (await client.get("/api/tags")).json()["models"]
        version = (await client.get("/api/version")).json()
        models = (await client.get("/v1/models")).json()["data"]
        await client.post("/api/generate", json={"model": "llama3.1:8b", "stream": False})
        loaded = (await client.get("/api/ps")).json()["models"]
    assert sorted(row["name"] for row in tags) == ["gpt-4o", "llama3.1:8b", "llama3.2:3b"]
    assert all({"size", "digest", "details", "modified_at"} <= row.keys() for row in tags)
    assert all(len(row["digest"]) == 64 for row in tags)
    assert version == {"version": "0.9.7"}
    assert sorted(row["id"] for row in models) == ["gpt-4o", "llama3.1:8b", "llama3.2:3b"]
    assert [row["name"] for row in loaded] == ["llama3.1:8b"]
    assert {"size_vram", "expires_at", "context_length"} <= loaded[0].keys()


async def test_a_hanging_server_is_listed_from_memory(tmp_path: Path) -> None:
    """The answer comes within the deadline, with what the hanging server said last."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as one,
        OllamaSimulator(models=[model("llama3.2:3b")]) as two,
        running_router(tmp_path, {"one": server_entry(one), "two": server_entry(two)}) as router,
        router.client() as client,
    ):
        two.misbehave(Silence())
        before = anyio.current_time()
        tags = (await client.get("/api/tags")).json()["models"]
        listed = (await client.get("/v1/models")).json()["data"]
        one_model = (await client.get("/v1/models/llama3.2:3b")).json()
    assert sorted(row["name"] for row in tags) == ["llama3.1:8b", "llama3.2:3b"]
    assert sorted(row["id"] for row in listed) == ["llama3.1:8b", "llama3.2:3b"]
    assert one_model["owned_by"] == "library"
    assert anyio.current_time() - before < 10


async def test_twenty_servers_of_which_three_hang(tmp_path: Path) -> None:
    """Complete for those that answer, within the deadline whatever the others do; a dead one costs nothing."""
    async with AsyncExitStack() as stack:
        sims = [
            await stack.enter_async_context(OllamaSimulator(models=[model(f"model{number}:7b")]))
            for number in range(20)
        ]
        for sim in sims[:3]:
            sim.misbehave(Silence())
        servers = {f"s{number}": server_entry(sim) for number, sim in enumerate(sims)}
        router = await stack.enter_async_context(running_router(tmp_path, servers, model_info_timeout=0.5))
        client = await stack.enter_async_context(router.client())
        before = anyio.current_time()
        tags = (await client.get("/api/tags")).json()["models"]
        seconds = anyio.current_time() - before
    assert {row["name"] for row in tags} == {f"model{number}:7b" for number in range(3, 20)}
    assert seconds < 5


async def test_one_name_with_different_digests_is_kept_apart_and_reported(tmp_path: Path) -> None:
    """Both stand in the list; the operator sees who holds which."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b", digest="a" * 64)]) as one,
        OllamaSimulator(models=[model("llama3.1:8b", digest="b" * 64)]) as two,
        running_router(tmp_path, {"one": server_entry(one), "two": server_entry(two)}) as router,
        router.client() as client,
        router.client(router.admin_token) as admin,
    ):
        tags = (await client.get("/api/tags")).json()["models"]
        status = (await admin.get("/router/status")).json()
    assert [(row["name"], row["digest"][:1]) for row in tags] == [("llama3.1:8b", "a"), ("llama3.1:8b", "b")]
    assert status["differing_models"] == {"llama3.1:8b": {"a" * 64: ["one"], "b" * 64: ["two"]}}


GATHERED = ["/api/tags", "/api/ps", "/api/version", "/api/status", "/v1/models", "/v1/models/llama3.1:8b"]


@pytest.mark.parametrize("path", GATHERED)
async def test_one_server_s_answer_passes_unchanged(tmp_path: Path, path: str) -> None:
    """Nothing to merge: the same bytes and type as from the server itself."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b"), model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, cloud="all") as router,
        router.client() as client,
        async_client(sim.url) as direct,
    ):
        await client.post("/api/generate", json={"model": "llama3.1:8b", "stream": False})
        ours, theirs = await client.get(path), await direct.get(path)
    assert (ours.status_code, ours.content) == (theirs.status_code, theirs.content)
    assert ours.headers["content-type"] == theirs.headers["content-type"]


async def test_an_empty_fleet_lists_as_an_empty_server_does(tmp_path: Path) -> None:
    """`data` is null there, and clients know it."""
    async with (
        OllamaSimulator(models=[]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        assert (await client.get("/v1/models")).json() == {"object": "list", "data": None}
        assert (await client.get("/api/tags")).json() == {"models": []}


@pytest.mark.parametrize(
    ("name", "status", "text"),
    [
        ("nobody", 404, "model 'nobody:latest' not found"),
        ("llama3.1%3A8b", 200, ""),
        ("LLAMA3.1:8B", 200, ""),
        ("a%2Fb", 404, "404 page not found"),
        ("", 301, ""),
    ],
)
async def test_one_model_is_asked_for_in_the_path(tmp_path: Path, name: str, status: int, text: str) -> None:
    """Encoded or not; a slash makes it another path, as in Ollama; the answer has the id that was asked for."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        response = await client.get(f"/v1/models/{name}")
    assert response.status_code == status
    if status == 200:
        assert response.json()["id"] == unquote(name)
    elif "page" in text or not text:
        assert response.text == text
    else:
        error = {"message": text, "type": "not_found_error", "param": None, "code": None}
        assert response.json() == {"error": error}


async def test_models_that_a_user_may_not_use_are_not_listed(tmp_path: Path) -> None:
    """Neither by grants, nor what runs at ollama.com, in any list."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b"), model("qwen3:8b"), model("gpt-oss:20b-cloud")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
        router.client(router.admin_token) as admin,
    ):
        await router.services.users.set_grants("alice", {"models": ["llama*", "gpt*"]})
        await router.services.authenticator.refresh()
        for path, key, field in (("/api/tags", "models", "name"), ("/v1/models", "data", "id")):
            seen = [row[field] for row in (await client.get(path)).json()[key]]
            assert seen == ["llama3.1:8b"]
            assert len((await admin.get(path)).json()[key]) == 3
        assert (await client.get("/v1/models/qwen3:8b")).status_code == 404
        assert (await client.get("/api/status")).json() == {"cloud": {"disabled": True, "source": "config"}}
        assert (await admin.get("/api/status")).json() == {"cloud": {"disabled": False, "source": "none"}}


async def test_a_route_that_no_server_knows_is_404(tmp_path: Path) -> None:
    """Older servers have no `/api/status`; neither has the router in front of them."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        sim.misbehave(Answer(status=404, body=b"404 page not found"), path="/api/status")
        response = await client.get("/api/status")
    assert (response.status_code, response.text) == (404, "404 page not found")


HOSTILE = {
    "a version of 5,000 digits": ("/api/version", b'{"version":"%s"}' % (b"9" * 5000)),
    "a version of 60 MB": ("/api/version", b'{"version":"%s"}' % (b"1" * 60_000_000)),
    "a number that does not exist": ("/api/tags", b'{"models":[{"name":"odd","details":{"context_length":1e999}}]}'),
    "120,000 models": (
        "/api/tags", b'{"models":[%s]}' % b",".join(b'{"name":"m%d","digest":"d"}' % i for i in range(120_000))
    ),
    "no list": ("/api/tags", b'{"models":5}'),
}  # fmt: skip


@pytest.mark.parametrize("lie", HOSTILE)
async def test_what_one_server_says_spoils_no_list_and_is_named_once(tmp_path: Path, lie: str) -> None:
    """Versions, lists and numbers out of bounds: everybody gets what the other server says, in JSON that is valid."""
    path, body = HOSTILE[lie]
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")], version="0.9.7") as well,
        OllamaSimulator(models=[model("llama3.2:3b")]) as odd,
    ):
        odd.misbehave(Answer(status=200, body=body), path=path)
        servers = {"well": server_entry(well), "odd": server_entry(odd)}
        with capture_logs() as log:
            async with (
                running_router(tmp_path, servers, health_check_interval=0.1, probe_timeout=20) as router,
                router.client() as client,
            ):
                polls = len(odd.requests_to("/api/version"))
                await eventually(lambda: len(odd.requests_to("/api/version")) > polls + 3)
                version = await client.get("/api/version")
                tags = await client.get("/api/tags")
    assert version.json()["version"] == "0.9.7"
    names = {row["name"] for row in json.loads(tags.content, parse_constant=pytest.fail)["models"]}
    assert "llama3.1:8b" in names
    assert len(names) <= 3
    events = {"server_facts_unavailable", "server_down"}
    told = [line for line in log if line["event"] in events and line["server"] == "odd"]
    assert len({line["error"] for line in told}) == len(told)
    assert 1 <= len(told) <= 2
