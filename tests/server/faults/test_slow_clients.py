"""Clients that are slow on purpose are cut by the deadlines, and nobody else notices them.

What one slow client gets to hear is in `tests/server/http/test_deadlines.py`; a thousand of them are in
`benchmarks/slow_clients.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from ollama_router_server.http.protocol_limits import ProtocolLimits
from support.eventually import eventually
from support.faulty_ollama import STREAM, chunk, entry, faulty_ollama, length_of
from support.pauses import stay_silent
from support.raw_client import RawClient, chat, request_bytes
from support.router import RunningRouter, running_router
from support.scripted_server import Peer

pytestmark = pytest.mark.anyio

EACH = 10


async def slow_head(client: RawClient, _router: RunningRouter) -> None:
    """A field now and then, and never the end."""
    await client.send(b"POST /api/chat HTTP/1.1\r\nHost: router\r\n")
    while True:
        await client.send(b"X-A: b\r\n")
        await stay_silent(0.05)


async def silent_body(client: RawClient, router: RunningRouter) -> None:
    """A head and the beginning of a body."""
    await client.send(request_bytes(router.token, headers={"Content-Length": "1000"}) + b"{")
    await asyncio.Event().wait()


async def slow_read(client: RawClient, router: RunningRouter) -> None:
    """A request whose answer is not taken."""
    await client.send(request_bytes(router.token, chat()))
    await asyncio.Event().wait()


async def attack(router: RunningRouter, slow: Callable[[RawClient, RunningRouter], Awaitable[None]]) -> bytes:
    """One slow client until the router cuts it; what it got."""
    async with RawClient.open(router.port, receive_buffer=4096) as client:
        acting = asyncio.ensure_future(slow(client, router))
        try:
            if slow is slow_read:
                # the end of a connection whose bytes are not read shows in the kernel's table alone: look afterwards
                await eventually(lambda: router.services.fleet.running("one") >= 1)
                await eventually(lambda: router.services.fleet.running("one") == 0)
            return await client.to_end()
        finally:
            acting.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await acting


@pytest.mark.front_only
async def test_slow_clients_are_cut_and_others_served(tmp_path: Path) -> None:
    """Ten of each kind: `/livez` answers all the while, all of them are cut, no 408 follows a begun answer."""
    limits = ProtocolLimits(header_timeout=0.5, body_idle=0.5, write_stall=0.5)

    async def flood(peer: Peer, head: bytes) -> None:
        await peer.body(length_of(head))
        await peer.send(STREAM)
        while True:
            await peer.send(chunk(b'{"message":{"content":"a"}}\n' * 2000))

    async with (
        faulty_ollama(flood) as server,
        running_router(tmp_path, {"one": entry(server)}, front=limits) as router,
        router.client() as other,
    ):
        kinds = [slow_head, silent_body, slow_read]
        attacks = [asyncio.create_task(attack(router, kind)) for kind in kinds for _ in range(EACH)]
        answered = 0
        while not all(task.done() for task in attacks):
            answered += (await other.get("/livez")).status_code == 200
            await asyncio.wait(attacks, timeout=0.01)
        got = [task.result() for task in attacks]
        await eventually(lambda: server.open == router.services.upstream.idle_connections)
    heads, bodies, reads = got[:EACH], got[EACH : 2 * EACH], got[2 * EACH :]
    assert answered > 10
    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in heads + bodies)
    assert all(answer.count(b"HTTP/1.1 ") <= 1 and not answer.endswith(b"0\r\n\r\n") for answer in reads)
    assert not any(b"HTTP/1.1 408" in answer for answer in reads)
