"""An upload that does not arrive whole is never a whole request to a server (RFC 9112 6.3)."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.eventually import eventually
from support.faulty_ollama import chunk, entry, faulty_ollama, length_of, whole
from support.raw_client import RawClient, chat, request_bytes
from support.router import running_router
from support.scripted_server import Peer

pytestmark = pytest.mark.anyio

TENTHS = [number / 10 for number in range(10)]
BLOB = "/api/blobs/sha256:" + "0" * 64


@pytest.mark.parametrize("ending", ["close", "reset", "half-close"])
async def test_a_json_body_that_breaks_off_reaches_no_server(tmp_path: Path, ending: str) -> None:
    """Cut at every tenth: no server hears of it."""
    asked: list[bytes] = []

    async def answers(peer: Peer, head: bytes) -> None:
        asked.append(await peer.body(length_of(head)))
        await peer.send(whole())

    body = chat(filler="x" * 20_000)
    head = request_bytes("TOKEN", b"", headers={"X": "y"})
    async with faulty_ollama(answers) as server, running_router(tmp_path, {"one": entry(server)}) as router:
        head = request_bytes(router.token, headers={"Content-Length": str(len(body))})
        for share in TENTHS:
            async with RawClient.open(router.port) as client:
                await client.send(head + body[: int(len(body) * share)])
                if ending == "reset":
                    client.reset()
                elif ending == "half-close":
                    client.half_close()
                    await client.to_end()
        await eventually(lambda: router.services.upstream.open_connections == router.services.upstream.idle_connections)
        rows = await router.rows(len(TENTHS))
        async with RawClient.open(router.port) as client:  # and a whole one does, after all of them
            await client.send(request_bytes(router.token, body, headers={"Connection": "close"}))
            answer = await client.answer()
    assert {row.status for row in rows} == {499}
    assert (answer.status, answer.complete) == (200, True)
    assert asked == [body]


@pytest.mark.parametrize("ending", ["close", "reset"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_blob_that_breaks_off_is_broken_at_the_server(tmp_path: Path, framing: str, ending: str) -> None:
    """Streamed on as it comes, and cut where it was cut: neither its length nor a last chunk arrives."""
    body = b"b" * 50_000
    sent = body if framing == "length" else chunk(body[:25_000]) + chunk(body[25_000:]) + chunk(b"")
    fields = {"Content-Length": str(len(body))} if framing == "length" else {"Transfer-Encoding": "chunked"}
    received: list[tuple[bytes, bytes]] = []

    async def takes(peer: Peer, head: bytes) -> bool:
        if head.startswith(b"HEAD"):
            await peer.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return True
        received.append((head, await peer.at_eof()))
        return False

    async with faulty_ollama(takes) as server, running_router(tmp_path, {"one": entry(server)}) as router:
        for share in TENTHS:
            async with RawClient.open(router.port) as client:
                await client.send(request_bytes(router.admin_token, path=BLOB, headers=fields))
                await client.send(sent[: int(len(sent) * share)])
                if ending == "reset":
                    client.reset()
        rows = await router.rows(len(TENTHS))
        await eventually(lambda: server.open == router.services.upstream.idle_connections)
    assert {row.status for row in rows} == {499}
    for head, came in received:
        assert len(came) < length_of(head) if framing == "length" else not came.endswith(b"0\r\n\r\n")


async def test_a_broken_chunk_of_an_upload_is_broken_at_the_server(tmp_path: Path) -> None:
    """The client hears 400, and the server never the end."""
    received: list[bytes] = []

    async def takes(peer: Peer, head: bytes) -> bool:
        if head.startswith(b"HEAD"):
            await peer.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return True
        received.append(await peer.at_eof())
        return False

    async with (
        faulty_ollama(takes) as server,
        running_router(tmp_path, {"one": entry(server)}) as router,
        RawClient.open(router.port) as client,
    ):
        head = request_bytes(router.admin_token, path=BLOB, headers={"Transfer-Encoding": "chunked"})
        await client.send(head + chunk(b"b" * 1000))
        await eventually(lambda: server.open > router.services.upstream.idle_connections)
        await client.send(b"five\r\nbbbbb\r\n0\r\n\r\n")
        answer = await client.answer()
        await eventually(lambda: bool(received))
    assert answer.status == 400
    assert not received[0].endswith(b"0\r\n\r\n")


async def test_a_length_above_the_limit_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    """413 on the head alone: nobody uploads gigabytes to be told, or waits for a body that will not be read."""

    async def never(_peer: Peer, _head: bytes) -> None:
        raise AssertionError

    async with (
        faulty_ollama(never) as server,
        running_router(tmp_path, {"one": entry(server)}, limits={"max_body": "1MB"}) as router,
        RawClient.open(router.port) as client,
    ):
        fields = {"Content-Length": "2000000", "Expect": "100-continue"}
        await client.send(request_bytes(router.token, headers=fields))
        head = await client.until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413")
