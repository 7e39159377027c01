"""What the httptools engine promises beyond the interface: reuse, bounds, TLS, and no socket left behind."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ollama_router_core.errors import ConnectFailed, UpstreamDisconnected, UpstreamProtocolError, UpstreamTimeout
from ollama_router_server.upstream.httptools_upstream import HttptoolsUpstream
from ollama_router_server.upstream.interface import Timeouts
from support.certificates import certificate_for_loopback, server_tls
from support.eventually import eventually, settled
from support.exchange import ask, read_all, to
from support.pauses import stay_silent
from support.scripted_server import Peer, ScriptedServer

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\n"
SHORT = OK + b"Content-Length: 2\r\n\r\nok"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


async def serve(peer: Peer) -> None:
    """Answer every request on the connection."""
    while True:
        await peer.head()
        await peer.send(SHORT)


async def test_an_end_that_the_loop_has_not_seen_yet_is_seen_before_reuse(upstream: HttptoolsUpstream):
    """The kernel is asked: even if the event loop had no turn since the server closed, nothing is written."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(5)
        port = listener.getsockname()[1]

        def first() -> socket.socket:
            accepted, _ = listener.accept()
            accepted.recv(65536)
            accepted.sendall(SHORT)
            return accepted

        accepting = asyncio.get_running_loop().run_in_executor(None, first)
        await ask(upstream, to(port))
        accepted = await accepting
        assert upstream.idle_connections == 1
        accepted.close()  # from here to the next send the loop does not turn
        accepting = asyncio.get_running_loop().run_in_executor(None, first)
        sending = asyncio.ensure_future(ask(upstream, to(port, "POST", body=b"{}")))
        assert (await sending).body == b"ok"
        (await accepting).close()


async def test_idle_connection_is_dropped_when_the_server_says_something(upstream: HttptoolsUpstream):
    """Bytes nobody asked for, for example 408 Request Timeout, end an idle connection."""
    step = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(SHORT)
        await step.wait()
        await peer.send(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        await peer.at_eof()

    async with ScriptedServer(script) as server:
        await ask(upstream, to(server.port))
        assert upstream.idle_connections == 1
        step.set()
        await eventually(lambda: upstream.open_connections == 0)
        assert upstream.idle_connections == 0


async def test_idle_connections_are_closed_after_their_time():
    """A connection that nobody needs does not stay open for ever."""
    upstream = HttptoolsUpstream(keepalive=0.05)
    async with ScriptedServer(serve) as server:
        await ask(upstream, to(server.port))
        assert upstream.open_connections == 1
        await eventually(lambda: server.open == 0)
        assert (upstream.open_connections, upstream.idle_connections) == (0, 0)
    await upstream.aclose()


async def test_last_in_first_out(upstream: HttptoolsUpstream):
    """The connection used last is used next, so surplus ones grow old and go."""
    async with ScriptedServer(serve) as server:
        await asyncio.gather(*(ask(upstream, to(server.port)) for _ in range(4)))
        assert upstream.idle_connections == 4
        for _ in range(8):
            await ask(upstream, to(server.port))
        assert sorted(peer.received.count(b"GET") for peer in server.peers) == [1, 1, 1, 9]


async def test_origins_do_not_share_connections(upstream: HttptoolsUpstream):
    """A connection serves the host, port and scheme it was made for."""
    async with ScriptedServer(serve) as one, ScriptedServer(serve) as two:
        for server in (one, two, one, two):
            await ask(upstream, to(server.port))
        assert (len(one.peers), len(two.peers)) == (1, 1)


async def test_head_is_followed_by_another_request_on_the_same_connection(upstream: HttptoolsUpstream):
    """An answer to HEAD with a length leaves the connection in order."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(OK + b"Content-Length: 1000\r\n\r\n")
        await serve(peer)

    async with ScriptedServer(script) as server:
        assert (await ask(upstream, to(server.port, "HEAD"))).body == b""
        assert (await ask(upstream, to(server.port))).body == b"ok"
        assert len(server.peers) == 1


async def test_refused_request_does_not_cost_the_connection(upstream: HttptoolsUpstream):
    """A head that may not be sent was not sent: the connection stays good."""
    async with ScriptedServer(serve) as server:
        await ask(upstream, to(server.port))
        with pytest.raises(ValueError, match="control characters"):
            await upstream.send(to(server.port, target="/\r\nX: y"))
        await ask(upstream, to(server.port))
        assert len(server.peers) == 1


async def test_close_after_the_last_byte_without_reading_keeps_the_connection(upstream: HttptoolsUpstream):
    """An answer that has arrived whole costs nothing to throw away."""
    async with ScriptedServer(serve) as server:
        for _ in range(3):
            response = await upstream.send(to(server.port))
            response.close()
            response.close()
            with pytest.raises(UpstreamDisconnected):
                await response.read()
        assert len(server.peers) == 1


async def test_buffered_bytes_are_bounded(upstream: HttptoolsUpstream):
    """At most 256 KiB of an answer are held while nobody reads."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(OK + b"Content-Length: 8388608\r\n\r\n", b"x" * 8388608)

    async with ScriptedServer(script) as server:
        response = await upstream.send(to(server.port))
        connection = response._call.connection
        assert connection is not None
        await eventually(lambda: connection._read_paused)
        await settled(lambda: connection.parser.buffered)
        assert 0 < connection.parser.buffered <= 256 * 1024
        assert len(await read_all(response)) == 8388608
        assert upstream.idle_connections == 1


async def test_a_trickle_of_head_bytes_does_not_move_the_deadline(upstream: HttptoolsUpstream):
    """First byte means the whole head: one byte now and then does not count."""

    async def script(peer: Peer) -> None:
        await peer.head()
        for byte in OK * 100:
            await peer.send(bytes([byte]))
            await stay_silent(0.02)

    async with ScriptedServer(script) as server:
        with pytest.raises(UpstreamTimeout) as caught:
            await upstream.send(to(server.port, timeouts=Timeouts(first_byte=0.15)))
        assert caught.value.phase == "first_byte"


@pytest.mark.parametrize("kind", ["bytes", "iterator"])
async def test_a_server_that_stops_taking_the_request(upstream: HttptoolsUpstream, kind: str):
    """An upload without any progress ends in the phase `send`, long before the limit for the first byte."""

    async def large() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    stuck = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        await stuck.wait()

    async with ScriptedServer(script) as server:
        body = b"x" * 33_554_432 if kind == "bytes" else large()
        with pytest.raises(UpstreamTimeout) as caught:
            await upstream.send(to(server.port, "POST", body=body, timeouts=Timeouts(idle=0.2)))
        assert caught.value.phase == "send"
        stuck.set()


async def test_a_slow_upload_is_not_a_stuck_one(upstream: HttptoolsUpstream):
    """As long as the server takes bytes, an upload may take longer than every limit."""

    async def script(peer: Peer) -> None:
        await peer.head()
        left = 16_777_216
        while left:
            left -= len(await peer.body(min(left, 524_288)))
            await stay_silent(0.06)
        await peer.send(SHORT)

    async with ScriptedServer(script) as server:
        request = to(server.port, "POST", body=b"x" * 16_777_216, timeouts=Timeouts(first_byte=1.2, idle=1.2))
        assert (await ask(upstream, request)).body == b"ok"


async def test_time_to_first_byte_begins_after_the_upload(upstream: HttptoolsUpstream):
    """A client that uploads slowly does not use up the server's time to answer."""

    async def slow() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield b"abc"
            await stay_silent(0.06)

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.until(b"0\r\n\r\n")
        await peer.send(SHORT)

    async with ScriptedServer(script) as server:
        request = to(server.port, "POST", body=slow(), timeouts=Timeouts(first_byte=0.15))
        assert (await ask(upstream, request)).body == b"ok"


async def test_upload_ends_when_the_server_goes(upstream: HttptoolsUpstream):
    """The source is closed as soon as nobody listens any more, also while it is waiting for its client."""
    closed = asyncio.Event()

    async def stalled() -> AsyncIterator[bytes]:
        try:
            yield b"abc"
            await asyncio.Event().wait()
        finally:
            closed.set()

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.reset()

    async with ScriptedServer(script) as server:
        with pytest.raises(UpstreamDisconnected):
            await upstream.send(to(server.port, "POST", body=stalled()))
        await asyncio.wait_for(closed.wait(), 5)


async def test_closing_the_engine_fails_what_is_in_flight():
    """`aclose` does not wait for answers, and nothing new begins."""
    upstream = HttptoolsUpstream()

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.at_eof()

    async with ScriptedServer(script) as server:
        sending = asyncio.ensure_future(upstream.send(to(server.port)))
        await eventually(lambda: bool(server.peers and server.peers[0].received))
        await upstream.aclose()
        with pytest.raises(UpstreamDisconnected):
            await sending
        with pytest.raises(ConnectFailed):
            await upstream.send(to(server.port))
        assert upstream.open_connections == 0


async def test_a_head_in_pieces_is_one_head(upstream: HttptoolsUpstream):
    """Every byte in a segment of its own."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(*(bytes([byte]) for byte in CHUNKED + b"3;x=y\r\nabc\r\n0\r\nT: t\r\n\r\n"))
        await peer.at_eof()

    async with ScriptedServer(script) as server:
        assert (await ask(upstream, to(server.port))).body == b"abc"
        assert upstream.idle_connections == 1


async def test_error_texts_name_the_server_and_hold_none_of_its_bytes(upstream: HttptoolsUpstream):
    """A server that echoes a key in garbage does not get it into our errors."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"sk-secret-key\r\n\r\n")

    async with ScriptedServer(script) as server:
        with pytest.raises(UpstreamProtocolError, match=f"127.0.0.1:{server.port}") as caught:
            await upstream.send(to(server.port))
        assert "sk-secret" not in str(caught.value)


# TLS ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh key and a self-signed certificate for 127.0.0.1, in one file."""
    return certificate_for_loopback(tmp_path_factory.mktemp("tls"))


async def test_tls_to_a_trusted_server(certificate: Path):
    """Requests to https origins are encrypted, verified, and their connections are used again."""
    upstream = HttptoolsUpstream(ssl_context=ssl.create_default_context(cafile=str(certificate)))
    async with ScriptedServer(serve, tls=server_tls(certificate)) as server:
        for _ in range(3):
            assert (await ask(upstream, to(server.port, scheme="https"))).body == b"ok"
        assert len(server.peers) == 1
        await upstream.aclose()
        await eventually(lambda: server.open == 0)


async def test_tls_to_an_untrusted_server(upstream: HttptoolsUpstream, certificate: Path):
    """Verification is on unless a context says otherwise: nothing is sent to a server that cannot prove its name."""
    async with ScriptedServer(serve, tls=server_tls(certificate)) as server:
        with pytest.raises(ConnectFailed, match="not trusted"):
            await upstream.send(to(server.port, scheme="https"))
        assert not any(peer.received for peer in server.peers)
