"""The client-side router over real sockets: streams, cuts, cancellation, nothing left behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import httpx2
import pytest

from ollama_router_core import AsyncRouterTransport, MemorySink, RouterTransport
from ollama_router_core.testing import Cut, Silence, SimulatorThread
from support.waiting import wait_until

MODEL = "llama3.1:8b"
CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
BACKENDS = ["asyncio", "trio"]
LIBRARIES = [httpx, httpx2]


@pytest.fixture
def simulator() -> Iterator[SimulatorThread]:
    """One simulated server."""
    with SimulatorThread(models=[MODEL], answer_tokens=6, time_scale=0.01) as running:
        yield running


def _open_files() -> int:
    """File descriptors of this process; 0 where the system does not tell."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def test_a_stream_arrives_piece_by_piece(simulator: SimulatorThread) -> None:
    """Each line is there when the server has written it; the connection is used again."""
    with httpx.Client(transport=RouterTransport.from_urls([simulator.url]), base_url="http://router") as client:
        for _ in range(3):
            with client.stream("POST", "/api/chat", json=CHAT) as answer:
                pieces = list(answer.iter_raw())
            assert len(pieces) > 2
    chats = simulator.simulator.requests_to("/api/chat")
    assert len({one.connection for one in chats}) < len(chats)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_cut_stream_raises_as_it_would_without_a_router(simulator: SimulatorThread, library: Any) -> None:
    """Half an answer is never taken for a whole one, and the record says what happened."""
    sink = MemorySink()
    transport = RouterTransport.from_urls([simulator.url], sink=sink)
    with library.Client(transport=transport, base_url="http://router") as client:
        simulator.simulator.misbehave(Cut(after_chunks=2), path="/api/chat", times=1)
        with pytest.raises(library.TransportError):
            client.post("/api/chat", json=CHAT)
    assert sink.records[0].error_code == "upstream_disconnected"
    assert set(transport.snapshot.in_flight.values()) == {0}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_streams_under_asyncio_and_trio(simulator: SimulatorThread, backend: str, library: Any) -> None:
    """Chunks, usage and re-use of connections are the same on both."""

    async def run() -> None:
        transport = AsyncRouterTransport.from_urls([simulator.url])
        async with library.AsyncClient(transport=transport, base_url="http://router") as client:
            for _ in range(3):
                async with client.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as answer:
                    body = b"".join([piece async for piece in answer.aiter_raw()])
                assert body.endswith(b"data: [DONE]\n\n")
            assert (await client.get("/api/tags")).json()["models"][0]["name"] == MODEL
            assert (await transport.explain(MODEL)).server == "127.0.0.1"

    anyio.run(run, backend=backend)
    chats = simulator.simulator.requests_to("/v1/chat/completions")
    assert len({one.connection for one in chats}) < len(chats)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_cancelled_request_is_gone_at_once(simulator: SimulatorThread, backend: str) -> None:
    """Cancelling closes the connection, so the server stops working; the record says 499."""
    sink = MemorySink()

    async def run() -> None:
        transport = AsyncRouterTransport.from_urls([simulator.url], sink=sink)
        async with httpx.AsyncClient(transport=transport, base_url="http://router") as client:
            await client.get("/api/version")
            simulator.simulator.misbehave(Silence(), path="/api/chat", times=1)
            with anyio.move_on_after(0.2):
                await client.post("/api/chat", json=CHAT)
            assert transport.snapshot.in_flight == {"127.0.0.1": 0}
            assert (await client.post("/api/chat", json=CHAT)).status_code == 200

    anyio.run(run, backend=backend)
    assert [row.status for row in sink.records if row.path == "/api/chat"] == [499, 200]
    wait_until(lambda: simulator.simulator.open_connections == 0, "every connection is closed")


def test_the_pool_of_httpx_loses_a_slot_to_a_cancelled_request(simulator: SimulatorThread) -> None:
    """Why there is a pool of our own: cancelled right when it got a connection, a request keeps that for good.

    When this fails, httpx has mended it, and `ConnectionPool` may go.
    """

    async def run() -> None:
        inner = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=1))
        patience = httpx.Timeout(5, pool=0.3)
        async with httpx.AsyncClient(transport=inner, base_url=simulator.url, timeout=patience) as client:
            async with client.stream("POST", "/api/chat", json=CHAT):
                waiting = asyncio.create_task(client.get("/api/version"))
                for _ in range(5):
                    await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            with pytest.raises(httpx.PoolTimeout):
                await client.get("/api/version")

    asyncio.run(run())


@pytest.mark.filterwarnings("ignore:Exception ignored in.*ByteStream.__aiter__")  # httpx's uploads under trio
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_cancellation_churn_leaves_the_transport_usable(simulator: SimulatorThread, backend: str, library: Any) -> None:
    """Twenty tasks that cancel at every stage of a request leak no connection and no file, and block nobody."""

    async def worker(client: Any, number: int) -> None:
        for turn in range(25):
            with anyio.move_on_after(0.0005 * ((number * 7 + turn * 3) % 40)):
                await client.post("/api/chat", json={**CHAT, "stream": bool(turn % 2)})

    async def run() -> None:
        transport = AsyncRouterTransport.from_urls([simulator.url])
        async with library.AsyncClient(transport=transport, base_url="http://router", timeout=20) as client:
            await client.get("/api/version")
            async with anyio.create_task_group() as group:
                for number in range(20):
                    group.start_soon(worker, client, number)
            answers = [(await client.post("/api/chat", json=CHAT)).status_code for _ in range(5)]
            assert answers == [200] * 5
            assert transport.snapshot.in_flight == {"127.0.0.1": 0}

    before = _open_files()
    anyio.run(run, backend=backend)
    gc.collect()
    wait_until(lambda: simulator.simulator.open_connections == 0, "every connection is closed")
    assert _open_files() <= before + 5


@pytest.mark.parametrize("backend", BACKENDS)
def test_closing_ends_questions_under_way(simulator: SimulatorThread, backend: str) -> None:
    """A server that never answers its questions holds nobody up."""
    simulator.simulator.misbehave(Silence(), path="/api/show")

    async def run() -> None:
        with anyio.fail_after(10):
            async with httpx.AsyncClient(
                transport=AsyncRouterTransport.from_urls([simulator.url]), base_url="http://router"
            ) as client:
                assert (await client.post("/api/chat", json=CHAT)).status_code == 200

    anyio.run(run, backend=backend)
