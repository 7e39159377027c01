"""An upload on a connection that was idle before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from ollama_router_server.upstream.httptools_upstream import HttptoolsUpstream
from ollama_router_server.upstream.interface import Origin, Timeouts, UpstreamRequest
from support.faulty_ollama import faulty_ollama, length_of, whole
from support.pauses import stay_silent
from support.scripted_server import Peer

pytestmark = pytest.mark.anyio

KEEPALIVE = 0.2


async def test_an_upload_may_last_longer_than_the_connection_would_have_stayed_idle() -> None:
    """The time that an idle connection is kept ends when it is taken, not in the middle of a slow client's body."""
    bodies: list[bytes] = []

    async def answer(peer: Peer, head: bytes) -> None:
        bodies.append(await peer.body(length_of(head)))
        await peer.send(whole())

    async def slow() -> AsyncIterator[bytes]:
        yield b"a"
        await stay_silent(2 * KEEPALIVE)
        yield b"b"

    upstream = HttptoolsUpstream(keepalive=KEEPALIVE)
    async with faulty_ollama(answer) as server:
        for body, length in ((b"first", None), (slow(), 2)):
            request = UpstreamRequest(
                origin=Origin("http", "127.0.0.1", server.port),
                method="POST",
                target="/api/blobs/x",
                headers=(),
                body=body,
                body_length=length,
                timeouts=Timeouts(connect=5.0, first_byte=5.0, idle=5.0),
            )
            response = await upstream.send(request)
            async with asyncio.timeout(5):
                while await response.read():
                    pass
            response.close()
        await upstream.aclose()
    assert bodies == [b"first", b"ab"]
