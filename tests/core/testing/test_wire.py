"""HTTP/1.1 as Go's server speaks it, checked on raw sockets where framing matters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from ollama_router_core.testing import OllamaSimulator
from support.eventually import eventually

pytestmark = pytest.mark.anyio


class Peer:
    """A raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, text: str | bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(text.encode() if isinstance(text, str) else text)
        await self.writer.drain()

    async def until(self, mark: bytes) -> bytes:
        """Everything up to and including `mark`."""
        async with asyncio.timeout(10):
            return await self.reader.readuntil(mark)

    async def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        async with asyncio.timeout(10):
            return await self.reader.read()


@pytest.fixture
async def peer(sim: OllamaSimulator) -> AsyncIterator[Peer]:
    """One connection to the server."""
    reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
    yield Peer(reader, writer)
    writer.close()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)


def post(path: str, body: str, *headers: str) -> str:
    """A request with a body."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines) + "\r\n\r\n" + body


async def test_small_answers_have_a_length_large_ones_are_chunked(sim: OllamaSimulator, peer: Peer) -> None:
    """Go sets Content-Length itself up to 2048 bytes; a longer answer is sent chunked."""
    await peer.send("GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"Content-Length: 21\r\n" in await peer.until(b"}")
    for number in range(20):
        await peer.send(post("/api/copy", f'{{"source":"llama3.1:8b","destination":"m{number}"}}'))
        await peer.until(b"\r\n\r\n")
    await peer.send("GET /api/tags HTTP/1.1\r\nHost: localhost\r\n\r\n")
    head = await peer.until(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    assert b"Content-Length" not in head
    assert (await peer.until(b"\r\n0\r\n\r\n")).endswith(b"0\r\n\r\n")
    await peer.send("HEAD /api/tags HTTP/1.1\r\nHost: localhost\r\n\r\n")
    head = (await peer.until(b"\r\n\r\n")).lower()
    assert b"transfer-encoding" not in head
    assert b"content-length" not in head


async def test_each_token_is_a_chunk(peer: Peer) -> None:
    """On the wire: size line, one JSON line, and a terminating chunk."""
    await peer.send(post("/api/generate", '{"model":"llama3.1:8b","prompt":"x","options":{"num_predict":2}}'))
    await peer.until(b"\r\n\r\n")
    for word in (b"word0", b" word1"):
        size = int((await peer.until(b"\r\n")).strip(), 16)
        chunk = await peer.reader.readexactly(size + 2)
        assert chunk.endswith(b'"response":"' + word + b'","done":false}\n\r\n')
    assert (await peer.until(b"\r\n0\r\n\r\n")).count(b"\n") == 5


async def test_connections_are_reused(sim: OllamaSimulator, http: httpx.AsyncClient) -> None:
    """Keep-alive: several requests come on one connection, refused ones with a body among them."""
    for path in ("/api/chat", "/nope", "/api/chat"):
        await http.post(path, content=b"x" * 1000)
    assert (sim.connections, {one.connection for one in sim.requests}) == (1, {1})


async def test_pipelined_requests_are_answered_in_order(peer: Peer) -> None:
    """A second request sent early waits for its turn."""
    await peer.send(
        post("/api/generate", '{"model":"llama3.1:8b","prompt":"x","stream":false}')
        + "GET / HTTP/1.1\r\nHost: x.local\r\n\r\n"
    )
    assert b"word15" in await peer.until(b"}")
    assert b"200 OK" in await peer.until(b"Ollama is running")


async def test_expect_100_continue(sim: OllamaSimulator, peer: Peer) -> None:
    """The server asks for a body it wants, and refuses one it does not want without asking."""
    path = "/api/blobs/sha256:" + "0" * 64
    await peer.send(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    assert (await peer.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    await peer.send("abc")
    assert (await peer.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    assert (sim.requests[0].complete, bytes(sim.requests[0].body)) == (True, b"abc")


async def test_a_known_blob_is_not_read(sim: OllamaSimulator, peer: Peer) -> None:
    """200 without reading the body, then the connection is closed."""
    digest = "sha256:" + "a" * 64
    sim.library.blobs[digest] = b"x"
    await peer.send(
        f"POST /api/blobs/{digest} HTTP/1.1\r\nHost: localhost\r\n"
        "Content-Length: 100000000\r\nExpect: 100-continue\r\n\r\n"
    )
    answer = await peer.rest()
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert sim.requests[0].complete is False


async def test_chunked_uploads(sim: OllamaSimulator, peer: Peer) -> None:
    """A chunked body is put together; while it is open the request is incomplete."""
    await peer.send(
        'POST /api/show HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{"model":\r\n'
    )
    await eventually(lambda: bool(sim.requests) and len(sim.requests[0].body) == 9)
    assert sim.requests[0].complete is False
    await peer.send('d\r\n"llama3.1:8b"\r\n1\r\n}\r\n0\r\n\r\n')
    assert b"200 OK" in await peer.until(b"\r\n\r\n")
    assert bytes(sim.requests[0].body) == b'{"model":"llama3.1:8b"}'


async def test_an_upload_that_breaks_off_is_recorded_as_incomplete(sim: OllamaSimulator, peer: Peer) -> None:
    """A client that leaves in the middle of its body has an incomplete record and no answer."""
    await peer.send('POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{"model":')
    await eventually(lambda: bool(sim.requests) and len(sim.requests[0].body) == 9)
    peer.writer.close()
    await eventually(lambda: sim.open_connections == 0)
    assert (sim.requests[0].complete, sim.requests[0].status) == (False, None)


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        ("GET / HTTP/1.1\r\n\r\n", b"400 Bad Request"),
        ("nonsense\r\n\r\n", b"400 Bad Request"),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", b"400 Bad Request"),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nX: " + "a" * (1 << 21), b"431 Request Header Fields Too Large"),
    ],
)
async def test_unreadable_requests(peer: Peer, request_text: str, status: bytes) -> None:
    """Text answers and a close, as Go's server does before any route sees the request."""
    await peer.send(request_text)
    assert (await peer.rest()).startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("localhost", None, 200),
        ("127.0.0.1:11434", None, 200),
        ("[::1]:11434", None, 200),
        ("192.168.1.5", None, 200),
        ("gpu.internal", None, 200),
        ("example.com", None, 403),
        ("8.8.8.8", None, 403),
        ("localhost", "http://localhost:3000", 200),
        ("localhost", "https://example.com", 403),
        ("localhost", "http://localhost", 200),
        ("localhost", "app://obsidian.md", 200),
    ],
)
async def test_host_and_origin_are_checked(http: httpx.AsyncClient, host: str, origin: str | None, status: int) -> None:
    """A foreign Host or Origin gets an empty 403."""
    headers = {"Host": host} | ({"Origin": origin} if origin else {})
    answer = await http.get("/api/version", headers=headers)
    assert answer.status_code == status
    assert (answer.content == b"") == (status == 403)


async def test_records_keep_what_arrived(sim: OllamaSimulator, http: httpx.AsyncClient) -> None:
    """Method, target with query, headers in order and with their case, body, and what became of it."""
    await http.post("/api/show?x=1", json={"model": "llama3.1:8b"}, headers=[("X-One", "a"), ("x-one", "b")])
    (record,) = sim.requests
    assert (record.method, record.target, record.path) == ("POST", "/api/show?x=1", "/api/show")
    assert [value for name, value in record.headers if name.lower() == "x-one"] == ["a", "b"]
    assert (record.json, record.complete, record.finished, record.status) == (
        {"model": "llama3.1:8b"},
        True,
        True,
        200,
    )
    assert sim.requests_to("/api/show", "POST") == [record]
    assert "llama" not in repr(record)
