"""An exchange ends once, however its server fails: one row, one failure, nothing in flight."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from support.faulty_ollama import entry, faulty_ollama, length_of, whole
from support.raw_client import RawClient, chat, parsed, request_bytes
from support.router import running_router
from support.scripted_server import Peer

pytestmark = pytest.mark.anyio


async def _garbage(peer: Peer) -> None:
    await peer.send(b"\x00\x01 no HTTP\r\n\r\n")


async def _reset(peer: Peer) -> None:
    peer.reset()


async def _close(peer: Peer) -> None:
    del peer


async def _silence(peer: Peer) -> None:
    await peer.at_eof()


@pytest.mark.parametrize("failing", [_garbage, _reset, _close, _silence])
async def test_a_failure_on_a_kept_connection_is_counted_once(
    tmp_path: Path, failing: Callable[[Peer], Awaitable[None]]
) -> None:
    """The failure and then the end of the connection are both told to whoever listens: only the first counts."""

    async def serve(peer: Peer, head: bytes) -> bool | None:
        await peer.body(length_of(head))
        if b"/api/generate" in head:
            await peer.send(whole())
            return None
        await failing(peer)
        return False

    async with (
        faulty_ollama(serve) as server,
        running_router(tmp_path, {"one": entry(server)}, request_timeout=1.0) as router,
    ):
        for path, status in (("/api/generate", 200), ("/api/chat", 504 if failing is _silence else 502)):
            async with RawClient.open(router.port) as client:
                await client.send(request_bytes(router.token, chat(), path=path, headers={"Connection": "close"}))
                assert parsed(await client.to_end()).status == status
        async with router.client(router.admin_token) as client:
            assert (await client.get("/api/version")).status_code == 200
            figures = (await client.get("/metrics")).text
        assert "orouter_in_flight 0.0" in figures
        assert [row.path for row in await router.rows(3)] == ["/api/version", "/api/chat", "/api/generate"]
