"""Delete, copy, push and unload go to the servers that hold the model, and to no other."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from ollama_router_core.testing import Answer, OllamaSimulator, model
from support.plain_http import async_client
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

NAME = "llama3.1:8b"


class Fleet:
    """Servers by name, a router before them, and an admin's client."""

    def __init__(self, sims: dict[str, OllamaSimulator], router: RunningRouter, admin: httpx.AsyncClient) -> None:
        self.sims = sims
        self.router = router
        self.admin = admin

    async def send(self, method: str, path: str, body: Any, **headers: str) -> httpx.Response:
        """One request with a JSON body, as an admin."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.admin.request(method, path, content=json.dumps(body), headers=named)

    def asked(self, path: str) -> list[str]:
        """The servers that got a request on a path."""
        return [name for name, sim in self.sims.items() if sim.requests_to(path)]


async def start(stack: AsyncExitStack, folder: Path, servers: dict[str, list[Any]], **config: Any) -> Fleet:
    """Start servers that hold these models, and a router."""
    sims = {name: await stack.enter_async_context(OllamaSimulator(models=held)) for name, held in servers.items()}
    entries = {name: server_entry(sim) for name, sim in sims.items()}
    router = await stack.enter_async_context(running_router(folder, entries, **config))
    admin = await stack.enter_async_context(router.client(router.admin_token))
    return Fleet(sims, router, admin)


async def test_delete_reaches_every_holder_and_nobody_else(tmp_path: Path) -> None:
    """200 with an empty body, as from one server; afterwards the lists do not have it."""
    async with AsyncExitStack() as stack:
        fleet = await start(stack, tmp_path, {"a": [NAME], "b": [NAME, "qwen3:8b"], "c": ["qwen3:8b"]})
        response = await fleet.send("DELETE", "/api/delete", {"model": "LLAMA3.1:8b"})
        tags = (await fleet.admin.get("/api/tags")).json()["models"]
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["x-router-server"] == "a, b"
    assert fleet.asked("/api/delete") == ["a", "b"]
    assert [row["name"] for row in tags] == ["qwen3:8b"]


async def test_a_holder_that_fails_is_named_and_so_is_what_was_done(tmp_path: Path) -> None:
    """Half a deletion is no success."""
    async with AsyncExitStack() as stack:
        fleet = await start(stack, tmp_path, {"a": [NAME], "b": [NAME]})
        fleet.sims["b"].misbehave(Answer(status=500, body=b'{"error":"disk on fire"}'), path="/api/delete")
        response = await fleet.send("DELETE", "/api/delete", {"name": NAME})
    assert response.status_code == 502
    assert response.headers["x-router-error"] == "partly_done"
    assert "b: 500" in response.json()["error"]
    assert "disk on fire" in response.json()["error"]
    assert "done on a" in response.json()["error"]


async def test_a_named_server_alone_is_asked(tmp_path: Path) -> None:
    """`X-Router-Target` narrows an order; its answer is that server's own."""
    async with AsyncExitStack() as stack:
        fleet = await start(stack, tmp_path, {"a": [NAME], "b": [NAME], "c": []})
        narrowed = await fleet.send("DELETE", "/api/delete", {"model": NAME}, x_router_target="b")
        missing = await fleet.send("DELETE", "/api/delete", {"model": NAME}, x_router_target="c")
        unknown = await fleet.send("DELETE", "/api/delete", {"model": NAME}, x_router_target="d")
    assert narrowed.status_code == 200
    assert fleet.asked("/api/delete") == ["b", "c"]
    assert (missing.status_code, missing.json()) == (404, {"error": f"model '{NAME}' not found"})
    assert unknown.status_code == 400
    assert "enabled servers: a, b, c" in unknown.json()["error"]


NOT_FOUND = [
    ("DELETE", "/api/delete", {"model": "no:1"}, 404, "model 'no:1' not found"),
    ("POST", "/api/copy", {"source": "no:1", "destination": "x"}, 404, 'model "no:1" not found'),
    ("POST", "/api/show", {"model": "no"}, 404, "model 'no:latest' not found"),
    ("POST", "/api/embed", {"model": "no", "input": "x"}, 404, 'model "no" not found, try pulling it first'),
    ("POST", "/api/chat", {"model": "no", "messages": []}, 404, "model 'no' not found"),
    ("POST", "/api/chat", {"model": "no no", "messages": []}, 400, "invalid model name"),
    ("POST", "/api/generate", {"model": "no", "keep_alive": 0}, 404, "model 'no' not found"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "text"), NOT_FOUND)
async def test_a_missing_model_is_missed_as_ollama_does(
    tmp_path: Path, method: str, path: str, body: Any, status: int, text: str
) -> None:
    """The same status and text as from a server that is asked directly."""
    async with AsyncExitStack() as stack:
        fleet = await start(stack, tmp_path, {"a": [NAME]})
        ours = await fleet.send(method, path, body)
        async with async_client(fleet.sims["a"].url) as direct:
            theirs = await direct.request(method, path, content=json.dumps(body))
    assert (ours.status_code, ours.json()) == (status, {"error": text})
    assert (theirs.status_code, theirs.json()) == (status, {"error": text})


async def test_copy_is_made_wherever_the_source_is(tmp_path: Path) -> None:
    """So that the copy can be routed as freely as the original."""
    async with AsyncExitStack() as stack:
        fleet = await start(stack, tmp_path, {"a": [NAME], "b": [NAME], "c": []})
        response = await fleet.send("POST", "/api/copy", {"source": NAME, "destination": "mine"})
        chat = await fleet.send("POST", "/api/chat", {"model": "mine", "messages": [], "stream": False})
    assert (response.status_code, response.content) == (200, b"")
    assert [sim.library.find("mine") is not None for sim in fleet.sims.values()] == [True, True, False]
    assert chat.status_code == 200


async def test_push_streams_from_one_holder(tmp_path: Path) -> None:
    """The registry needs it once; the progress passes unchanged."""
    async with AsyncExitStack() as stack:
        fleet = await start(stack, tmp_path, {"a": [], "b": [NAME], "c": [NAME]})
        response = await fleet.send("POST", "/api/push", {"model": NAME})
    lines = [json.loads(line) for line in response.text.splitlines()]
    assert lines[0] == {"status": "retrieving manifest"}
    assert lines[-1] == {"status": "success"}
    assert fleet.asked("/api/push") == ["b"]


async def test_a_push_of_models_that_differ_needs_a_name(tmp_path: Path) -> None:
    """Which of two different models is meant must not be a guess."""
    apart = {"a": [model(NAME, digest="a" * 64)], "b": [model(NAME, digest="b" * 64)]}
    async with AsyncExitStack() as stack:
        fleet = await start(stack, tmp_path, apart)
        unclear = await fleet.send("POST", "/api/push", {"model": NAME})
        clear = await fleet.send("POST", "/api/push", {"model": NAME}, x_router_target="b")
    assert unclear.status_code == 400
    assert "aaaaaaaaaaaa on a; bbbbbbbbbbbb on b" in unclear.json()["error"]
    assert clear.status_code == 200
    assert fleet.asked("/api/push") == ["b"]


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
async def test_unload_reaches_every_server_that_has_it_loaded(tmp_path: Path, path: str) -> None:
    """`keep_alive: 0` without a prompt frees the memory everywhere, and answers as one server does."""
    async with AsyncExitStack() as stack:
        fleet = await start(stack, tmp_path, {"a": [NAME], "b": [NAME], "c": [NAME]})
        for name in ("b", "c"):
            async with async_client(fleet.sims[name].url) as direct:
                await direct.post("/api/generate", json={"model": NAME})
        response = await fleet.send("POST", path, {"model": NAME, "keep_alive": 0})
        loaded = (await fleet.admin.get("/api/ps")).json()["models"]
    assert response.json()["done_reason"] == "unload"
    assert response.headers["x-router-server"] == "b, c"
    assert loaded == []
    assert not fleet.sims["a"].requests_to(path)


async def test_unload_of_a_model_that_is_not_loaded_is_answered_by_a_holder(tmp_path: Path) -> None:
    """As Ollama does: there is nothing to do, and that is no error."""
    async with AsyncExitStack() as stack:
        fleet = await start(stack, tmp_path, {"a": [], "b": [NAME]})
        response = await fleet.send("POST", "/api/generate", {"model": NAME, "keep_alive": 0})
    assert (response.status_code, response.json()["done_reason"]) == (200, "unload")
    assert response.headers["x-router-server"] == "b"


MANAGED = [
    ("DELETE", "/api/delete", {"model": NAME}),
    ("POST", "/api/copy", {"source": NAME, "destination": "x"}),
    ("POST", "/api/push", {"model": NAME}),
    ("POST", "/api/pull", {"model": NAME}),
    ("POST", "/api/create", {"model": "x", "from": NAME}),
    ("POST", "/api/blobs/sha256:" + "0" * 64, {}),
    ("HEAD", "/api/blobs/sha256:" + "0" * 64, {}),
]


@pytest.mark.parametrize(("method", "path", "body"), MANAGED)
async def test_a_user_may_not_manage_and_no_server_hears_of_it(
    tmp_path: Path, method: str, path: str, body: Any
) -> None:
    """403 in the route's dialect; an admin's token is needed."""
    async with AsyncExitStack() as stack:
        fleet = await start(stack, tmp_path, {"a": [NAME]})
        user = await stack.enter_async_context(fleet.router.client())
        response = await user.request(method, path, content=json.dumps(body))
    assert response.status_code == 403
    assert method == "HEAD" or "a user may not use manage routes" in response.json()["error"]
    assert not fleet.sims["a"].requests_to(path)


ACCOUNT = [
    ("POST", "/api/me"),
    ("POST", "/api/signout"),
    ("DELETE", "/api/user/keys/abc"),
    ("POST", "/api/experimental/web_search"),
    ("POST", "/api/experimental/web_fetch"),
    ("GET", "/api/experimental/model-recommendations"),
]


@pytest.mark.parametrize(("method", "path"), ACCOUNT)
@pytest.mark.parametrize("opened", [False, True])
async def test_routes_about_the_owner_s_account_are_closed_unless_opened(
    tmp_path: Path, method: str, path: str, opened: bool
) -> None:
    """They act with the account of a server's owner: only a setting opens them, and only for admins."""
    async with AsyncExitStack() as stack:
        fleet = await start(stack, tmp_path, {"a": [NAME]}, allow_account_routes=opened)
        user = await stack.enter_async_context(fleet.router.client())
        refused = await user.request(method, path)
        response = await fleet.admin.request(method, path)
    assert refused.status_code == 403
    assert (response.status_code == 403) is not opened
    assert bool(fleet.sims["a"].requests_to(path)) is opened
