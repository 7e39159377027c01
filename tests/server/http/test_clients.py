"""The clients people use get through: what is strict to attackers must not be strict to them."""

from __future__ import annotations

import http.client
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import httpx
import pytest

from ollama_router_server.upstream.httptools_upstream import HttptoolsUpstream
from support.exchange import ask, to
from support.pauses import stay_silent
from support.strict_front import Front, read_to_end, serve_front

BODY = b"x" * 300_000


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def front(request: pytest.FixtureRequest) -> Iterator[Front]:
    """A server on each event loop."""
    with serve_front(request.param) as running:
        yield running


def test_httpx(front: Front):
    """Small, large and streamed bodies over one kept connection."""
    with httpx.Client(base_url=f"http://127.0.0.1:{front.port}", trust_env=False) as client:
        assert client.get("/x", params={"a": "b c"}).status_code == 200
        assert client.post("/x", json={"model": "m"}).json() == {"model": "m"}
        assert client.post("/x", content=BODY).content == BODY
        assert client.post("/x", content=iter([b"ab", b"c" * 100_000, b"d"])).content == b"ab" + b"c" * 100_000 + b"d"
        assert client.put("/x", content=b"").status_code == 200


@pytest.mark.anyio
async def test_aiohttp(front: Front):
    """The same with aiohttp, Expect: 100-continue included."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"abc"
            await stay_silent(0.01)

    async with aiohttp.ClientSession(f"http://127.0.0.1:{front.port}") as session:
        for options in ({"data": BODY}, {"data": BODY, "expect100": True}):
            async with session.post("/x", **options) as response:
                assert await response.read() == BODY
        async with session.post("/x", data=pieces()) as response:
            assert await response.read() == b"abcabcabc"


@pytest.mark.anyio
async def test_our_own_upstream_engine(front: Front):
    """One router may stand behind another."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"abc"
        yield b"def"

    engine = HttptoolsUpstream()
    for body, expected in ((b"abc", b"abc"), (BODY, BODY), (pieces(), b"abcdef")):
        assert (await ask(engine, to(front.port, "POST", "/x", body=body))).body == expected
    assert engine.open_connections == 1
    await engine.aclose()


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs the curl command")
@pytest.mark.parametrize(
    "options",
    [
        ["--data-binary", "@{file}"],
        ["--data-binary", "@{file}", "-H", "Expect: 100-continue"],
        ["--data-binary", "@{file}", "-H", "Transfer-Encoding: chunked"],
        ["--data-binary", "@{file}", "--http1.0"],
        ["--data-binary", "@{file}", "--http2"],
        ["-T", "{file}"],
    ],
    ids=["data", "expect", "chunked", "http1.0", "http2-upgrade-offer", "upload"],
)
def test_curl(front: Front, tmp_path: Path, options: list[str]):
    """Whatever curl's options make of an upload, the body arrives whole and comes back."""
    file = tmp_path / "body"
    file.write_bytes(BODY)
    command = ["curl", "-sS", "--max-time", "20", "--noproxy", "*", f"http://127.0.0.1:{front.port}/x"]
    result = subprocess.run(
        [*command, *(option.format(file=file) for option in options)], check=True, capture_output=True
    )
    assert result.stdout == BODY


def test_http_client_of_the_standard_library(front: Front):
    """Kept connections, and a chunked body from an iterator."""
    connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=10)
    for _ in range(3):
        connection.request("POST", "/x", body=iter([b"abc", b"def"]), encode_chunked=True)
        assert connection.getresponse().read() == b"abcdef"
    connection.close()


def test_expectation_is_met_only_when_the_body_is_wanted(front: Front):
    """100 Continue is sent once, before the body, and not to HTTP/1.0."""
    with front.connect() as sock:
        sock.sendall(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert sock.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"abc")
        assert sock.recv(65536).startswith(b"HTTP/1.1 200 OK")
    with front.connect() as sock:
        sock.sendall(b"POST /x HTTP/1.0\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc")
        assert read_to_end(sock).startswith(b"HTTP/1.1 200 OK")


def test_pipelined_requests_are_answered_in_order_while_the_first_is_slow(front: Front):
    """What comes after a request waits for its answer, and is not lost."""
    front.app.released.clear()
    with front.connect() as sock:
        sock.sendall(b"POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nfirst")
        for number in range(50):
            sock.sendall(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n%02d" % number)
        sock.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        front.app.released.set()
        answers = read_to_end(sock).split(b"HTTP/1.1 200 OK\r\n")[1:]
    bodies = [answer.partition(b"\r\n\r\n")[2] for answer in answers]
    assert bodies == [b"first", *(b"%02d" % number for number in range(50)), b""]


def test_http_1_0_gets_no_chunks(front: Front):
    """Without a length an answer to HTTP/1.0 ends with the connection, and says so."""
    answer = front.exchange(b"GET /pieces HTTP/1.0\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert b"connection: close" in head.lower()
    assert body == b"one two three"


def test_http_1_0_sees_that_an_answer_was_cut(front: Front):
    """Its connection is reset: an end would look like the end of the answer."""
    with front.connect() as sock:
        sock.sendall(b"GET /unfinished HTTP/1.0\r\n\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
        with pytest.raises(ConnectionResetError):
            _read_on(sock)


def _read_on(sock: socket.socket) -> None:
    while sock.recv(65536):
        pass
