"""SIGTERM: no new connections, streams go on to their end within the grace period, and are cut visibly after it."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from support.eventually import eventually, eventually_async
from support.faulty_ollama import STREAM, chunk, entry, faulty_ollama, length_of
from support.pauses import stay_silent
from support.raw_client import RawClient, chat, parsed, request_bytes
from support.router_process import RouterProcess, router_process
from support.scripted_server import Peer, ScriptedServer

pytestmark = pytest.mark.anyio

STREAMS = 50
LINE = b'{"message":{"content":"abc"}}\n'


class Streaming:
    """A server whose streams end when it is told, and go on until then."""

    def __init__(self) -> None:
        self.ending = asyncio.Event()

    def server(self) -> ScriptedServer:
        """The server."""
        return faulty_ollama(self._answer)

    async def _answer(self, peer: Peer, head: bytes) -> None:
        await peer.body(length_of(head))
        await peer.send(STREAM)
        while not self.ending.is_set():
            await peer.send(chunk(LINE))
            await stay_silent(0.02)
        await peer.send(chunk(b'{"done":true}\n'), chunk(b""))


@asynccontextmanager
async def streaming(router: RouterProcess) -> AsyncIterator[list[RawClient]]:
    """Clients that have begun to get an answer each, without asking for the connection to be closed."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(RawClient.open(router.port)) for _ in range(STREAMS)]
        for client in clients:
            await client.send(request_bytes(router.token, chat()))
        for client in clients:
            await client.until(LINE)
        yield clients


async def refuses(port: int) -> None:
    """Return once nothing accepts connections on the port."""

    async def is_closed() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            return True
        writer.close()
        return False

    await eventually_async(is_closed)


async def test_streams_are_finished_after_sigterm(tmp_path: Path) -> None:
    """Fifty of them: none is cut, nobody new is let in meanwhile, and the process ends with the last one."""
    streams = Streaming()
    async with (
        streams.server() as server,
        router_process(tmp_path, {"one": entry(server)}, limits={"shutdown_grace": 30.0}) as router,
        RawClient.open(router.port) as idle,
        streaming(router) as clients,
    ):
        router.process.send_signal(signal.SIGTERM)
        await refuses(router.port)
        assert await idle.to_end() == b""  # a connection that carries nothing is closed
        for client in clients:
            await client.until(LINE)
        streams.ending.set()
        answers = [parsed(await client.to_end()) for client in clients]
        async with asyncio.timeout(5 + 20):
            code = await router.process.wait()
    assert all(answer.complete and answer.body.endswith(b'{"done":true}\n') for answer in answers)
    assert code in {0, -signal.SIGTERM}


async def test_streams_are_cut_when_the_grace_period_is_over(tmp_path: Path) -> None:
    """Each of the fifty is told why, none ends as if complete; the process is gone soon, without a word of alarm."""
    streams = Streaming()
    async with (
        streams.server() as server,
        router_process(
            tmp_path, {"one": entry(server)}, limits={"shutdown_grace": 1.0}, logging={"level": "error"}
        ) as router,
        streaming(router) as clients,
    ):
        began = time.monotonic()
        router.process.send_signal(signal.SIGTERM)
        answers = [parsed(await client.to_end()) for client in clients]
        async with asyncio.timeout(20):
            await router.process.wait()
        seconds = time.monotonic() - began
        await eventually(lambda: server.open == 0)
    assert not any(answer.complete for answer in answers)
    assert all(answer.body.endswith(b'{"error":"the router is stopping"}\n') for answer in answers)
    assert "Cancel" not in (tmp_path / "router.err").read_text(encoding="utf-8")
    assert 0.9 <= seconds < 1 + 5 + 10  # five as promised, ten for a busy machine


async def test_who_still_waits_when_the_grace_period_is_over_can_come_back(tmp_path: Path) -> None:
    """503 with Retry-After in the dialect of the route, and not the 500 of a program that broke."""

    async def silent(peer: Peer, head: bytes) -> bool:
        await peer.body(length_of(head))
        arrived.append(head)
        await peer.at_eof()
        return False

    arrived: list[bytes] = []
    async with (
        faulty_ollama(silent) as server,
        router_process(tmp_path, {"one": entry(server)}, limits={"shutdown_grace": 1.0}) as router,
        AsyncExitStack() as stack,
    ):
        clients = [await stack.enter_async_context(RawClient.open(router.port)) for _ in range(5)]
        for client in clients:
            await client.send(request_bytes(router.token, chat()))
        await eventually(lambda: len(arrived) == 5)
        router.process.send_signal(signal.SIGTERM)
        answers = [parsed(await client.to_end()) for client in clients]
        async with asyncio.timeout(20):
            assert await router.process.wait() in {0, -signal.SIGTERM}
    assert [(one.status, one.body) for one in answers] == [(503, b'{"error":"the router is stopping"}')] * 5
