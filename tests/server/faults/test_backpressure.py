"""Whoever does not read is not read for: of a stream at most 256 KiB are held in the router, in either direction.

The memory is that of a router process as the kernel counts it, so what the kernel's own socket buffers take is not in.
A stream without any byte in it may cost 60 KiB, and what the allocator has not given back is in: for uploads, whose
segments of up to 250 KiB are held one at a time, as much again.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from ollama_router_server.process.listening import listen
from support.eventually import settled
from support.faulty_ollama import STREAM, chunk, entry, faulty_ollama, length_of, whole
from support.pauses import stay_silent
from support.raw_client import RawClient, chat, request_bytes
from support.router import running_router
from support.router_process import RouterProcess, router_process
from support.scripted_server import Peer

pytestmark = pytest.mark.anyio

STREAMS = 200
MOST_READ = STREAMS * (60 + 256) * 1024
MOST_SENT = STREAMS * (60 + 2 * 256) * 1024
PIECE = 65_536
END = b'\n{"done":true}\n'
BLOB = "/api/blobs/sha256:"


async def grown(router: RouterProcess, moved: Callable[[], int], before: int) -> int:
    """By how much memory has grown when every stream has come to a stop."""
    await settled(moved, quiet=0.3)
    return router.rss() - before


async def test_readers_that_stop_hold_their_servers_back(tmp_path: Path) -> None:
    """Two hundred streams of 2 MiB each, and nobody reads: memory stays within the bound."""
    sent = 0

    async def flood(peer: Peer, head: bytes) -> None:
        nonlocal sent
        await peer.body(length_of(head))
        await peer.send(STREAM)
        for _ in range(32):
            await peer.send(chunk(b"x" * PIECE))
            sent += PIECE
        await peer.at_eof()

    async with (
        faulty_ollama(flood) as server,
        router_process(tmp_path, {"one": entry(server)}, limits={"shutdown_grace": 1.0}) as router,
        AsyncExitStack() as clients,
    ):
        before = router.rss()
        for _ in range(STREAMS):
            client = await clients.enter_async_context(RawClient.open(router.port, receive_buffer=4096))
            await client.send(request_bytes(router.token, chat()))
        assert await grown(router, lambda: sent, before) < MOST_READ


def test_the_kernel_takes_little_for_a_reader_that_stops() -> None:
    """Beyond the client's window 128 KiB, on every connection that the router accepts: megabytes otherwise."""
    taken = 0
    with listen("127.0.0.1", 0) as sock, socket.socket() as client:
        sock.listen()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(sock.getsockname())
        accepted, _ = sock.accept()
        with accepted, suppress(BlockingIOError):
            accepted.setblocking(False)
            while taken < 16 * 1024 * 1024:
                taken += accepted.send(b"x" * PIECE)
    assert 0 < taken <= 256 * 1024


async def test_a_server_that_stops_reading_holds_its_clients_back(tmp_path: Path) -> None:
    """Two hundred uploads without end, and no server takes them: memory stays within the bound."""
    sent = 0

    async def takes_nothing(peer: Peer, head: bytes) -> bool | None:
        if head.startswith(b"HEAD"):
            await peer.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return None
        await asyncio.Event().wait()
        return False

    async def upload(client: RawClient, number: int) -> None:
        nonlocal sent
        fields = {"Transfer-Encoding": "chunked"}
        path = f"{BLOB}{number:064d}"
        await client.send(request_bytes(router.admin_token, path=path, headers=fields))
        while True:
            await client.send(chunk(b"x" * PIECE))
            sent += PIECE

    async with (
        faulty_ollama(takes_nothing) as server,
        router_process(tmp_path, {"one": entry(server)}, limits={"shutdown_grace": 1.0}) as router,
        AsyncExitStack() as clients,
    ):
        before = router.rss()
        opened = [await clients.enter_async_context(RawClient.open(router.port)) for _ in range(STREAMS)]
        uploads = [asyncio.create_task(upload(client, number)) for number, client in enumerate(opened)]
        growth = await grown(router, lambda: sent, before)
        for task in uploads:
            task.cancel()
        await asyncio.gather(*uploads, return_exceptions=True)
    assert growth < MOST_SENT


@pytest.mark.parametrize("kept", [False, True], ids=["new", "kept"])
async def test_a_reader_that_rests_gets_all_of_it_afterwards(tmp_path: Path, kept: bool) -> None:
    """While it rests the server is held back, and that is not the server's silence; then the answer goes on.

    On new connections to the server and on such as have carried a request before, which take a shorter way.
    """
    sent = 0

    async def much(peer: Peer, head: bytes) -> None:
        nonlocal sent
        await peer.body(length_of(head))
        if b"/api/chat" not in head:
            await peer.send(whole())
            return
        await peer.send(STREAM)
        for _ in range(400):
            await peer.send(chunk(b"x" * PIECE))
            sent += PIECE
        await peer.send(chunk(END) + chunk(b""))

    async with (
        faulty_ollama(much) as server,
        running_router(tmp_path, {"one": entry(server)}, idle_timeout=0.5) as router,
        router.client() as other,
        RawClient.open(router.port) as client,
    ):
        if kept:
            await other.post("/api/generate", content=chat(stream=False))
        await client.send(request_bytes(router.token, chat(), headers={"Connection": "close"}))
        await settled(lambda: sent, quiet=0.3)
        rested = sent
        await stay_silent(0.7)  # longer than a server may be silent
        answer = await client.answer()
    assert rested < 400 * PIECE
    assert (answer.complete, len(answer.body)) == (True, 400 * PIECE + len(END))
