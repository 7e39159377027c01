"""Pull, create and blobs: where they go, and how several servers answer as one."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from ollama_router_core.testing import Answer, Cut, OllamaSimulator, Reset, Silence, model
from support.eventually import eventually
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

NAME = "llama3.2:3b"
BLOB = b"weights" * 1000
DIGEST = f"sha256:{hashlib.sha256(BLOB).hexdigest()}"
OTHER = b"adapter" * 1000
OTHER_DIGEST = f"sha256:{hashlib.sha256(OTHER).hexdigest()}"


async def simulate(stack: AsyncExitStack, count: int, **options: Any) -> dict[str, OllamaSimulator]:
    """Start servers a, b, c ... that can pull NAME."""
    settings = {"models": [], "registry": [model(NAME)], **options}
    return {name: await stack.enter_async_context(OllamaSimulator(**settings)) for name in "abcdef"[:count]}


async def route(
    stack: AsyncExitStack, folder: Path, sims: dict[str, OllamaSimulator], **entries: dict[str, Any]
) -> RunningRouter:
    """Start a router over them; keyword arguments are settings of servers."""
    servers = {name: server_entry(sim, **entries.get(name, {})) for name, sim in sims.items()}
    return await stack.enter_async_context(running_router(folder, servers))


def lines(response: httpx.Response) -> list[dict[str, Any]]:
    """The progress lines of an answer."""
    return [json.loads(line) for line in response.text.splitlines()]


def holding(sims: dict[str, OllamaSimulator], name: str = NAME) -> list[str]:
    """The servers that hold a model."""
    return [server for server, sim in sims.items() if sim.library.find(name) is not None]


@pytest.mark.parametrize(
    ("target", "servers"),
    [(None, ["b"]), ("where-it-fits", ["b"]), ("c", ["c"]), ("a, c", ["a", "c"]), ("all", ["a", "b", "c"])],
)
async def test_a_pull_goes_to_the_chosen_servers(tmp_path: Path, target: str | None, servers: list[str]) -> None:
    """Named, all, or the smallest that is large enough; one stream that ends in one success."""
    async with AsyncExitStack() as stack:
        sims = await simulate(stack, 3)
        router = await route(stack, tmp_path, sims, a={"max_memory_gb": 1}, b={"max_memory_gb": 64})
        admin = await stack.enter_async_context(router.client(router.admin_token))
        headers = {} if target is None else {"x-router-target": target}
        response = await admin.post("/api/pull", json={"model": NAME}, headers=headers)
        chat = await admin.post("/api/chat", json={"model": NAME, "messages": [], "stream": False})
        (row, *_) = await router.rows(2)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/x-ndjson"
    assert [line for line in lines(response) if line.get("status") == "success"] == [{"status": "success"}]
    assert lines(response)[-1] == {"status": "success"}
    assert response.headers["x-router-server"] == ", ".join(servers)
    assert holding(sims) == servers
    assert chat.status_code == (503 if servers == ["a"] else 200)
    assert row.path == "/api/chat"


async def test_without_a_target_a_model_is_updated_where_it_is(tmp_path: Path) -> None:
    """`ollama pull` again must not leave old copies behind."""
    async with AsyncExitStack() as stack:
        sims = await simulate(stack, 3)
        for name in ("a", "c"):
            sims[name].library.add(model(NAME, digest="0" * 64))
        router = await route(stack, tmp_path, sims)
        admin = await stack.enter_async_context(router.client(router.admin_token))
        response = await admin.post("/api/pull", json={"name": NAME})
    assert lines(response)[-1] == {"status": "success"}
    assert [len(sim.requests_to("/api/pull")) for sim in sims.values()] == [1, 0, 1]


@pytest.mark.parametrize("fault", [Cut(after_chunks=2), Reset(after_chunks=1), Reset(), "missing", "refused"])
async def test_a_server_that_fails_is_named_at_the_end(tmp_path: Path, fault: Any) -> None:
    """The others finish; the last line says who did not, and success is never said."""
    async with AsyncExitStack() as stack:
        sims = await simulate(stack, 2)
        router = await route(stack, tmp_path, sims)
        admin = await stack.enter_async_context(router.client(router.admin_token))
        if fault == "missing":
            sims["b"].misbehave(Answer(status=200, body=b'{"error":"pull model manifest: gone"}\n'), path="/api/pull")
        elif fault == "refused":
            sims["b"].pause()
            sims["b"].drop_connections()
        else:
            sims["b"].misbehave(fault, path="/api/pull")
        response = await admin.post("/api/pull", json={"model": NAME}, headers={"x-router-target": "all"})
        if fault == "refused":
            await sims["b"].resume()
    assert response.status_code == 200
    last = lines(response)[-1]
    assert set(last) == {"error"}
    assert "pull failed on b: " in last["error"]
    assert "done on a" in last["error"]
    assert not [line for line in lines(response) if line.get("status") == "success"]
    assert holding(sims) == ["a"]


async def test_a_pull_that_fails_everywhere_before_it_began_is_an_error(tmp_path: Path) -> None:
    """No 200 when there was nothing to stream."""
    async with AsyncExitStack() as stack:
        sims = await simulate(stack, 2)
        router = await route(stack, tmp_path, sims)
        admin = await stack.enter_async_context(router.client(router.admin_token))
        for sim in sims.values():
            sim.misbehave(Answer(status=500, body=b'{"error":"no space left"}'), path="/api/pull")
        response = await admin.post("/api/pull", json={"model": NAME}, headers={"x-router-target": "all"})
    assert response.status_code == 502
    assert "a: no space left; b: no space left" in response.json()["error"]


@pytest.mark.parametrize("broken", [False, True])
async def test_a_pull_without_a_stream_is_one_object(tmp_path: Path, broken: bool) -> None:
    """`stream: false`: 200 with success only if all did it, else an error that names who did not."""
    async with AsyncExitStack() as stack:
        sims = await simulate(stack, 2)
        router = await route(stack, tmp_path, sims)
        admin = await stack.enter_async_context(router.client(router.admin_token))
        if broken:
            sims["a"].misbehave(Answer(status=500, body=b'{"error":"x"}'), path="/api/pull")
        body = {"model": NAME, "stream": False}
        response = await admin.post("/api/pull", json=body, headers={"x-router-target": "all"})
    if broken:
        assert response.status_code == 502
        assert "a: x (done on b)" in response.json()["error"]
    else:
        assert (response.status_code, response.json()) == (200, {"status": "success"})


async def test_a_client_that_leaves_stops_every_pull(tmp_path: Path) -> None:
    """No server goes on downloading for nobody."""
    async with AsyncExitStack() as stack:
        sims = await simulate(stack, 2, time_scale=1.0, download_speed=1e6)
        router = await route(stack, tmp_path, sims)
        admin = await stack.enter_async_context(router.client(router.admin_token))
        request = {"json": {"model": NAME}, "headers": {"x-router-target": "all"}}
        async with admin.stream("POST", "/api/pull", **request) as response:
            await anext(response.aiter_lines())
        await eventually(lambda: all(sim.aborted == 1 for sim in sims.values()))
        (row,) = await router.rows()
    assert row.status == 499


async def test_a_model_that_fits_nowhere_is_not_pulled(tmp_path: Path) -> None:
    """503 with numbers, unless a server is named."""
    async with AsyncExitStack() as stack:
        sims = await simulate(stack, 1)
        router = await route(stack, tmp_path, sims, a={"max_memory_gb": 0.5})
        admin = await stack.enter_async_context(router.client(router.admin_token))
        refused = await admin.post("/api/pull", json={"model": NAME})
        forced = await admin.post("/api/pull", json={"model": NAME}, headers={"x-router-target": "a"})
    assert refused.status_code == 503
    assert "limit 0.5 GiB" in refused.json()["error"]
    assert lines(forced)[-1] == {"status": "success"}


# blobs ------------------------------------------------------------------------------------------------


async def build(admin: httpx.AsyncClient, files: dict[str, bytes], **headers: str) -> httpx.Response:
    """What `ollama create` does: ask for each blob, send what is missing, then create."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    digests = {}
    for name, data in files.items():
        digest = digests[name] = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if (await admin.head(f"/api/blobs/{digest}", headers=named)).status_code == 404:
            sent = await admin.post(f"/api/blobs/{digest}", content=data, headers=named)
            assert sent.status_code == 201
    return await admin.post("/api/create", json={"model": "mine", "files": digests}, headers=named)


async def test_blobs_and_what_is_made_of_them_end_up_on_one_server(tmp_path: Path) -> None:
    """Blobs are a server's own: HEAD, POST and create have to find the same one."""
    async with AsyncExitStack() as stack:
        sims = await simulate(stack, 3)
        router = await route(stack, tmp_path, sims, c={"priority": 0})
        admin = await stack.enter_async_context(router.client(router.admin_token))
        response = await build(admin, {"m.gguf": BLOB, "a.gguf": OTHER})
        again = await admin.head(f"/api/blobs/{DIGEST}")
    assert lines(response)[-1] == {"status": "success"}
    assert holding(sims, "mine") == ["c"]
    assert sims["c"].library.blobs == {DIGEST: BLOB, OTHER_DIGEST: OTHER}
    assert (again.status_code, again.content) == (200, b"")


async def test_a_restarted_router_finds_the_blobs_again(tmp_path: Path) -> None:
    """The digest tells, not the router's memory: even if another server would be the home now."""
    async with AsyncExitStack() as stack:
        sims = await simulate(stack, 2)
        servers = {name: server_entry(sim) for name, sim in sims.items()}
        async with running_router(tmp_path, {"b": servers["b"]}) as before, before.client(before.admin_token) as admin:
            assert (await admin.post(f"/api/blobs/{DIGEST}", content=BLOB)).status_code == 201
        router = await stack.enter_async_context(running_router(tmp_path, servers))
        admin = await stack.enter_async_context(router.client(router.admin_token))
        head = await admin.head(f"/api/blobs/{DIGEST}")
        response = await admin.post("/api/create", json={"model": "mine", "files": {"m": DIGEST}})
    assert head.status_code == 200
    assert head.headers["x-router-server"] == "b"
    assert lines(response)[-1] == {"status": "success"}
    assert holding(sims, "mine") == ["b"]


async def test_blobs_that_lie_apart_are_told_apart(tmp_path: Path) -> None:
    """No server has both: the error says who has what, before any server is asked to create."""
    async with AsyncExitStack() as stack:
        sims = await simulate(stack, 2)
        sims["a"].library.blobs[DIGEST] = BLOB
        sims["b"].library.blobs[OTHER_DIGEST] = OTHER
        router = await route(stack, tmp_path, sims)
        admin = await stack.enter_async_context(router.client(router.admin_token))
        body = {"model": "mine", "files": {"m": DIGEST, "n": OTHER_DIGEST}}
        response = await admin.post("/api/create", json=body)
    assert response.status_code == 400
    assert "a has 1 of 2; b has 1 of 2" in response.json()["error"]


async def test_what_was_found_on_one_server_draws_the_rest_there(tmp_path: Path) -> None:
    """A user's first blob is on b already: the second is sent to b too, not to the usual home."""
    async with AsyncExitStack() as stack:
        sims = await simulate(stack, 2)
        sims["b"].library.blobs[DIGEST] = BLOB
        router = await route(stack, tmp_path, sims)
        admin = await stack.enter_async_context(router.client(router.admin_token))
        response = await build(admin, {"m.gguf": BLOB, "a.gguf": OTHER})
    assert lines(response)[-1] == {"status": "success"}
    assert holding(sims, "mine") == ["b"]


async def test_a_missing_blob_is_missed_in_ollama_s_words(tmp_path: Path) -> None:
    """Nobody has it: the server itself says so."""
    async with AsyncExitStack() as stack:
        sims = await simulate(stack, 2)
        router = await route(stack, tmp_path, sims)
        admin = await stack.enter_async_context(router.client(router.admin_token))
        head = await admin.head(f"/api/blobs/{DIGEST}")
        create = await admin.post("/api/create", json={"model": "mine", "files": {"m": DIGEST}})
        bad = await admin.post("/api/blobs/sha256:123", content=b"x")
    assert (head.status_code, head.content) == (404, b"")
    missing = f"open /models/blobs/{DIGEST.replace(':', '-')}: no such file or directory"
    assert lines(create) == [{"status": "parsing GGUF"}, {"error": missing}]
    assert (bad.status_code, bad.json()) == (400, {"error": "invalid digest format"})


async def test_create_from_a_model_goes_where_that_model_is(tmp_path: Path) -> None:
    """Anywhere else it would have to be downloaded first."""
    async with AsyncExitStack() as stack:
        sims = await simulate(stack, 3)
        sims["c"].library.add(model("qwen3:8b"))
        router = await route(stack, tmp_path, sims)
        admin = await stack.enter_async_context(router.client(router.admin_token))
        response = await admin.post("/api/create", json={"model": "mine", "from": "qwen3:8b", "system": "x"})
    assert lines(response)[-1] == {"status": "success"}
    assert holding(sims, "mine") == ["c"]


async def test_an_adapter_of_a_model_that_another_server_has_is_created_where_the_adapter_is(tmp_path: Path) -> None:
    """That server pulls the model that it lacks, or says itself why it cannot."""
    async with AsyncExitStack() as stack:
        sims = await simulate(stack, 2)
        sims["a"].library.add(model(NAME))
        sims["b"].library.blobs[OTHER_DIGEST] = OTHER
        router = await route(stack, tmp_path, sims)
        admin = await stack.enter_async_context(router.client(router.admin_token))
        body = {"model": "mine", "from": NAME, "adapters": {"m": OTHER_DIGEST}}
        response = await admin.post("/api/create", json=body)
    assert response.headers["x-router-server"] == "b"
    assert response.json() == {"error": f"pull model manifest: file does not exist: {NAME}"}


async def test_one_upload_reaches_several_servers(tmp_path: Path) -> None:
    """With a target that means several; one that has the blob already holds nobody up."""
    async with AsyncExitStack() as stack:
        sims = await simulate(stack, 3)
        sims["b"].library.blobs[DIGEST] = BLOB
        router = await route(stack, tmp_path, sims)
        admin = await stack.enter_async_context(router.client(router.admin_token))
        response = await build(admin, {"m.gguf": BLOB}, x_router_target="all")
    assert lines(response)[-1] == {"status": "success"}
    assert holding(sims, "mine") == ["a", "b", "c"]
    assert all(sim.library.blobs == {DIGEST: BLOB} for sim in sims.values())


@pytest.mark.parametrize("fault", ["refused", Reset(after_request_bytes=100_000), Answer(status=500, body=b"full")])
async def test_an_upload_that_fails_on_one_of_several_names_it(tmp_path: Path, fault: Any) -> None:
    """The others get all of it."""
    data = bytes(2_000_000)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    async with AsyncExitStack() as stack:
        sims = await simulate(stack, 2)
        router = await route(stack, tmp_path, sims)
        admin = await stack.enter_async_context(router.client(router.admin_token))
        if fault == "refused":
            sims["a"].pause()
            sims["a"].drop_connections()
        else:
            sims["a"].misbehave(fault, path="/api/blobs/*")
        response = await admin.post(f"/api/blobs/{digest}", content=data, headers={"x-router-target": "all"})
        if fault == "refused":
            await sims["a"].resume()
    assert response.status_code == 502
    assert "upload failed on a: " in response.json()["error"]
    assert sims["b"].library.blobs == {digest: data}


@pytest.mark.parametrize("target", ["a", "all"])
@pytest.mark.parametrize("chunked", [False, True])
async def test_an_upload_that_breaks_off_is_never_complete_anywhere(tmp_path: Path, target: str, chunked: bool) -> None:
    """RFC 9112 6.3: the server sees a broken request, not a short one."""
    async with AsyncExitStack() as stack:
        sims = await simulate(stack, 2)
        router = await route(stack, tmp_path, sims)
        framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(BLOB)}"
        head = (
            f"POST /api/blobs/{DIGEST} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {router.admin_token}\r\n"
            f"X-Router-Target: {target}\r\n{framing}\r\n\r\n"
        ).encode()
        for tenth in range(10):
            part = BLOB[: len(BLOB) * tenth // 10]
            _, writer = await asyncio.open_connection("127.0.0.1", router.port)
            writer.write(head + (b"%x\r\n%b\r\n" % (len(part), part) if chunked and part else part))
            await writer.drain()
            await eventually(lambda n=tenth: len(sims["a"].requests_to(f"/api/blobs/{DIGEST}", "POST")) > n)
            writer.close()
            await writer.wait_closed()
        rows = await router.rows(10)
        asked = [seen for sim in sims.values() for seen in sim.requests_to(f"/api/blobs/{DIGEST}", "POST")]
    assert {row.status for row in rows} == {499}
    assert not any(seen.complete for seen in asked)
    assert not any(sim.library.blobs for sim in sims.values())


async def test_a_chunked_upload_of_any_size_passes(tmp_path: Path) -> None:
    """More than the limit of JSON bodies; without a length it is sent on in chunks."""
    piece = bytes(65536)
    digest = f"sha256:{hashlib.sha256(piece * 64).hexdigest()}"

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield piece

    async with AsyncExitStack() as stack:
        sims = await simulate(stack, 1)
        servers = {"a": server_entry(sims["a"])}
        router = await stack.enter_async_context(running_router(tmp_path, servers, limits={"max_body": "1MB"}))
        admin = await stack.enter_async_context(router.client(router.admin_token))
        response = await admin.post(f"/api/blobs/{digest}", content=pieces())
        (seen,) = sims["a"].requests_to(f"/api/blobs/{digest}")
    assert response.status_code == 201
    assert seen.header("transfer-encoding") == "chunked"
    assert hashlib.sha256(seen.body).hexdigest() == digest.removeprefix("sha256:")


async def test_a_hanging_server_does_not_hold_up_the_search_for_a_blob(tmp_path: Path) -> None:
    """One that does not say in time has none."""
    async with AsyncExitStack() as stack:
        sims = await simulate(stack, 2)
        sims["b"].library.blobs[DIGEST] = BLOB
        router = await route(stack, tmp_path, sims)
        admin = await stack.enter_async_context(router.client(router.admin_token))
        sims["a"].misbehave(Silence(), path="/api/blobs/*")
        head = await admin.head(f"/api/blobs/{DIGEST}")
    assert head.status_code == 200
    assert head.headers["x-router-server"] == "b"
