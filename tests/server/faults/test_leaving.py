"""A client that leaves, at whatever moment and in whatever way, stops its work at once and leaves nothing behind."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from pathlib import Path

import pytest

from support.eventually import eventually
from support.faulty_ollama import STREAM, chunk, entry, faulty_ollama, length_of, whole
from support.pauses import stay_silent
from support.raw_client import RawClient, chat, request_bytes
from support.router import RunningRouter, running_router
from support.scripted_server import Peer, ScriptedServer

pytestmark = pytest.mark.anyio

LINE = chunk(b'{"message":{"content":"abc"}}\n')


async def endless(peer: Peer, head: bytes) -> None:
    """A little silence, then lines without end for a chat, and a whole answer for others."""
    await peer.body(length_of(head))
    await stay_silent(0.02)
    if b"/api/chat" not in head:
        await peer.send(whole())
        return
    await peer.send(STREAM)
    while True:
        await peer.send(LINE)
        await stay_silent(0.005)


def at_rest(router: RunningRouter, server: ScriptedServer) -> bool:
    """Nobody waits, nothing is in flight, and every open connection to the server is an idle one."""
    services = router.services
    idle = services.upstream.open_connections == services.upstream.idle_connections == server.open
    return idle and services.admission.waiting == 0 and services.fleet.running("one") == 0


def sockets_and_tasks(server: ScriptedServer) -> tuple[int, int]:
    """Open sockets and live tasks of this process, without those of idle connections.

    Other files are the database's, which has as many connections as there were reads at once.
    """
    return _open_sockets() - 2 * server.open, len(asyncio.all_tasks()) - server.open


def _open_sockets() -> int:
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            found += str(link.readlink()).startswith("socket:")
    return found


def as_before(router: RunningRouter, server: ScriptedServer, before: tuple[int, int]) -> bool:
    """Nothing is under way, and there are as many sockets and tasks as before, give or take a health check's."""
    return at_rest(router, server) and all(
        abs(now - then) <= 2 for now, then in zip(sockets_and_tasks(server), before, strict=True)
    )


async def warmed(router: RunningRouter, count: int) -> None:
    """So many connections to the server that wait for the next request: who finds one takes a shorter way."""
    async with router.client() as client:
        await asyncio.gather(*(client.post("/api/generate", content=chat(stream=False)) for _ in range(count)))


async def leave(router: RunningRouter, seed: int) -> None:
    """Ask, streamed or not, and leave at a random moment: while the request is sent, before the answer, within it."""
    rng = random.Random(seed)  # noqa: S311 - a repeatable case, nothing secret
    data = request_bytes(router.token, chat(stream=rng.random() < 0.7))
    async with RawClient.open(router.port) as client:
        client.writer.write(data[: rng.choice([len(data), len(data), len(data), rng.randrange(len(data))])])
        await stay_silent(rng.random() * 0.08)
        if rng.random() < 0.5:
            client.reset()


@pytest.mark.parametrize("most", [None, 4], ids=["at once", "with a line"])
async def test_leaving_at_random_moments_leaves_nothing_behind(tmp_path: Path, most: int | None) -> None:
    """After a hundred: no request in flight or in the line, no connection, socket or task more than before."""
    async with (
        faulty_ollama(endless) as server,
        running_router(tmp_path, {"one": entry(server, max_concurrent=most)}) as router,
    ):
        await asyncio.gather(*(leave(router, seed) for seed in range(5)))
        await eventually(lambda: at_rest(router, server))
        before = sockets_and_tasks(server)
        for turn in range(5):
            await warmed(router, 10)
            await asyncio.gather(*(leave(router, turn * 20 + number) for number in range(20)))
        await eventually(lambda: as_before(router, server, before))


@pytest.mark.parametrize("way", ["close", "reset", "half-close"])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_before_the_answer_is_noticed(tmp_path: Path, way: str, stream: bool) -> None:
    """While the server reads the prompt nothing flows either way: the leaving alone must wake the router."""
    asked, gone = asyncio.Event(), asyncio.Event()

    async def silent(peer: Peer, head: bytes) -> bool:
        await peer.body(length_of(head))
        asked.set()
        await peer.at_eof()
        gone.set()
        return False

    async with faulty_ollama(silent) as server, running_router(tmp_path, {"one": entry(server)}) as router:
        async with RawClient.open(router.port) as client:
            await client.send(request_bytes(router.token, chat(stream=stream)))
            await asked.wait()
            if way == "reset":
                client.reset()
            elif way == "half-close":
                client.half_close()
            else:
                await client.close()
            async with asyncio.timeout(10):
                await gone.wait()
        (row,) = await router.rows()
    assert row.status == 499


@pytest.mark.front_only
async def test_a_client_that_has_sent_its_next_request_is_noticed_too(tmp_path: Path) -> None:
    """What is pipelined behind a request waits for its answer; that must not hide that nobody waits for it."""
    asked, gone = asyncio.Event(), asyncio.Event()

    async def silent(peer: Peer, head: bytes) -> bool:
        await peer.body(length_of(head))
        asked.set()
        await peer.at_eof()
        gone.set()
        return False

    async with faulty_ollama(silent) as server, running_router(tmp_path, {"one": entry(server)}) as router:
        async with RawClient.open(router.port) as client:
            await client.send(request_bytes(router.token, chat()) * 3)
            await asked.wait()
            await client.send(request_bytes(router.token, chat()) * 3)
        async with asyncio.timeout(10):
            await gone.wait()
        await eventually(lambda: at_rest(router, server))
        rows = await router.rows()
    assert [row.status for row in rows] == [499]


async def test_a_slow_reader_that_leaves_frees_the_server(tmp_path: Path) -> None:
    """The router waits for a client that takes nothing: its leaving ends that wait, and the server's connection."""
    gone = asyncio.Event()

    async def flood(peer: Peer, head: bytes) -> bool:
        await peer.body(length_of(head))
        try:
            await peer.send(STREAM)
            while True:
                await peer.send(chunk(b"x" * 65_536))
        finally:
            gone.set()

    async with faulty_ollama(flood) as server, running_router(tmp_path, {"one": entry(server)}) as router:
        async with RawClient.open(router.port, receive_buffer=4096) as client:
            await client.send(request_bytes(router.token, chat()))
            await client.until(b"\r\n\r\n")
            client.reset()
        async with asyncio.timeout(10):
            await gone.wait()
        (row,) = await router.rows()
    assert row.status == 499
