"""What a client may send is bounded before it costs memory.

Each limit's exact place and answer are in `tests/server/http/test_matrix.py`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from support.faulty_ollama import chunk, entry, faulty_ollama, length_of, whole
from support.raw_client import RawClient, chat, request_bytes
from support.router_process import RouterProcess, router_process
from support.scripted_server import Peer

pytestmark = pytest.mark.anyio

MEGABYTE = 1024 * 1024
FLOODS = {
    "one field of 100 MB": (b"GET /api/tags HTTP/1.1\r\nHost: a\r\nX-A: ", b"a" * 65_536),
    "fields without end": (b"GET /api/tags HTTP/1.1\r\nHost: a\r\n", b"X-A: bcd\r\n" * 6_000),
    "a target without end": (b"GET /", b"a" * 65_536),
    "empty lines without end": (b"", b"\r\n" * 32_000),
    "one-byte chunks without end": (b"CHUNKED", b"1\r\na\r\n" * 10_000),
    "trailers without end": (b"CHUNKED0\r\n", b"X-T: y\r\n" * 8_000),
    "a chunk extension without end": (b"CHUNKED3;", b"a" * 65_536),
    "a body without end": (b"CHUNKED", chunk(b"[" * 65_536)),
}


async def flood(router: RouterProcess, start: bytes, piece: bytes) -> None:
    """Send 100 MB of it, as far as it is taken."""
    head = request_bytes(router.token, headers={"Transfer-Encoding": "chunked"})
    sent = 0
    async with RawClient.open(router.port) as client:
        with suppress(ConnectionError):
            await client.send(start.replace(b"CHUNKED", head))
            while sent < 100 * MEGABYTE and not client.reader.at_eof():
                await client.send(piece)
                sent += len(piece)


async def test_floods_cost_no_memory(tmp_path: Path) -> None:
    """100 MB of each kind: less than 5 MB more resident, beside what the largest allowed body takes."""

    async def answers(peer: Peer, head: bytes) -> None:
        await peer.body(length_of(head))
        await peer.send(whole())

    async with (
        faulty_ollama(answers) as server,
        router_process(tmp_path, {"one": entry(server)}, limits={"max_body": "1MB"}) as router,
    ):
        async with RawClient.open(router.port) as client:
            await client.send(request_bytes(router.token, chat(filler="x" * 900_000), headers={"Connection": "close"}))
            assert (await client.answer()).status == 200
        before = router.peak_rss()
        await asyncio.gather(*(flood(router, *one) for one in FLOODS.values()))
        grown = router.peak_rss() - before
    assert grown < len(FLOODS) * 5 * MEGABYTE
