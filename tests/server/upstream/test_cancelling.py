"""An exchange may be cancelled wherever it waits: nothing is left open, nothing is in doubt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from ollama_router_server.upstream.httptools_upstream import HttptoolsUpstream
from support.eventually import eventually
from support.exchange import ask, read_all, to
from support.scripted_server import Peer, ScriptedServer

pytestmark = pytest.mark.anyio

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def answer_slowly(peer: Peer) -> None:
    """Every request on a connection, the answer in many small pieces."""
    while True:
        head = await peer.head()
        if b"chunked" in head:
            await peer.until(b"0\r\n\r\n")
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n", CHUNKED, *[b"1\r\na\r\n"] * 5, b"0\r\n\r\n")


async def body() -> AsyncIterator[bytes]:
    """A body that waits between its pieces."""
    for _ in range(5):
        yield b"b" * 10
        await asyncio.sleep(0)


@pytest.mark.parametrize("kept", [False, True], ids=["new", "kept"])
@pytest.mark.parametrize("upload", [False, True], ids=["bytes", "upload"])
async def test_cancelled_after_any_number_of_turns(upstream: HttptoolsUpstream, kept: bool, upload: bool) -> None:
    """Law: after n turns of the loop, for many n; most exchanges are over after sixty.

    The connection is closed, or idle and good: the next exchange gets its own answer.
    """
    async with ScriptedServer(answer_slowly) as server:
        for turns in range(60):
            if kept:
                assert (await ask(upstream, to(server.port))).body == b"aaaaa"
            request = to(server.port, "POST", body=body() if upload else b"b")
            task = asyncio.ensure_future(ask(upstream, request))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await eventually(lambda: upstream.open_connections == upstream.idle_connections == server.open)
        assert (await ask(upstream, to(server.port))).body == b"aaaaa"


async def test_cancelled_reads_lose_nothing(upstream: HttptoolsUpstream) -> None:
    """Law: a read that is cancelled after any number of turns and called again gives the whole body."""
    async with ScriptedServer(answer_slowly) as server:
        for turns in range(12):
            response = await upstream.send(to(server.port))
            pieces = []
            for _ in range(5):
                reading = asyncio.ensure_future(response.read())
                for _ in range(turns):
                    await asyncio.sleep(0)
                reading.cancel()
                with suppress(asyncio.CancelledError):
                    pieces.append(await reading)
            pieces.append(await read_all(response))
            response.close()
            assert b"".join(pieces) == b"aaaaa"
