"""Preemption inside a program, over real sockets: through every driver, with both kinds of strategy."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import httpx
import pytest

from ollama_router_core import AsyncRouterTransport, MemorySink, RouterTransport
from ollama_router_core.config import Config
from ollama_router_core.testing import Silence, SimulatorThread
from support.waiting import wait_until

MODEL = "llama3.1:8b"
CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": False}
BATCH = {"X-Router-Priority": "batch"}
STRATEGIES = ["fastest", "priority_with_memory"]


@pytest.fixture
def simulator() -> Iterator[SimulatorThread]:
    """One simulated server."""
    with SimulatorThread(models=[MODEL], answer_tokens=6, time_scale=0.01) as running:
        yield running


def config(simulator: SimulatorThread, strategy: str) -> Config:
    """One slot, facts that do not change by themselves, and preemption."""
    url = httpx.URL(simulator.url)
    server = {"host": url.host, "port": url.port, "max_concurrent": 1, "num_parallel": 1}
    queue = {"max_preemptions": 1}
    settings = {"servers": {"one": server}, "routing_strategy": strategy, "queue": queue}
    return Config.model_validate({**settings, "health_check_interval": 300.0})


def sent(simulator: SimulatorThread) -> int:
    """How many chats the server has got."""
    return len(simulator.simulator.requests_to("/api/chat"))


def is_known(transport: Any) -> None:
    """The model is in memory, and known to be."""
    wait_until(lambda: bool(transport.snapshot.servers["one"].loaded), "it is loaded", seconds=20)


def check(answers: list[httpx.Response], sink: MemorySink, simulator: SimulatorThread) -> None:
    """Both were answered, one of them after it had to leave its server, which nobody blames."""
    assert [one.status_code for one in answers] == [200, 200]
    assert sent(simulator) == 4
    (row,) = [row for row in sink.records if "preempted on one" in (row.reason or "")]
    assert (row.status, row.attempts, row.error_code) == (200, 2, None)
    assert all(row.status == 200 for row in sink.records)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_thread_that_waits_for_a_batch_answer_is_woken(simulator: SimulatorThread, strategy: str) -> None:
    """Its connection is ended under it; it waits again, and is answered."""
    sink = MemorySink()
    transport = RouterTransport(config(simulator, strategy), sink=sink)
    with httpx.Client(transport=transport, base_url="http://router") as client, ThreadPoolExecutor(1) as pool:
        client.post("/api/chat", json=CHAT)
        is_known(transport)
        simulator.simulator.misbehave(Silence(), path="/api/chat", times=1)
        batch = pool.submit(client.post, "/api/chat", json=CHAT, headers=BATCH)
        wait_until(lambda: sent(simulator) == 2, "it is on the server", seconds=20)
        interactive = client.post("/api/chat", json=CHAT)
        check([batch.result(20), interactive], sink, simulator)
    assert set(transport.snapshot.in_flight.values()) == {0}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_task_that_waits_for_a_batch_answer_is_woken(simulator: SimulatorThread, strategy: str, backend: str) -> None:
    """The same for tasks."""
    sink, answers = MemorySink(), dict[str, httpx.Response]()

    async def run() -> None:
        transport = AsyncRouterTransport(config(simulator, strategy), sink=sink)
        async with httpx.AsyncClient(transport=transport, base_url="http://router") as client:
            await client.post("/api/chat", json=CHAT)
            await anyio.to_thread.run_sync(is_known, transport)
            simulator.simulator.misbehave(Silence(), path="/api/chat", times=1)

            async def ask(name: str, headers: dict[str, str]) -> None:
                answers[name] = await client.post("/api/chat", json=CHAT, headers=headers)

            async with anyio.create_task_group() as group:
                group.start_soon(ask, "batch", BATCH)
                await anyio.to_thread.run_sync(
                    lambda: wait_until(lambda: sent(simulator) == 2, "it is on the server", seconds=20)
                )
                await ask("interactive", {})
            assert set(transport.snapshot.in_flight.values()) == {0}

    anyio.run(run, backend=backend)
    check([answers["batch"], answers["interactive"]], sink, simulator)


class Gate:
    """A program's own transport; its second chat is answered when somebody opens the gate."""

    def __init__(self, simulator: SimulatorThread) -> None:
        self.inner = httpx.HTTPTransport()
        self.simulator = simulator
        self.open = threading.Event()
        self.chats = 0

    def handle_request(self, request: Any) -> httpx.Response:
        """Answer late, over a connection that was kept."""
        request.extensions.pop("trace")
        self.chats += request.url.path == "/api/chat"
        if request.url.path == "/api/chat" and self.chats == 2:
            self.open.wait(20)
        return self.inner.handle_request(request)

    def close(self) -> None:
        """End what is kept."""
        self.inner.close()


def test_what_a_program_s_own_transport_sent_stays_where_it_cannot_be_ended(simulator: SimulatorThread) -> None:
    """Nobody knows its connection: its answer counts, and the interactive request waits for it."""
    sink, gate = MemorySink(), Gate(simulator)
    transport = RouterTransport(config(simulator, "fastest"), inner=gate, sink=sink)
    with httpx.Client(transport=transport, base_url="http://router") as client, ThreadPoolExecutor(2) as pool:
        client.post("/api/chat", json=CHAT)
        is_known(transport)
        batch = pool.submit(client.post, "/api/chat", json=CHAT, headers=BATCH)
        wait_until(lambda: gate.chats == 2, "it is on its way", seconds=20)
        interactive = pool.submit(client.post, "/api/chat", json=CHAT)
        wait_until(lambda: transport._state.admission.waiting == 1, "the other waits", seconds=20)
        gate.open.set()
        answers = [batch.result(20), interactive.result(20)]
    assert [one.status_code for one in answers] == [200, 200]
    assert (gate.chats, [row.attempts for row in sink.records]) == (3, [1, 1, 1])
