"""Exchanges without a task: a listener is called when there is something to ask for (`CallingUpstream`)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ollama_router_core.errors import (
    ConnectFailed,
    UpstreamDisconnected,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
)
from ollama_router_server.upstream.httptools_upstream import HttptoolsUpstream
from ollama_router_server.upstream.interface import Timeouts, UpstreamRequest
from support.eventually import eventually
from support.exchange import ask, to
from support.pauses import stay_silent
from support.scripted_server import Peer, ScriptedServer
from support.tap import closed_port

pytestmark = pytest.mark.anyio

SHORT = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Listener:
    """Does what a driver does when it is called: takes the head, then every piece, and notes how it ended."""

    def __init__(self) -> None:
        self.call: Any = None
        self.pieces: list[bytes] = []
        self.error: Exception | None = None
        self.calls = 0

    def __call__(self) -> None:
        """There is something."""
        self.calls += 1
        try:
            while self.call.head_arrived() and not self.call.complete and (piece := self.call.take()):
                self.pieces.append(piece)
        except UpstreamError as error:
            self.error = error

    @property
    def ended(self) -> bool:
        """Whether there is an end, good or bad."""
        return self.error is not None or bool(self.call.complete)


async def calling(upstream: HttptoolsUpstream, request: UpstreamRequest, *, warm: bool = True) -> Listener:
    """Send a request on a connection that an earlier one has left idle, or on a new one."""
    if warm:
        assert (await ask(upstream, to(request.origin.port))).body == b"ok"
    listener = Listener()
    listener.call = upstream.open(request, listener)
    assert listener.calls == 0
    return listener


def after_one(*pieces: bytes, ending: str = "stay") -> Any:
    """A script that answers a first request, and the second with these pieces."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(SHORT)
        await peer.head()
        await peer.send(*pieces)
        if ending == "stay":
            await peer.at_eof()
        elif ending == "reset":
            peer.reset()

    return script


async def test_without_an_idle_connection_one_is_made(upstream: HttptoolsUpstream) -> None:
    """The caller is told of the answer in the same way."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(SHORT)
        await peer.at_eof()

    async with ScriptedServer(script) as server:
        listener = await calling(upstream, to(server.port), warm=False)
        await eventually(lambda: listener.ended)
        assert (listener.call.status, listener.pieces) == (200, [b"ok"])
        listener.call.close()
        assert upstream.idle_connections == upstream.open_connections == 1


async def test_a_connection_that_cannot_be_made_is_announced(upstream: HttptoolsUpstream) -> None:
    """Nothing was sent: another server may be tried."""
    with closed_port() as port:
        listener = await calling(upstream, to(port), warm=False)
        await eventually(lambda: listener.ended)
    assert isinstance(listener.error, ConnectFailed)


async def test_a_call_that_is_closed_while_it_connects_sends_nothing(upstream: HttptoolsUpstream) -> None:
    """Nor is its listener called."""
    async with ScriptedServer(after_one()) as server:
        listener = await calling(upstream, to(server.port), warm=False)
        listener.call.close()
        await eventually(lambda: upstream.open_connections == 0 and server.open == 0)
        assert all(not peer.received for peer in server.peers)
    assert listener.calls == 0


async def test_a_request_that_cannot_be_written_is_told_either_way(upstream: HttptoolsUpstream) -> None:
    """At once on an idle connection, else when the head is asked for."""
    async with ScriptedServer(after_one()) as server:
        listener = await calling(upstream, to(server.port, target="/a b"), warm=False)
        with pytest.raises(ValueError, match="blanks"):
            await eventually(listener.call.head_arrived)
        with pytest.raises(ValueError, match="blanks"):
            await calling(upstream, to(server.port, target="/a b"))


async def test_head_pieces_and_end_are_announced(upstream: HttptoolsUpstream) -> None:
    """And the connection is free for the next request once the answer is closed."""
    pieces = (CHUNKED, b"3\r\nabc\r\n", b"2\r\nde\r\n", b"0\r\n\r\n")
    async with ScriptedServer(after_one(*pieces)) as server:
        listener = await calling(upstream, to(server.port))
        await eventually(lambda: listener.ended)
        assert (listener.call.status, b"".join(listener.pieces)) == (200, b"abcde")
        listener.call.close()
        assert upstream.idle_connections == upstream.open_connections == 1
        assert len(server.peers) == 1


@pytest.mark.parametrize("before", [b"", CHUNKED, CHUNKED + b"3\r\nabc\r\n"])
@pytest.mark.parametrize("ending", ["close", "reset"])
async def test_a_connection_that_ends_is_announced(upstream: HttptoolsUpstream, before: bytes, ending: str) -> None:
    """Before the head, after it, within the body: a disconnect, after what had come."""
    async with ScriptedServer(after_one(before, ending=ending)) as server:
        listener = await calling(upstream, to(server.port))
        await eventually(lambda: listener.ended)
        assert isinstance(listener.error, UpstreamDisconnected)
        await eventually(lambda: upstream.open_connections == 0)


async def test_bytes_that_are_not_http_are_announced(upstream: HttptoolsUpstream) -> None:
    """As a broken protocol, and the connection goes."""
    async with ScriptedServer(after_one(b"garbage\r\n\r\n")) as server:
        listener = await calling(upstream, to(server.port))
        await eventually(lambda: listener.ended)
        assert isinstance(listener.error, UpstreamProtocolError)
        await eventually(lambda: upstream.open_connections == 0)


@pytest.mark.parametrize(("before", "phase"), [(b"", "first_byte"), (CHUNKED, "idle")])
async def test_silence_is_announced(upstream: HttptoolsUpstream, before: bytes, phase: str) -> None:
    """The times for the first byte and between bytes hold without a task as well."""
    async with ScriptedServer(after_one(before)) as server:
        timeouts = Timeouts(first_byte=0.2, idle=0.2)
        listener = await calling(upstream, to(server.port, timeouts=timeouts))
        await eventually(lambda: listener.ended)
        assert isinstance(listener.error, UpstreamTimeout)
        assert listener.error.phase == phase


async def test_after_a_close_nothing_is_announced(upstream: HttptoolsUpstream) -> None:
    """The server sees the connection close, the listener hears no more of it."""
    async with ScriptedServer(after_one(CHUNKED)) as server:
        listener = await calling(upstream, to(server.port))
        await eventually(lambda: listener.call.status)
        calls = listener.calls
        listener.call.close()
        await eventually(lambda: server.open == 0 and upstream.open_connections == 0)
        assert listener.calls == calls


async def test_what_is_not_taken_stays_with_the_server(upstream: HttptoolsUpstream) -> None:
    """Its silence does not count meanwhile; then it goes on."""
    sent = 0

    async def flood(peer: Peer) -> None:
        nonlocal sent
        await peer.head()
        await peer.send(SHORT)
        await peer.head()
        await peer.send(CHUNKED)
        for _ in range(1024):
            await peer.send(b"10000\r\n%b\r\n" % (b"x" * 65_536))
            sent += 65_536
        await peer.send(b"0\r\n\r\n")

    holding = True
    taken = 0

    def listen() -> None:
        nonlocal taken
        if call.head_arrived() and not holding:
            while piece := call.take():
                taken += len(piece)

    async with ScriptedServer(flood) as server:
        assert (await ask(upstream, to(server.port))).body == b"ok"
        call: Any = upstream.open(to(server.port, timeouts=Timeouts(idle=0.2)), listen)
        last = -1
        async with asyncio.timeout(20):
            while sent != last or not sent:
                last = sent
                await stay_silent(0.3)
        assert sent < 64 * 1_048_576
        holding = False
        listen()
        await eventually(lambda: call.complete)
    assert taken == 64 * 1_048_576
