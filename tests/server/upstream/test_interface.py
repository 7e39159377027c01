"""The promises of `Upstream`, kept by both engines on both event loops, against scripted servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from ollama_router_core.errors import (
    ConnectFailed,
    UpstreamDisconnected,
    UpstreamProtocolError,
    UpstreamTimeout,
)
from ollama_router_server.upstream.interface import Origin, Timeouts, Upstream, UpstreamRequest
from support.eventually import eventually, settled
from support.exchange import ask, read_all, to
from support.pauses import stay_silent
from support.scripted_server import Peer, ScriptedServer

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def answering(*pieces: bytes, keep: bool = False):
    """A script that reads one request without a body, sends `pieces`, and closes unless `keep`."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(*pieces)
        if keep:
            await peer.at_eof()

    return script


# what is sent ---------------------------------------------------------------------------------------


async def test_request_is_sent_as_given_and_nothing_is_added(upstream: Upstream):
    """Only Host and framing are written by the engine: no user agent, no accepted encodings, no cookies."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.body(5)
        await peer.send(OK + b"Content-Length: 0\r\n\r\n")

    async with ScriptedServer(script) as server:
        request = to(
            server.port, "POST", "/api/chat?a=%41", headers=((b"x-one", b"1"), (b"accept", b"a/b")), body=b"hello"
        )
        await ask(upstream, request)
        head, _, body = server.peers[0].received.partition(b"\r\n\r\n")
        start, *fields = head.split(b"\r\n")
        assert start == b"POST /api/chat?a=%41 HTTP/1.1"
        assert sorted(field.lower() for field in fields) == sorted(
            [
                b"host: 127.0.0.1:%d" % server.port,
                b"x-one: 1",
                b"accept: a/b",
                b"content-length: 5",
            ]
        )
        assert body == b"hello"


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_empty_body_has_a_length(upstream: Upstream, method: str):
    """A server must not have to guess whether a POST without a body is complete."""
    async with ScriptedServer(answering(OK + b"Content-Length: 0\r\n\r\n")) as server:
        await ask(upstream, to(server.port, method))
        assert b"content-length: 0" in server.peers[0].received.lower()


async def trickle(*chunks: bytes) -> AsyncIterator[bytes]:
    """A body that arrives in pieces."""
    for chunk in chunks:
        await asyncio.sleep(0)
        yield chunk


async def test_iterator_body_without_length_is_sent_chunked(upstream: Upstream):
    """Every piece of a body of unknown length becomes a chunk; an empty piece does not end the body."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.until(b"0\r\n\r\n")
        await peer.send(OK + b"Content-Length: 2\r\n\r\nok")

    async with ScriptedServer(script) as server:
        answer = await ask(upstream, to(server.port, "POST", body=trickle(b"ab", b"", b"cde")))
        assert answer.body == b"ok"
        head, _, body = server.peers[0].received.partition(b"\r\n\r\n")
        assert b"transfer-encoding: chunked" in head.lower()
        assert body == b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"


async def test_iterator_body_with_length_is_sent_with_that_length(upstream: Upstream):
    """A known length goes into Content-Length and the bytes are sent as they are."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.body(5)
        await peer.send(OK + b"Content-Length: 0\r\n\r\n")

    async with ScriptedServer(script) as server:
        await ask(upstream, to(server.port, "POST", body=trickle(b"ab", b"cde"), body_length=5))
        head, _, body = server.peers[0].received.partition(b"\r\n\r\n")
        assert b"content-length: 5" in head.lower()
        assert b"transfer-encoding" not in head.lower()
        assert body == b"abcde"


@pytest.mark.parametrize("length", [4, 6])
async def test_body_of_another_length_than_declared_cuts_the_connection(upstream: Upstream, length: int):
    """A body that ends early or late is an error, and the server never sees a complete request."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.at_eof()

    async with ScriptedServer(script) as server:
        with pytest.raises(ValueError, match="declared length"):
            await ask(upstream, to(server.port, "POST", body=trickle(b"ab", b"cde"), body_length=length))
        await eventually(lambda: server.open == 0)
        assert len(server.peers[0].received.partition(b"\r\n\r\n")[2]) != length or length == 4


class UploadBrokenError(Exception):
    """The client left while sending."""


@pytest.mark.parametrize("length", [None, 100])
async def test_error_of_the_body_iterator_is_raised_and_cuts_the_connection(upstream: Upstream, length: int | None):
    """A client that leaves while uploading: its error comes out of `send`, the server sees a broken request."""

    async def body() -> AsyncIterator[bytes]:
        yield b"abc"
        raise UploadBrokenError

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.at_eof()

    async with ScriptedServer(script) as server:
        with pytest.raises(UploadBrokenError):
            await upstream.send(to(server.port, "POST", body=body(), body_length=length))
        await eventually(lambda: server.open == 0)
        assert b"0\r\n\r\n" not in server.peers[0].received.partition(b"\r\n\r\n")[2]


async def test_early_answer_arrives_while_the_body_is_still_being_sent(upstream: Upstream):
    """A server that refuses a blob early is heard at once; closing the answer ends the upload."""
    finished = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 1000
                await stay_silent(0.001)
        finally:
            finished.set()

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await peer.at_eof()

    async with ScriptedServer(script) as server:
        response = await upstream.send(to(server.port, "POST", body=endless()))
        assert response.status == 413
        assert await read_all(response) == b"big"
        response.close()
        await asyncio.wait_for(finished.wait(), 5)
        await eventually(lambda: server.open == 0)


async def test_upload_waits_for_a_server_that_does_not_read(upstream: Upstream):
    """Backpressure: what the iterator is asked for stays bounded while the server takes nothing."""
    asked = 0

    async def large() -> AsyncIterator[bytes]:
        nonlocal asked
        for _ in range(1024):
            asked += 1
            yield b"x" * 65536

    release = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        await release.wait()

    async with ScriptedServer(script) as server:
        task = asyncio.create_task(upstream.send(to(server.port, "POST", body=large())))
        await settled(lambda: asked)
        assert asked < 200  # 12 MiB: what two kernels and two buffers hold, out of 64 MiB
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        release.set()


# what is read ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (OK + b"Content-Length: 5\r\n\r\nhello", 200, b"hello"),
        (OK + b"Content-Length: 0\r\n\r\n", 200, b""),
        (CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", 200, b"abcde"),
        (CHUNKED + b'3;name=value;q="x"\r\nabc\r\n0\r\n\r\n', 200, b"abc"),
        (CHUNKED + b"3\r\nabc\r\n0\r\nX-Checksum: 1\r\n\r\n", 200, b"abc"),
        (OK + b"\r\nuntil the end", 200, b"until the end"),
        (b"HTTP/1.0 200 OK\r\n\r\nold", 200, b"old"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", 304, b""),
        (b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n", 302, b""),
        (b"HTTP/1.1 599 Odd\r\nContent-Length: 0\r\n\r\n", 599, b""),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok",
            200,
            b"ok",
        ),
    ],
)
async def test_answers(upstream: Upstream, answer: bytes, status: int, body: bytes):
    """Lengths, chunks with extensions and trailers, close-delimited, bodiless and interim answers are understood."""
    async with ScriptedServer(answering(answer)) as server:
        result = await ask(upstream, to(server.port))
        assert (result.status, result.body) == (status, body)
        assert not {b"link", b"x-checksum"} & {name for name, _ in result.headers}


@pytest.mark.parametrize("fields", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b""])
async def test_answer_to_head_has_no_body(upstream: Upstream, fields: bytes):
    """The framing of an answer to HEAD speaks of a body that is not there."""
    async with ScriptedServer(answering(OK + fields + b"\r\n", keep=True)) as server:
        assert await ask(upstream, to(server.port, "HEAD")) is not None


async def test_fields_come_as_sent_in_lower_case_and_order(upstream: Upstream):
    """Nothing is dropped, joined or reordered, and repeated fields stay repeated; blanks around values go."""
    head = (
        OK
        + b"X-A:  1 \r\nSet-Cookie: a=b\r\nset-cookie: c=d\r\nX-E:\r\n"
        + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nzzzz"
    )
    async with ScriptedServer(answering(head)) as server:
        answer = await ask(upstream, to(server.port))
        assert answer.headers == (
            (b"x-a", b"1"),
            (b"set-cookie", b"a=b"),
            (b"set-cookie", b"c=d"),
            (b"x-e", b""),
            (b"content-encoding", b"gzip"),
            (b"content-length", b"4"),
        )
        assert answer.body == b"zzzz"


async def test_cookies_are_not_kept(upstream: Upstream):
    """What one user's answer sets never travels with the next user's request."""

    async def script(peer: Peer) -> None:
        for _ in range(2):
            await peer.head()
            await peer.send(OK + b"Set-Cookie: session=secret\r\nContent-Length: 0\r\n\r\n")

    async with ScriptedServer(script) as server:
        await ask(upstream, to(server.port))
        await ask(upstream, to(server.port))
        assert b"cookie" not in b"".join(peer.received for peer in server.peers).lower()


async def test_pieces_are_handed_on_as_they_come(upstream: Upstream):
    """No token waits for the next one."""
    step = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(CHUNKED)
        for _ in range(3):
            await peer.send(b"5\r\ntoken\r\n")
            await step.wait()
            step.clear()
        await peer.send(b"0\r\n\r\n")

    async with ScriptedServer(script) as server:
        response = await upstream.send(to(server.port))
        for _ in range(3):
            assert await response.read() == b"token"
            step.set()
        assert await response.read() == b""
        assert await response.read() == b""
        response.close()


async def test_slow_reader_holds_the_server_back(upstream: Upstream):
    """Backpressure: a server's gigabyte stays with the server while nobody reads here."""
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.head()
        await peer.send(OK + b"Content-Length: 67108864\r\n\r\n")
        for _ in range(1024):
            await peer.send(b"x" * 65536)
            sent += 1

    async with ScriptedServer(script) as server:
        response = await upstream.send(to(server.port))
        await settled(lambda: sent)
        assert sent < 200
        total = 0
        while piece := await response.read():
            assert len(piece) <= 256 * 1024
            total += len(piece)
        assert total == 67108864
        response.close()


# what goes wrong ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Content-Length: 10\r\n\r\nshort",
        CHUNKED + b"5\r\nhel",
        CHUNKED + b"5\r\nhello\r\n",
    ],
)
@pytest.mark.parametrize("ending", ["close", "half_close", "reset"])
async def test_truncated_answer_never_ends_as_complete(upstream: Upstream, answer: bytes, ending: str):
    """However the connection ends, a body without its last byte is `UpstreamDisconnected`."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(answer)
        if ending == "reset":
            peer.reset()
        elif ending == "half_close":
            peer.half_close()
            await peer.at_eof()

    async with ScriptedServer(script) as server:
        with pytest.raises(UpstreamDisconnected):
            await ask(upstream, to(server.port))


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 200 O", b"HTTP/1.1 100 Continue\r\n\r\n"])
@pytest.mark.parametrize("ending", ["close", "half_close", "reset"])
async def test_connection_that_ends_before_the_head_is_a_disconnect(upstream: Upstream, before: bytes, ending: str):
    """The request was delivered and may have run."""

    async def script(peer: Peer) -> None:
        await peer.head()
        if before:
            await peer.send(before)
        if ending == "reset":
            peer.reset()
        elif ending == "half_close":
            peer.half_close()
            await peer.at_eof()

    async with ScriptedServer(script) as server:
        with pytest.raises(UpstreamDisconnected):
            await ask(upstream, to(server.port, "POST", body=b"{}"))
        assert len(server.peers) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00\x01\x02\x03\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        OK + b"Content-Length: +3\r\n\r\nabc",
        OK + b"Content-Length: 3, 4\r\n\r\nabc",
        OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        OK + b"X-A : b\r\nContent-Length: 0\r\n\r\n",
        OK + b"X-A: a\x00b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        OK + b"X-Big: " + b"a" * 70_000 + b"\r\n\r\n",
        CHUNKED + b"zz\r\nabc\r\n0\r\n\r\n",
        CHUNKED + b"ffffffffffffffffff\r\nabc",
    ],
)
async def test_bytes_that_are_not_acceptable_http(upstream: Upstream, answer: bytes):
    """Garbage, ambiguous framing and oversized heads are `UpstreamProtocolError`, and the connection goes."""
    async with ScriptedServer(answering(answer, keep=True)) as server:
        with pytest.raises(UpstreamProtocolError):
            await ask(upstream, to(server.port))
        await eventually(lambda: server.open == 0)


async def test_refused_connection(upstream: Upstream):
    """Nothing was sent, and the error says where."""
    async with ScriptedServer(answering()) as server:
        port = server.port
    with pytest.raises(ConnectFailed, match=f"127.0.0.1:{port}"):
        await upstream.send(to(port))


async def test_unknown_host(upstream: Upstream):
    """A name that does not resolve is a connection that was not made."""
    with pytest.raises(ConnectFailed):
        await upstream.send(UpstreamRequest(origin=Origin("http", "no-such-host.invalid", 1), method="GET", target="/"))


async def test_connect_timeout(upstream: Upstream):
    """A server whose backlog is full does not answer the handshake: `ConnectFailed`, nothing was sent."""
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(3)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            with pytest.raises(ConnectFailed):
                await upstream.send(to(port, timeouts=Timeouts(connect=0.2)))
        finally:
            for filler in fillers:
                filler.close()


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_first_byte_timeout(upstream: Upstream, before: bytes):
    """A silent server, or one that only says it will go on: timeout in the phase `first_byte`."""

    async def script(peer: Peer) -> None:
        await peer.head()
        if before:
            await peer.send(before)
        await peer.at_eof()

    async with ScriptedServer(script) as server:
        with pytest.raises(UpstreamTimeout) as caught:
            await upstream.send(to(server.port, timeouts=Timeouts(connect=0.5, first_byte=0.1)))
        assert caught.value.phase == "first_byte"
        await eventually(lambda: server.open == 0)


async def test_idle_timeout(upstream: Upstream):
    """A server that falls silent in the middle: what came is delivered, then timeout in the phase `idle`."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(CHUNKED + b"3\r\nabc\r\n")
        await peer.at_eof()

    async with ScriptedServer(script) as server:
        response = await upstream.send(to(server.port, timeouts=Timeouts(idle=0.1)))
        assert await response.read() == b"abc"
        with pytest.raises(UpstreamTimeout) as caught:
            await response.read()
        assert caught.value.phase == "idle"
        response.close()
        await eventually(lambda: server.open == 0)


async def test_a_reader_that_pauses_is_not_the_servers_silence(upstream: Upstream):
    """The idle clock runs only while somebody waits for bytes: a slow client is not the server's fault."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(CHUNKED + b"3\r\nabc\r\n")
        await stay_silent(0.3)
        await peer.send(b"3\r\ndef\r\n0\r\n\r\n")

    async with ScriptedServer(script) as server:
        response = await upstream.send(to(server.port, timeouts=Timeouts(first_byte=0.15, idle=0.2)))
        assert await response.read() == b"abc"
        await stay_silent(0.25)
        assert await read_all(response) == b"def"
        response.close()


async def test_first_byte_may_take_longer_than_idle(upstream: Upstream):
    """Loading a model takes minutes: the idle limit does not apply before the head."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await stay_silent(0.2)
        await peer.send(OK + b"Content-Length: 2\r\n\r\nok")

    async with ScriptedServer(script) as server:
        answer = await ask(upstream, to(server.port, timeouts=Timeouts(first_byte=5.0, idle=0.05)))
        assert answer.body == b"ok"


# leaving --------------------------------------------------------------------------------------------


async def test_cancelling_send_cuts_the_connection(upstream: Upstream):
    """A client that leaves while the model loads: the server notices at once."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.at_eof()

    async with ScriptedServer(script) as server:
        task = asyncio.create_task(upstream.send(to(server.port)))
        await eventually(lambda: bool(server.peers and server.peers[0].received))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: server.open == 0, seconds=1)


async def test_cancelling_read_loses_nothing(upstream: Upstream):
    """A cancelled `read` may be called again; the answer is still the caller's to close."""
    step = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(CHUNKED)
        await step.wait()
        await peer.send(b"3\r\nabc\r\n0\r\n\r\n")

    async with ScriptedServer(script) as server:
        response = await upstream.send(to(server.port))
        task = asyncio.create_task(response.read())
        await eventually(lambda: task.get_coro().cr_await is not None)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        step.set()
        assert await read_all(response) == b"abc"
        response.close()


async def test_closing_an_unfinished_answer_cuts_the_connection(upstream: Upstream):
    """`close` before the end is how the server learns that nobody wants the rest."""
    async with ScriptedServer(answering(CHUNKED + b"3\r\nabc\r\n", keep=True)) as server:
        response = await upstream.send(to(server.port))
        assert await response.read() == b"abc"
        response.close()
        await eventually(lambda: server.open == 0, seconds=1)


def serving(count: int = 1000, answer: bytes = OK + b"Content-Length: 2\r\n\r\nok"):
    """A script that answers many requests on one connection."""

    async def script(peer: Peer) -> None:
        for _ in range(count):
            await peer.head()
            await peer.send(answer)
        await peer.at_eof()

    return script


async def test_finished_connections_are_used_again(upstream: Upstream):
    """Ten requests one after another need one connection, read to the end or closed after it."""
    async with ScriptedServer(serving()) as server:
        for _ in range(10):
            await ask(upstream, to(server.port))
        assert len(server.peers) == 1


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        OK + b"Content-Length: 2\r\n\r\nok" + OK + b"Content-Length: 6\r\n\r\npoison",
    ],
    ids=["connection-close", "http-1.0", "more-than-asked-for"],
)
async def test_connections_that_cannot_be_trusted_are_not_used_again(upstream: Upstream, answer: bytes):
    """The server said so, or sent bytes that would answer somebody else's request."""
    async with ScriptedServer(serving(answer=answer)) as server:
        for _ in range(3):
            assert (await ask(upstream, to(server.port))).body == b"ok"
            await eventually(lambda: upstream.open_connections == 0)
        assert len(server.peers) == 3


async def test_connection_closed_while_idle_is_not_used(upstream: Upstream):
    """A server that closes idle connections costs a new connection, never a failed request."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(OK + b"Content-Length: 2\r\n\r\nok")

    async with ScriptedServer(script) as server:
        for number in range(5):
            assert (await ask(upstream, to(server.port, "POST", body=b"{}"))).body == b"ok"
            await eventually(lambda: server.open == 0 and upstream.open_connections == 0)
            assert len(server.peers) == number + 1


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_nothing_is_sent_twice(upstream: Upstream, method: str):
    """A reused connection that dies after the request was written is told to the caller, idempotent or not."""
    requests = 0

    async def script(peer: Peer) -> None:
        nonlocal requests
        await peer.head()
        requests += 1
        await peer.send(OK + b"Content-Length: 2\r\n\r\nok")
        await peer.head()
        requests += 1
        peer.reset()

    async with ScriptedServer(script) as server:
        await ask(upstream, to(server.port, method))
        with pytest.raises(UpstreamDisconnected):
            await ask(upstream, to(server.port, method))
        assert upstream.open_connections == 0
        assert (requests, len(server.peers)) == (2, 1)


async def test_cancel_churn_leaves_the_engine_usable(upstream: Upstream):
    """20 callers that give up at random moments: afterwards it answers, and every socket is closed."""
    import random

    rng = random.Random(5)  # noqa: S311  # moments to give up at, nothing secret

    async def script(peer: Peer) -> None:
        while True:
            await peer.head()
            await stay_silent(rng.random() * 0.004)
            await peer.send(CHUNKED + b"3\r\nabc\r\n")
            await stay_silent(rng.random() * 0.004)
            await peer.send(b"3\r\ndef\r\n0\r\n\r\n")

    async def caller(port: int) -> None:
        for _ in range(15):
            with suppress(TimeoutError):
                async with asyncio.timeout(rng.random() * 0.012):
                    await ask(upstream, to(port))

    async with ScriptedServer(script) as server:
        await asyncio.gather(*(caller(server.port) for _ in range(20)))
        for _ in range(5):
            assert (await ask(upstream, to(server.port))).body == b"abcdef"
        await upstream.aclose()
        await eventually(lambda: server.open == 0)


async def test_aclose_is_idempotent_and_closes_everything(upstream: Upstream):
    """After `aclose` no socket is left, whatever was in flight."""
    async with ScriptedServer(answering(CHUNKED + b"3\r\nabc\r\n", keep=True)) as server:
        response = await upstream.send(to(server.port))
        await upstream.aclose()
        await upstream.aclose()
        await eventually(lambda: server.open == 0)
        response.close()
