"""An answer that a server cuts off is cut off for the client too: no framing ever says that it is complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.faulty_ollama import STREAM, chunk, entry, faulty_ollama, length_of, whole
from support.raw_client import RawClient, chat, parsed, request_bytes
from support.router import RunningRouter, running_router
from support.scripted_server import Peer

pytestmark = pytest.mark.anyio

LINE = b'{"message":{"content":"abc"}}\n'
ANSWERS = {
    "chunked": STREAM + chunk(LINE) * 3 + chunk(b'{"done":true}\n') + chunk(b""),
    "length": whole(LINE * 3),
    "trailers": STREAM + chunk(LINE) + b"0\r\nX-Sum: 1\r\n\r\n",
}
SHARES = [number / 20 for number in range(1, 20)]


async def ask(router: RunningRouter) -> bytes:
    """A request on a connection of its own; everything that came until the router closed it."""
    async with RawClient.open(router.port) as client:
        await client.send(request_bytes(router.token, chat(), headers={"Connection": "close"}))
        return await client.to_end()


async def whole_answer(router: RunningRouter) -> None:
    """A request that leaves a connection to the server open."""
    async with RawClient.open(router.port) as client:
        await client.send(request_bytes(router.token, chat(), path="/api/generate", headers={"Connection": "close"}))
        assert parsed(await client.to_end()).complete


@pytest.mark.parametrize("kept", [False, True], ids=["new", "kept"])
@pytest.mark.parametrize("ending", ["close", "reset"])
@pytest.mark.parametrize("kind", list(ANSWERS))
async def test_no_cut_looks_like_an_end(tmp_path: Path, kind: str, ending: str, kept: bool) -> None:
    """Cuts at every twentieth of the answer, and one byte before its end: 502, or an answer that is not complete.

    On new connections to the server and on such as have carried a request before, which take a shorter way.
    """
    data = ANSWERS[kind]
    places = iter([*(int(len(data) * share) for share in SHARES), len(data) - 1])
    count = len(SHARES) + 1

    async def cuts(peer: Peer, head: bytes) -> bool | None:
        await peer.body(length_of(head))
        if b"/api/generate" in head:
            await peer.send(whole())
            return None
        await peer.send(data[: next(places)])
        if ending == "reset":
            peer.reset()
        return False

    async with faulty_ollama(cuts) as server, running_router(tmp_path, {"one": entry(server)}) as router:
        endings = []
        for _ in range(count):
            if kept:
                await whole_answer(router)
            endings.append(await ask(router))
        rows = [row for row in await router.rows(count * (1 + kept)) if row.path == "/api/chat"]
    for received in endings:
        refused = received.startswith((b"HTTP/1.1 502", b"HTTP/1.1 503"))
        assert refused or not complete(received), received
    assert {row.error_code for row in rows} <= {"upstream_disconnected", "upstream_protocol"}


def complete(received: bytes) -> bool:
    """Whether the framing says that nothing is missing."""
    head, _, body = received.partition(b"\r\n\r\n")
    if b"chunked" in head.lower():
        return body.endswith(b"0\r\n\r\n")
    return len(body) >= length_of(head)


async def test_garbage_in_the_middle_is_a_cut(tmp_path: Path) -> None:
    """A chunk that is none: what came before it is with the client, and then an end that is none."""

    async def garbage(peer: Peer, head: bytes) -> bool:
        await peer.body(length_of(head))
        await peer.send(STREAM, chunk(LINE), b"three\r\nabc\r\n0\r\n\r\n")
        return False

    async with faulty_ollama(garbage) as server, running_router(tmp_path, {"one": entry(server)}) as router:
        received = await ask(router)
        (row,) = await router.rows()
    assert LINE in received
    assert not complete(received)
    assert row.error_code == "upstream_protocol"


async def test_a_kept_connection_is_never_used_after_a_cut(tmp_path: Path) -> None:
    """The next request finds a whole answer on a connection of its own, not the rest of somebody else's."""
    cut = [True]

    async def once(peer: Peer, head: bytes) -> bool | None:
        await peer.body(length_of(head))
        if cut:
            cut.clear()
            await peer.send(STREAM, chunk(LINE), b"5\r\nab")
            await peer.at_eof()
            return False
        await peer.send(whole())
        return None

    async with (
        faulty_ollama(once) as server,
        running_router(tmp_path, {"one": entry(server)}, idle_timeout=0.3) as router,
        router.client() as client,
    ):
        first = await ask(router)
        second = await client.post("/api/chat", content=chat(stream=False))
    assert not complete(first)
    assert second.json() == {"done": True}


async def test_a_whole_answer_that_breaks_off_is_an_error(tmp_path: Path) -> None:
    """Nothing has been written when its server cuts it off: the client is told with a status, as of a dead server."""

    async def cuts(peer: Peer, head: bytes) -> bool:
        await peer.body(length_of(head))
        await peer.send(whole(LINE)[:-3])
        return False

    async with (
        faulty_ollama(cuts) as server,
        running_router(tmp_path, {"one": entry(server)}) as router,
        router.client() as client,
    ):
        answer = await client.post("/api/chat", content=chat(stream=False))
    assert (answer.status_code, answer.headers["x-router-error"]) == (502, "upstream_disconnected")
    assert "one" in answer.json()["error"]
