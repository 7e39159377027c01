"""Bad input gets a clear error in the dialect of its route, and no server hears of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollama_router_core.testing import OllamaSimulator, model
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

BAD_BODIES = [
    (b"", "missing request body"),
    (b"{", "unexpected EOF"),
    (b"[]", "json: cannot unmarshal array into Go value of type "),
    (b'{"model":"\xff\xfe"}', "not UTF-8"),
    (b'\xef\xbb\xbf{"model":"llama3.1:8b"}', "invalid character '\u00ef' looking for beginning of value"),
    (b'{"messages":[]}', "model is required"),
    (b'{"model":"","messages":[]}', "model is required"),
    (b'{"model":7}', "json: cannot unmarshal number into Go struct field "),
    (b'{"model":"llama3.1:8b","stream":"yes"}', ".stream of type bool"),
    (b'{"model":"llama3.1:8b","MODEL":"other"}', "some servers read the key"),
    (b'{"model":"llama3.1:8b","model":"other"}', "twice"),
    (b'{"model":"llama3.1:8b"}{"model":"other"}', "more data"),
]
BAD_OPTIONS = [
    (b'{"model":"llama3.1:8b","options":[]}', "ChatRequest.options of type map[string]interface {}"),
    (b'{"model":"llama3.1:8b","options":{"num_ctx":"big"}}', "num_ctx must be a whole number"),
    (b'{"model":"llama3.1:8b","options":{"NUM_CTX":1}}', "some servers read the key"),
]


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages"])
async def test_a_bad_body_is_refused_in_the_dialect_of_the_route(tmp_path: Path, path: str) -> None:
    """400 with the reason, in the dialect's own shape; no server was asked."""
    bodies = BAD_BODIES + (BAD_OPTIONS if path == "/api/chat" else [])
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        answers = {body: await client.post(path, content=body) for body, _ in bodies}
        assert not sim.requests_to(path)
    for body, words in bodies:
        assert answers[body].status_code == 400, body
        error = answers[body].json()["error"]
        text = words if body or path == "/api/chat" else "EOF"  # as Ollama words it on its compatible routes
        assert text in (error if path == "/api/chat" else error["message"]), body
        if path == "/v1/messages":
            assert (answers[body].json()["type"], error["type"]) == ("error", "invalid_request_error")


async def test_an_unknown_model_is_404_with_ollama_s_text(tmp_path: Path) -> None:
    """No server has it: the text is the one a client of Ollama knows."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        response = await client.post("/api/chat", json={"model": "nobody-has-this", "messages": []})
    assert response.status_code == 404
    assert response.json() == {"error": "model 'nobody-has-this' not found"}


async def test_when_nothing_fits_every_server_and_why_is_listed(tmp_path: Path) -> None:
    """400 with numbers for each server, not a guess; trying again does not help."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as one,
        OllamaSimulator(models=[model("llama3.1:8b")]) as two,
        running_router(
            tmp_path,
            {"one": server_entry(one, max_memory_gb=1), "two": server_entry(two, max_memory_gb=2)},
        ) as router,
        router.client() as client,
    ):
        response = await client.post("/api/chat", json={"model": "llama3.1:8b", "messages": []})
    assert response.status_code == 400
    assert response.headers["x-should-retry"] == "false"
    text = response.json()["error"]
    assert "one needs" in text
    assert "limit 1.0 GiB" in text
    assert "two needs" in text


async def test_a_compressed_body_is_refused(tmp_path: Path) -> None:
    """What cannot be looked into is not forwarded."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        response = await client.post("/api/chat", content=b"\x1f\x8b", headers={"content-encoding": "gzip"})
    assert response.status_code == 415


async def test_a_body_over_the_limit_is_refused(tmp_path: Path) -> None:
    """413 in place of memory without end."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, limits={"max_body": "1KB"}) as router,
        router.client() as client,
    ):
        response = await client.post("/api/chat", content=b'{"model":"' + b"x" * 2000)
    assert response.status_code == 413


@pytest.mark.parametrize("path", ["/api/nothing", "/api/./chat", "/api/../api/chat", "/v1/%63hat", "/x"])
async def test_a_path_outside_the_table_is_404(tmp_path: Path, path: str) -> None:
    """Nothing is normalised and nothing unknown is forwarded; the text is the one of Ollama's router."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
    ):
        status, body = await _raw(router.port, f"POST {path}", router.token)
        assert (status, body) == (404, "404 page not found")
        assert all(seen.path.startswith(("/api/version", "/api/tags", "/api/ps", "/api/show")) for seen in sim.requests)


async def test_a_known_path_with_another_method_is_405(tmp_path: Path) -> None:
    """As Ollama answers it, with the methods that are allowed."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as client,
    ):
        response = await client.put("/api/chat", json={})
    assert (response.status_code, response.text) == (405, "405 method not allowed")
    assert response.headers["allow"] == "POST"


async def _raw(port: int, line: str, token: str) -> tuple[int, str]:
    import asyncio

    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        f"{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n"
    )
    writer.write(head.encode())
    async with asyncio.timeout(20):
        text = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    return int(text.split(" ", 2)[1]), text.partition("\r\n\r\n")[2]
