"""No token waits for the next one: in lockstep, a server that sends more only once the client has what came before."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from support.faulty_ollama import chunk, entry, faulty_ollama, length_of
from support.raw_client import RawClient, chat, request_bytes
from support.router import running_router
from support.scripted_server import Peer

pytestmark = pytest.mark.anyio

DONE = b'{"done":true}\n'
NDJSON = ("/api/chat", b"application/x-ndjson", b'{"message":{"content":"%d"}}\n', DONE)
SSE = (
    "/v1/chat/completions",
    b"text/event-stream",
    b'data: {"choices":[{"delta":{"content":"%d"}}]}\n\n',
    b"data: [DONE]\n\n",
)
HALF_A_LINE = ("/api/chat", b"application/x-ndjson", b'{"message":{"content":"%d', b"\n" + DONE)


@pytest.mark.parametrize("framing", [b"Transfer-Encoding: chunked", b"Connection: close"])
@pytest.mark.parametrize(("path", "kind", "piece", "end"), [NDJSON, SSE, HALF_A_LINE])
async def test_every_piece_is_with_the_client_before_the_next_is_sent(
    tmp_path: Path, path: str, kind: bytes, piece: bytes, end: bytes, framing: bytes
) -> None:
    """Also pieces that are no whole line, and answers without chunks of their own."""
    arrived = asyncio.Semaphore(0)
    chunked = b"chunked" in framing

    async def lockstep(peer: Peer, head: bytes) -> bool:
        await peer.body(length_of(head))
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n%b\r\n\r\n" % (kind, framing))
        for number in range(20):
            await peer.send(chunk(piece % number) if chunked else piece % number)
            await arrived.acquire()
        await peer.send(chunk(end) + chunk(b"") if chunked else end)
        return False

    async with (
        faulty_ollama(lockstep) as server,
        running_router(tmp_path, {"one": entry(server)}) as router,
        RawClient.open(router.port) as client,
    ):
        await client.send(request_bytes(router.token, chat(stream=True), path=path, headers={"Connection": "close"}))
        for number in range(20):
            await client.until(piece % number)
            arrived.release()
        answer = await client.answer()
    assert answer.complete
    assert answer.body == b"".join(piece % number for number in range(20)) + end


async def test_the_head_does_not_wait_for_the_first_piece(tmp_path: Path) -> None:
    """A client sees that its answer has begun while the model still reads the prompt."""
    seen = asyncio.Event()

    async def head_first(peer: Peer, head: bytes) -> None:
        await peer.body(length_of(head))
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n")
        await seen.wait()
        await peer.send(chunk(b'{"done":true}\n'), chunk(b""))

    async with (
        faulty_ollama(head_first) as server,
        running_router(tmp_path, {"one": entry(server)}) as router,
        RawClient.open(router.port) as client,
    ):
        await client.send(request_bytes(router.token, chat(), headers={"Connection": "close"}))
        await client.until(b"\r\n\r\n")
        seen.set()
        answer = await client.answer()
    assert (answer.complete, answer.body) == (True, b'{"done":true}\n')
