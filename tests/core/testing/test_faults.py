"""Misbehaviour on command: each fault does on the wire what its name says, as often as asked."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from ollama_router_core.testing import (
    Answer,
    Cut,
    Delay,
    Drip,
    EndEarly,
    ExtraHeaders,
    Garbage,
    OllamaSimulator,
    Reset,
    Silence,
    StreamError,
)
from support.eventually import eventually
from support.plain_http import async_client

pytestmark = pytest.mark.anyio

ASK = {"model": "llama3.1:8b", "prompt": "hi", "options": {"num_predict": 5}}


async def exchange(sim: OllamaSimulator, request: bytes) -> tuple[bytes, bool]:
    """Send raw bytes; everything that comes back, and whether the connection ended with an RST."""
    reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
    received = b""
    try:
        writer.write(request)
        async with asyncio.timeout(10):
            while data := await reader.read(65_536):
                received += data
    except ConnectionResetError:
        return received, True
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    return received, False


def raw(body: dict[str, object]) -> bytes:
    """A generate request as bytes; the connection is closed after it."""
    data = json.dumps(body).encode()
    head = f"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(data)}"
    return head.encode() + b"\r\n\r\n" + data


async def test_reset_on_connect(sim: OllamaSimulator) -> None:
    """RST before anything was read: no request is recorded."""
    sim.misbehave(Reset(on_connect=True), times=1)
    received, reset = await exchange(sim, raw(ASK))
    assert (received, reset, sim.requests) == (b"", True, [])
    assert b"200 OK" in (await exchange(sim, raw(ASK)))[0]


async def test_reset_after_the_request(sim: OllamaSimulator) -> None:
    """RST after the whole request was read, without a byte of an answer and without any work."""
    sim.misbehave(Reset(), path="/api/generate")
    assert await exchange(sim, raw(ASK)) == (b"", True)
    assert (sim.requests[0].complete, sim.loads) == (True, 0)


async def test_reset_while_the_request_arrives(sim: OllamaSimulator) -> None:
    """RST when so much of the body was read."""
    sim.misbehave(Reset(after_request_bytes=10))
    assert await exchange(sim, raw(ASK)) == (b"", True)


async def test_reset_in_the_stream(sim: OllamaSimulator) -> None:
    """RST after two chunks."""
    sim.misbehave(Reset(after_chunks=2))
    received, reset = await exchange(sim, raw(ASK))
    assert reset
    assert received.count(b'"response"') == 2


async def test_cut_in_the_stream(sim: OllamaSimulator) -> None:
    """A FIN after two chunks: what came is well formed, the terminating chunk is missing."""
    sim.misbehave(Cut(after_chunks=2))
    received, reset = await exchange(sim, raw(ASK))
    assert not reset
    assert received.count(b'"response"') == 2
    assert not received.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("fault", [Cut(), Reset(after_chunks=0)])
async def test_a_whole_answer_is_cut_in_its_middle(sim: OllamaSimulator, fault: Cut | Reset) -> None:
    """With a Content-Length promised, fewer bytes arrive."""
    sim.misbehave(fault)
    received, reset = await exchange(sim, raw({**ASK, "stream": False}))
    head, _, body = received.partition(b"\r\n\r\n")
    assert reset == isinstance(fault, Reset)
    assert b"Content-Length: " in head
    length = int(head.partition(b"Content-Length: ")[2].split()[0])
    assert 0 < len(body) < length


async def test_early_end(sim: OllamaSimulator, http: httpx.AsyncClient) -> None:
    """A clean end of a stream without its done line."""
    sim.misbehave(EndEarly(after_chunks=2))
    answer = await http.post("/api/generate", json=ASK)
    assert [json.loads(line)["done"] for line in answer.text.splitlines()] == [False, False]


async def test_error_line(sim: OllamaSimulator, http: httpx.AsyncClient) -> None:
    """Status 200, two tokens, an error line, a clean end."""
    sim.misbehave(StreamError(after_chunks=2, message="boom"))
    answer = await http.post("/api/generate", json=ASK)
    assert (answer.status_code, json.loads(answer.text.splitlines()[-1])) == (200, {"error": "boom"})
    assert len(answer.text.splitlines()) == 3


@pytest.mark.parametrize("stream", [True, False])
async def test_an_error_before_the_first_token_has_a_real_status(
    sim: OllamaSimulator, http: httpx.AsyncClient, stream: bool
) -> None:
    """Nothing was written yet: status 500 and a JSON body."""
    sim.misbehave(StreamError(after_chunks=0, message="boom"))
    answer = await http.post("/api/generate", json={**ASK, "stream": stream})
    assert (answer.status_code, answer.json()) == (500, {"error": "boom"})


async def test_garbage(sim: OllamaSimulator) -> None:
    """Bytes that are not HTTP, then a close."""
    sim.misbehave(Garbage(data=b"\x00\x01 no"))
    assert await exchange(sim, raw(ASK)) == (b"\x00\x01 no", False)


async def test_answer_instead(sim: OllamaSimulator, http: httpx.AsyncClient) -> None:
    """Any status, body and headers, a number of times, then the right answer again; no model is touched."""
    busy = Answer(status=429, body=b'{"error":"slow down"}', headers=(("Retry-After", "7"),))
    moved = Answer(status=302, content_type="", headers=(("Location", "http://x.local/"),))
    sim.misbehave(busy, path="/api/generate", times=2)
    sim.misbehave(moved, path="/api/generate", times=1)
    answers = [await http.post("/api/generate", json=ASK) for _ in range(4)]
    assert [one.status_code for one in answers] == [429, 429, 302, 200]
    assert (answers[0].headers["retry-after"], answers[2].headers["location"]) == ("7", "http://x.local/")
    assert sim.loads == 1


async def test_silence_after_the_request(sim: OllamaSimulator, http: httpx.AsyncClient) -> None:
    """The request is read and never answered; other routes answer; leaving is noticed."""
    sim.misbehave(Silence(), path="/api/tags")
    asked = asyncio.ensure_future(http.get("/api/tags"))
    await eventually(lambda: len(sim.requests) == 1)
    assert (await http.get("/api/version")).status_code == 200
    asked.cancel()
    await eventually(lambda: sim.aborted == 1)


async def test_silence_on_connect(sim: OllamaSimulator) -> None:
    """The connection is accepted and nothing is read from it."""
    sim.misbehave(Silence(read_request=False))
    reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
    writer.write(raw(ASK))
    await eventually(lambda: sim.open_connections == 1)
    assert sim.requests == []
    sim.drop_connections()
    with pytest.raises(ConnectionError):
        await reader.readexactly(1)
    writer.close()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def test_delay_and_drip(sim: OllamaSimulator, http: httpx.AsyncClient) -> None:
    """Late or slow, but right."""
    sim.misbehave(Delay(seconds=0.01), path="/", times=1)
    sim.misbehave(Drip(seconds=0.0, size=3), path="/", times=1)
    assert [(await http.get("/")).text for _ in range(2)] == ["Ollama is running"] * 2


async def test_extra_headers(sim: OllamaSimulator) -> None:
    """Cookies, hop-by-hop headers and a huge one are sent as they are."""
    huge = ("X-Huge", "a" * 100_000)
    sim.misbehave(ExtraHeaders(headers=(("Set-Cookie", "a=b"), ("Keep-Alive", "timeout=9"), huge)))
    head = (await exchange(sim, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))[0]
    assert b"\r\nSet-Cookie: a=b\r\nKeep-Alive: timeout=9\r\nX-Huge: aaa" in head
    assert head.endswith(b"Ollama is running")


async def test_rules_choose_by_route_and_method(sim: OllamaSimulator, http: httpx.AsyncClient) -> None:
    """Patterns and methods limit a fault; behave lifts them all."""
    sim.misbehave(Answer(status=500), path="/api/*", method="GET")
    assert [(await http.get(path)).status_code for path in ("/api/tags", "/api/ps", "/")] == [500, 500, 200]
    assert (await http.post("/api/show", json={"model": "llama3.1:8b"})).status_code == 200
    sim.behave()
    assert (await http.get("/api/tags")).status_code == 200


def test_a_fault_before_the_request_cannot_know_the_path() -> None:
    """Nobody can choose by path what happens before the path is read."""
    with pytest.raises(ValueError, match="before the request is read"):
        OllamaSimulator().misbehave(Reset(on_connect=True), path="/api/tags")


async def test_pause_refuses_and_resume_listens_on_the_same_port(sim: OllamaSimulator) -> None:
    """A paused server refuses connections; open ones go on; the port stays."""
    port = sim.port
    async with async_client(sim.url) as http:
        assert (await http.get("/")).status_code == 200
        sim.pause()
        assert (await http.get("/")).status_code == 200
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        await sim.resume()
        assert (await exchange(sim, raw(ASK)))[0].startswith(b"HTTP/1.1 200")
        assert sim.port == port
