"""Exchanges without a task: a listener is called when there is something to take (`ListeningUpstream`)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ollama_router_core.errors import UpstreamDisconnected, UpstreamProtocolError, UpstreamTimeout
from ollama_router_server.upstream.engine import HttptoolsUpstream
from ollama_router_server.upstream.interface import Timeouts, UpstreamRequest
from support.eventually import eventually, settled
from support.exchange import ask, to
from support.scripted_server import Peer, ScriptedServer

pytestmark = pytest.mark.anyio

SHORT = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Listener:
    """Does what a relay does when it is called: takes the head, then every piece, and notes how it ended."""

    def __init__(self) -> None:
        self.exchange: Any = None
        self.response: Any = None
        self.pieces: list[bytes] = []
        self.error: Exception | None = None
        self.calls = 0

    def __call__(self) -> None:
        """There is something."""
        self.calls += 1
        try:
            if self.response is None:
                self.response = self.exchange.response()
            if self.response is not None and self.response.ready:
                self.pieces.append(self.response.take())
            elif self.response is not None:
                self.response.take()
        except (UpstreamDisconnected, UpstreamProtocolError, UpstreamTimeout) as error:
            self.error = error

    @property
    def ended(self) -> bool:
        """Whether there is an end, good or bad."""
        return self.error is not None or (self.response is not None and self.response.complete)


async def listening(upstream: HttptoolsUpstream, request: UpstreamRequest) -> Listener:
    """Begin a request on a connection that an earlier one has left idle."""
    assert (await ask(upstream, to(request.origin.port))).body == b"ok"
    listener = Listener()
    listener.exchange = upstream.begin(request, listener)
    assert listener.exchange is not None
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


async def test_without_an_idle_connection_nothing_is_begun(upstream: HttptoolsUpstream) -> None:
    """The caller waits for a new connection in its own way."""
    async with ScriptedServer(after_one()) as server:
        assert upstream.begin(to(server.port), lambda: None) is None
        assert server.peers == []


async def test_head_pieces_and_end_are_announced(upstream: HttptoolsUpstream) -> None:
    """And the connection is free for the next request once the answer is closed."""
    pieces = (CHUNKED, b"3\r\nabc\r\n", b"2\r\nde\r\n", b"0\r\n\r\n")
    async with ScriptedServer(after_one(*pieces)) as server:
        listener = await listening(upstream, to(server.port))
        await eventually(lambda: listener.ended)
        assert (listener.response.status, b"".join(listener.pieces)) == (200, b"abcde")
        listener.response.close()
        assert upstream.idle_connections == upstream.open_connections == 1
        assert len(server.peers) == 1


@pytest.mark.parametrize("before", [b"", CHUNKED, CHUNKED + b"3\r\nabc\r\n"])
@pytest.mark.parametrize("ending", ["close", "reset"])
async def test_a_connection_that_ends_is_announced(upstream: HttptoolsUpstream, before: bytes, ending: str) -> None:
    """Before the head, after it, within the body: a disconnect, after what had come."""
    async with ScriptedServer(after_one(before, ending=ending)) as server:
        listener = await listening(upstream, to(server.port))
        await eventually(lambda: listener.ended)
        assert isinstance(listener.error, UpstreamDisconnected)
        await eventually(lambda: upstream.open_connections == 0)


async def test_bytes_that_are_not_http_are_announced(upstream: HttptoolsUpstream) -> None:
    """As a broken protocol, and the connection goes."""
    async with ScriptedServer(after_one(b"garbage\r\n\r\n")) as server:
        listener = await listening(upstream, to(server.port))
        await eventually(lambda: listener.ended)
        assert isinstance(listener.error, UpstreamProtocolError)
        await eventually(lambda: upstream.open_connections == 0)


@pytest.mark.parametrize(("before", "phase"), [(b"", "first_byte"), (CHUNKED, "idle")])
async def test_silence_is_announced(upstream: HttptoolsUpstream, before: bytes, phase: str) -> None:
    """The times for the first byte and between bytes hold without a task as well."""
    async with ScriptedServer(after_one(before)) as server:
        timeouts = Timeouts(first_byte=0.2, idle=0.2)
        listener = await listening(upstream, to(server.port, timeouts=timeouts))
        await eventually(lambda: listener.ended)
        assert isinstance(listener.error, UpstreamTimeout)
        assert listener.error.phase == phase


async def test_after_an_abort_nothing_is_announced(upstream: HttptoolsUpstream) -> None:
    """The server sees the connection close, the listener hears no more of it."""
    async with ScriptedServer(after_one(CHUNKED)) as server:
        listener = await listening(upstream, to(server.port))
        await eventually(lambda: listener.response is not None)
        calls = listener.calls
        listener.exchange.abort()
        await eventually(lambda: server.open == 0 and upstream.open_connections == 0)
        assert listener.calls == calls


async def test_a_listener_that_holds_holds_the_server_back(upstream: HttptoolsUpstream) -> None:
    """What it does not take stays with the server, and silence does not count meanwhile; then it goes on."""
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
        response = exchange.response()
        if holding:
            response.hold()
        else:
            responses.append(response)
            taken += len(response.take())

    responses: list[Any] = []
    async with ScriptedServer(flood) as server:
        assert (await ask(upstream, to(server.port))).body == b"ok"
        exchange: Any = upstream.begin(to(server.port, timeouts=Timeouts(idle=0.2)), listen)
        await settled(lambda: sent, quiet=0.3)
        assert sent < 64 * 1_048_576
        holding = False
        listen()
        await eventually(lambda: responses[-1].complete)
    assert taken == 64 * 1_048_576


async def test_the_rest_of_an_answer_can_be_read(upstream: HttptoolsUpstream) -> None:
    """From listening to waiting, in the middle of a body, without a byte lost."""
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(SHORT)
        await peer.head()
        await peer.send(CHUNKED + b"3\r\nabc\r\n")
        await go_on.wait()
        await peer.send(b"2\r\nde\r\n0\r\n\r\n")

    async with ScriptedServer(script) as server:
        listener = await listening(upstream, to(server.port))
        await eventually(lambda: listener.pieces == [b"abc"])
        listener.response.stop_listening()
        calls = listener.calls
        go_on.set()
        assert await listener.response.read() == b"de"
        assert await listener.response.read() == b""
        assert listener.calls == calls
