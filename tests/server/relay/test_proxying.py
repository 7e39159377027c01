"""A request reaches the right server and its answer comes back as it was sent."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import anyio
import pytest

from ollama_router_core.testing import Answer as FixedAnswer
from ollama_router_core.testing import Cut, ExtraHeaders, OllamaSimulator, Reset, Silence, model
from support.eventually import eventually
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

CHAT = {"model": "llama3.1:8b", "messages": [{"role": "user", "content": "hello"}]}


async def test_a_stream_arrives_chunk_by_chunk(tmp_path: Path) -> None:
    """The first chunk is with the client while the server still generates: nothing is buffered."""
    slow = model("llama3.2:3b", decode_speed=20.0)
    async with (
        OllamaSimulator(models=[slow], time_scale=1.0, answer_tokens=20) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        async with client.stream("POST", "/api/chat", json={**CHAT, "model": "llama3.2:3b"}) as response:
            moments = [anyio.current_time() async for _ in response.aiter_lines()]
        assert response.headers["content-type"] == "application/x-ndjson"
        assert len(moments) == 21
        assert moments[-1] - moments[0] > 0.4


async def test_the_answer_says_what_the_router_did(tmp_path: Path) -> None:
    """Every proxied answer names server, reason, attempts and a request id, and the row has the same."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        response = await client.post("/api/chat", json={**CHAT, "stream": False})
        (row,) = await router.rows()
    assert response.status_code == 200
    assert response.headers["x-router-server"] == "one"
    assert "priority 1" in response.headers["x-router-reason"]
    assert response.headers["x-router-attempts"] == "1"
    assert response.headers["x-router-request-id"] == row.id
    assert (row.user, row.model_asked, row.server, row.status) == ("alice", "llama3.1:8b", "one", 200)
    assert row.prompt_tokens == response.json()["prompt_eval_count"]
    assert row.completion_tokens == response.json()["eval_count"]
    assert row.total_ms >= (row.ttft_ms or 0) > 0


async def test_usage_of_a_stream_reaches_the_row(tmp_path: Path) -> None:
    """Tokens and the times of its phases are read from the stream as it passes."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")], answer_tokens=7) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        response = await client.post("/api/chat", json=CHAT)
        (row,) = await router.rows()
    final = json.loads(response.text.splitlines()[-1])
    assert final["done"] is True
    assert row.streamed
    assert (row.prompt_tokens, row.completion_tokens) == (final["prompt_eval_count"], 7)
    assert row.load_ms == pytest.approx(final["load_duration"] / 1e6)
    assert row.prefill_ms == pytest.approx(final["prompt_eval_duration"] / 1e6)
    assert row.decode_ms == pytest.approx(final["eval_duration"] / 1e6)
    assert row.connect_ms is not None
    assert 0 < row.connect_ms < row.total_ms


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/generate", {"model": "llama3.1:8b", "prompt": "hi"}),
        ("/api/embed", {"model": "all-minilm", "input": "hi"}),
        ("/api/embeddings", {"model": "all-minilm", "prompt": "hi"}),
        ("/api/show", {"model": "llama3.1:8b"}),
        ("/v1/chat/completions", CHAT),
        ("/v1/completions", {"model": "llama3.1:8b", "prompt": "hi"}),
        ("/v1/embeddings", {"model": "all-minilm", "input": "hi"}),
        ("/v1/messages", {**CHAT, "max_tokens": 5}),
    ],
)
async def test_every_inference_route_is_forwarded(tmp_path: Path, path: str, body: dict[str, object]) -> None:
    """The body reaches the server byte for byte, on the path of the endpoint table."""
    raw = json.dumps(body).encode() + b" \n"
    async with (
        OllamaSimulator(models=["llama3.1:8b", "all-minilm"]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        response = await client.post(path, content=raw)
        assert response.status_code == 200, response.text
        assert bytes(sim.requests_to(path)[-1].body) == raw


async def test_credentials_and_cookies_stay_with_the_router(tmp_path: Path) -> None:
    """The caller's token, cookies, Origin and hop-by-hop fields never reach a server; its Host is its own."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        headers = {
            "cookie": "session=canary-cookie",
            "origin": "http://localhost:3000",
            "x-api-key": router.token,
            "x-custom-auth": "canary-custom",
            "user-agent": "GitHubCopilotChat/1",
            "connection": "keep-alive, x-custom-auth",
        }
        await client.post("/api/chat", json={**CHAT, "stream": False}, headers=headers)
        seen = sim.requests_to("/api/chat")[-1]
    text = repr(seen.headers)
    assert router.token not in text
    assert "canary" not in text
    assert seen.header("origin") is None
    assert seen.header("host") == f"127.0.0.1:{sim.port}"
    assert seen.header("user-agent") == "GitHubCopilotChat/1"


async def test_what_a_server_says_to_its_peer_stays_with_the_router(tmp_path: Path) -> None:
    """Set-Cookie, Server and fields that a proxy in front acts on are not passed on; a request's id is."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        extra = ExtraHeaders(
            headers=(
                ("Set-Cookie", "a=canary"),
                ("Server", "canary"),
                ("X-Request-Id", "kept"),
                ("X-Router-Server", "canary"),
                ("X-Accel-Redirect", "/canary"),
            )
        )
        sim.misbehave(extra, path="/api/chat")
        response = await client.post("/api/chat", json={**CHAT, "stream": False})
    assert response.headers["x-request-id"] == "kept"
    assert "canary" not in repr(response.headers)


async def test_an_upstream_redirect_is_not_followed_or_returned(tmp_path: Path) -> None:
    """A redirect would lead the client, or the router, to a place nobody configured."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        sim.misbehave(FixedAnswer(status=302, headers=(("Location", "http://evil.example/"),)), path="/api/chat")
        response = await client.post("/api/chat", json=CHAT)
    assert response.status_code == 502
    assert "location" not in response.headers


async def test_a_client_that_leaves_before_the_first_byte_frees_the_server(tmp_path: Path) -> None:
    """The upstream connection is closed at once, also while waiting, and the row says 499."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        sim.misbehave(Silence(), path="/api/chat")
        waiting = asyncio.create_task(client.post("/api/chat", json=CHAT))
        await eventually(lambda: bool(sim.requests_to("/api/chat")))
        assert router.services.fleet.snapshot.in_flight["one"] == 1
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await eventually(lambda: sim.requests_to("/api/chat")[-1].aborted)
        (row,) = await router.rows()
        assert row.status == 499
        assert router.services.fleet.snapshot.in_flight["one"] == 0


async def test_a_client_that_leaves_mid_stream_stops_the_generation(tmp_path: Path) -> None:
    """Generation nobody reads is not paid for."""
    endless = model("llama3.2:3b", decode_speed=50.0)
    async with (
        OllamaSimulator(models=[endless], time_scale=1.0, answer_tokens=10_000) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        async with client.stream("POST", "/api/chat", json={**CHAT, "model": "llama3.2:3b"}) as response:
            async for _ in response.aiter_lines():
                break
        await eventually(lambda: sim.aborted == 1)
        (row,) = await router.rows()
    assert row.status == 499


@pytest.mark.parametrize("fault", [Cut(after_chunks=3), Reset(after_chunks=3)])
@pytest.mark.parametrize(
    ("path", "begin"),
    [
        ("/api/chat", '{"error":'),
        ("/v1/chat/completions", 'data: {"error":'),
        ("/v1/messages", "event: error"),
    ],
)
async def test_a_cut_stream_never_ends_as_if_complete(tmp_path: Path, fault: object, path: str, begin: str) -> None:
    """The dialect's own error goes first, then the client's connection is cut without a terminating chunk."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")], answer_tokens=50) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
    ):
        sim.misbehave(fault, path=path)  # type: ignore[arg-type]
        raw = await _raw_post(router.port, path, {**CHAT, "stream": True, "max_tokens": 50}, router.token)
        (row,) = await router.rows()
    head, _, body = raw.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 200")
    assert not raw.endswith("0\r\n\r\n")
    assert any(line.startswith(begin) for line in body.splitlines())
    assert row.error_code == "upstream_disconnected"


async def test_a_refused_connection_moves_on_to_the_next_server(tmp_path: Path) -> None:
    """Nothing was sent, so another server may take the request; the answer tells of two attempts."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as first,
        OllamaSimulator(models=[model("llama3.1:8b")]) as second,
        running_router(
            tmp_path, {"first": server_entry(first, priority=1), "second": server_entry(second, priority=2)}
        ) as router,
        router.client() as client,
    ):
        first.pause()
        first.drop_connections()
        response = await client.post("/api/chat", json={**CHAT, "stream": False})
    assert response.status_code == 200
    assert response.headers["x-router-server"] == "second"
    assert response.headers["x-router-attempts"] == "2"


async def test_a_busy_server_s_503_moves_on_to_the_next(tmp_path: Path) -> None:
    """503 says that the request was not started on; the last server's own refusal is relayed when all refuse."""
    busy = FixedAnswer(
        status=503, body=b'{"error":"server busy, please try again.  maximum pending requests exceeded"}'
    )
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as first,
        OllamaSimulator(models=[model("llama3.1:8b")]) as second,
        running_router(
            tmp_path, {"first": server_entry(first, priority=1), "second": server_entry(second, priority=2)}
        ) as router,
        router.client() as client,
    ):
        first.misbehave(busy, path="/api/chat")
        moved = await client.post("/api/chat", json={**CHAT, "stream": False})
        second.misbehave(busy, path="/api/chat")
        refused = await client.post("/api/chat", json={**CHAT, "stream": False})
    assert (moved.status_code, moved.headers["x-router-server"]) == (200, "second")
    assert refused.status_code == 503
    assert refused.json()["error"] == "server busy, please try again.  maximum pending requests exceeded"


async def test_a_reset_after_sending_is_not_retried_where_it_may_have_run(tmp_path: Path) -> None:
    """A server that finishes what it began: exactly one delivery, and 502."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as first,
        OllamaSimulator(models=[model("llama3.1:8b")]) as second,
        running_router(
            tmp_path,
            {
                "first": server_entry(first, priority=1, cancels_on_disconnect=False),
                "second": server_entry(second, priority=2),
            },
        ) as router,
        router.client() as client,
    ):
        first.misbehave(Reset(), path="/api/chat")
        response = await client.post("/api/chat", json=CHAT)
        deliveries = len(first.requests_to("/api/chat")) + len(second.requests_to("/api/chat"))
    assert response.status_code == 502
    assert deliveries == 1


async def _raw_post(port: int, path: str, body: dict[str, object], token: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {len(content)}\r\n\r\n"
    writer.write(head.encode() + content)
    try:
        async with asyncio.timeout(20):
            return (await reader.read()).decode()
    finally:
        writer.close()
        await writer.wait_closed()
