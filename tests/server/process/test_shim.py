"""The loopback shim: the unmodified client on one side, the router on the other."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import product
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from ollama_router_core.errors import ConfigError, RouterError
from ollama_router_core.testing import Cut, OllamaSimulator, Silence, model
from ollama_router_server.process.listening import listen
from ollama_router_server.process.router_address import read_address
from ollama_router_server.process.shim import Shim, serve_shim
from ollama_router_server.storage.identities import UserChange
from ollama_router_server.upstream.httptools_upstream import HttptoolsUpstream
from support.eventually import eventually
from support.plain_http import async_client
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

CHAT = {"model": "llama3.1:8b", "messages": [{"role": "user", "content": "hi"}]}
OF_A_BROWSER = [
    {"host": "evil.example"}, {"host": "127.0.0.1.evil.example"}, {"origin": "https://evil.example"},
    {"host": "192.168.1.5:11434"}, {"origin": "null"}, {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    {"sec-fetch-site": "same-site"}, {"referer": "https://evil.example/"},
]  # fmt: skip


@asynccontextmanager
async def shim(router: RunningRouter, token: str | None = None) -> AsyncIterator[tuple[httpx.AsyncClient, list[str]]]:
    """A shim in front of a router: a client of it without any token, and what it noted."""
    sock = listen("127.0.0.1", 0)
    notes: list[str] = []
    shown = router.token if token is None else token
    running = asyncio.create_task(
        serve_shim(
            read_address(router.url),
            shown,
            sock,
            ready=lambda: notes.append("ready"),
            refused=lambda: notes.append("refused"),
        )
    )
    try:
        await eventually(lambda: notes or running.done())
        if running.done():
            await running
        async with async_client(f"http://127.0.0.1:{sock.getsockname()[1]}") as client:
            yield client, notes
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError, RouterError):
            await running
        sock.close()


async def test_a_client_without_a_token_works_through_it(tmp_path: Path) -> None:
    """Every method, bodies and streams; the router sees the user, no client's credential passes."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")], answer_tokens=5) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        shim(router, router.admin_token) as (client, _),
    ):
        head = await client.head("/")
        tags = await client.get("/api/tags", headers={"authorization": "Bearer other", "x-api-key": "other"})
        chat = await client.post("/api/chat", json=CHAT)
        blob = await client.post("/api/blobs/sha256:" + "0" * 64, content=_pieces())
        deleted = await client.request("DELETE", "/api/delete", json={"model": "llama3.1:8b"})
        rows = await router.rows(3)
    assert (head.status_code, tags.status_code, deleted.status_code) == (200, 200, 200)
    assert json.loads(chat.text.splitlines()[-1])["done"] is True
    assert chat.headers["content-type"] == "application/x-ndjson"
    assert "digest mismatch" in blob.json()["error"]
    assert {row.user for row in rows} == {"root"}


async def _pieces() -> AsyncIterator[bytes]:
    for _ in range(3):
        yield b"x" * 100_000


async def test_a_stream_comes_piece_by_piece_and_ends_as_it_ended(tmp_path: Path) -> None:
    """Nothing is held back, and a stream that broke off is not ended as if it were complete."""
    slow = model("llama3.1:8b", decode_speed=20.0)
    async with (
        OllamaSimulator(models=[slow], time_scale=1.0, answer_tokens=10, load_speed=1e12) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        shim(router) as (client, _),
    ):
        async with client.stream("POST", "/api/chat", json=CHAT) as response:
            moments = [anyio.current_time() async for _ in response.aiter_lines()]
        assert moments[-1] - moments[0] > 0.2
        sim.misbehave(Cut(after_chunks=2), path="/api/chat")
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/api/chat", json=CHAT)


async def test_a_client_that_leaves_is_gone_everywhere(tmp_path: Path) -> None:
    """Through shim and router to the server, also while nothing has been said yet."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        shim(router) as (client, _),
    ):
        sim.misbehave(Silence(), path="/api/chat")
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/api/chat", json=CHAT, timeout=0.3)
        await eventually(lambda: sim.aborted == 1)


async def test_web_pages_and_foreign_names_may_not_use_it(tmp_path: Path) -> None:
    """A browser on this machine must not be able to spend the token: DNS rebinding, fetch, an image, a script."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        shim(router) as (client, _),
    ):
        for method, headers in product(("GET", "HEAD", "POST", "DELETE", "OPTIONS"), OF_A_BROWSER):
            response = await client.request(method, "/api/chat", json=CHAT, headers=headers)
            assert (response.status_code, response.content) == (403, b""), (method, headers)
        assert not sim.requests_to("/api/chat")


async def test_a_token_that_is_refused_is_told_at_once(tmp_path: Path) -> None:
    """Nothing is served: the ollama command would speak of signing in to ollama.com."""
    async with (
        OllamaSimulator() as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
    ):
        sock = listen("127.0.0.1", 0)
        address = read_address(router.url)
        with sock:
            serving = serve_shim(address, "wrong", sock, ready=lambda: None, refused=lambda: None)
            with pytest.raises(ConfigError, match="rejects this token"):
                await serving


async def test_an_unreachable_router_is_answered_with_502_in_ollamas_shape() -> None:
    """Not with a bare 500 and a traceback."""
    sent: list[Any] = []
    messages = [{"type": "http.request"}]

    async def receive() -> Any:
        return messages.pop() if messages else await asyncio.Future()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [(b"host", b"localhost")]}
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = read_address(f"http://127.0.0.1:{closed.getsockname()[1]}")
        await Shim(address=address, token="x", upstream=HttptoolsUpstream())(scope, receive, send)
    assert sent[0]["status"] == 502
    assert "cannot connect" in json.loads(sent[1]["body"])["error"]


async def test_a_router_that_is_not_there_is_an_error_a_client_can_read(tmp_path: Path) -> None:
    """502 in Ollama's shape, for as long as it is away."""
    async with OllamaSimulator() as sim, running_router(tmp_path, {"one": server_entry(sim)}) as router:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            gone = f"http://127.0.0.1:{closed.getsockname()[1]}"
        async with shim(router) as (client, notes):
            await router.services.users.change("alice", UserChange(active=False))
            await router.services.authenticator.refresh()
            assert (await client.get("/api/tags")).status_code == 403
            await router.services.users.regenerate_token("alice")
            await router.services.users.change("alice", UserChange(active=True))
            await router.services.authenticator.refresh()
            assert (await client.get("/api/tags")).status_code == 401
            assert notes == ["ready", "refused"]
    with listen("127.0.0.1", 0) as sock:
        serving = serve_shim(read_address(gone), "x", sock, ready=lambda: None, refused=lambda: None)
        with pytest.raises(RouterError):
            await serving
