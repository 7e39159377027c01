"""The line inside a program: servers are not asked for more at once than they take, whoever waits goes in turn."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import httpx
import pytest

from ollama_router_core import AsyncRouterTransport, MemorySink, RouterTransport
from ollama_router_core.config import Config
from ollama_router_core.testing import FakeFleet
from support.pauses import stay_silent
from support.waiting import wait_until

CHAT: dict[str, Any] = {"model": "qwen3:8b", "messages": [{"role": "user", "content": "hi"}], "stream": False}
BACKENDS = ["asyncio", "trio"]
STRATEGIES = ["priority_with_memory", "fastest"]


class Held:
    """A fleet whose chats are answered when somebody opens the gate; counts how many a server has at once."""

    def __init__(self, **settings: Any) -> None:
        self.fleet = FakeFleet({"a": ["llama3.1:8b"], "b": ["qwen3:8b"]})
        servers = {name: {"host": name, "max_concurrent": 1, "num_parallel": 1} for name in self.fleet.config.servers}
        self.config = Config.model_validate({"servers": servers, **settings})
        self.gate = threading.Event()
        self.lock = threading.Lock()
        self.running: dict[str, int] = {}
        self.most = 0

    def _begin(self, request: Any) -> bool:
        if request.url.path != "/api/chat":
            return False
        with self.lock:
            self.running[request.url.host] = self.running.get(request.url.host, 0) + 1
            self.most = max(self.most, self.running[request.url.host])
        return True

    def _end(self, request: Any) -> None:
        with self.lock:
            self.running[request.url.host] -= 1

    def handle_request(self, request: Any) -> Any:
        """Wait for the gate, then answer."""
        chat = self._begin(request)
        if chat:
            self.gate.wait(20)
        try:
            return self.fleet.handle_request(request)
        finally:
            if chat:
                self._end(request)

    async def handle_async_request(self, request: Any) -> Any:
        """The same for tasks."""
        chat = self._begin(request)
        try:
            while chat and not self.gate.is_set():
                await stay_silent(0.001)
            return await self.fleet.handle_async_request(request)
        finally:
            if chat:
                self._end(request)

    def close(self) -> None:
        """Nothing to close."""

    async def aclose(self) -> None:
        """Nothing to close."""


def _line(transport: Any) -> Any:
    return transport._state.admission


def _sync(held: Held, count: int, opens: Callable[[Any], None], sink: MemorySink | None = None) -> list[int]:
    transport = RouterTransport(held.config, inner=held, sink=sink)
    with httpx.Client(transport=transport, base_url="http://router") as client, ThreadPoolExecutor(count) as pool:
        client.get("/api/version")
        asked = [pool.submit(client.post, "/api/chat", json=CHAT) for _ in range(count)]
        opens(transport)
        return sorted(one.result().status_code for one in asked)


def _async(
    held: Held, count: int, opens: Callable[[Any], None], backend: str, sink: MemorySink | None = None
) -> list[int]:
    statuses: list[int] = []

    async def run() -> None:
        transport = AsyncRouterTransport(held.config, inner=held, sink=sink)
        async with httpx.AsyncClient(transport=transport, base_url="http://router") as client:
            await client.get("/api/version")

            async def ask() -> None:
                statuses.append((await client.post("/api/chat", json=CHAT)).status_code)

            async with anyio.create_task_group() as group:
                for _ in range(count):
                    group.start_soon(ask)
                await anyio.to_thread.run_sync(opens, transport)

    anyio.run(run, backend=backend)
    return sorted(statuses)


def _play(driver: str, *arguments: Any, **options: Any) -> list[int]:
    return _sync(*arguments, **options) if driver == "sync" else _async(*arguments, driver, **options)


@pytest.mark.parametrize("driver", ["sync", *BACKENDS])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_requests_wait_for_a_slot_and_go_in_turn(driver: str, strategy: str) -> None:
    """Twelve requests for a server with one slot: never two at once, all answered, and the rows tell who waited."""
    held, sink = Held(routing_strategy=strategy), MemorySink()

    def opens(transport: Any) -> None:
        wait_until(lambda: _line(transport).waiting == 11, "the others wait", seconds=20)
        held.gate.set()

    assert _play(driver, held, 12, opens, sink=sink) == [200] * 12
    assert held.most == 1
    chats = [row for row in sink.records if row.path == "/api/chat"]
    assert sorted(row.queue_position or 0 for row in chats) == list(range(12))
    assert all(row.server == "b" for row in chats)


@pytest.mark.parametrize("driver", ["sync", *BACKENDS])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_full_line_is_said_at_once(driver: str, strategy: str) -> None:
    """One goes, two wait, the rest is told to come back while nothing has been answered yet."""
    held, sink = Held(routing_strategy=strategy, queue={"max_waiting": 2}), MemorySink()

    def opens(transport: Any) -> None:
        wait_until(lambda: sum(row.status == 503 for row in sink.records) == 6, "six are sent away", seconds=20)
        assert _line(transport).waiting == 2
        held.gate.set()

    assert _play(driver, held, 9, opens, sink=sink) == [200] * 3 + [503] * 6


@pytest.mark.parametrize("driver", ["sync", *BACKENDS])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_who_waited_for_too_long_is_told(driver: str, strategy: str) -> None:
    """`queue.max_wait` ends the wait with 503 and Retry-After."""
    held = Held(routing_strategy=strategy, queue={"max_wait": 0.2})
    sink = MemorySink()

    def opens(transport: Any) -> None:
        wait_until(lambda: sum(row.status == 503 for row in sink.records) == 2, "two gave up", seconds=20)
        held.gate.set()

    assert _play(driver, held, 3, opens, sink=sink) == [200, 503, 503]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_cancelled_wait_leaves_the_line(backend: str, strategy: str) -> None:
    """Whoever is cancelled while it waits, or right when its turn comes, takes no slot with it."""
    held = Held(routing_strategy=strategy)

    async def run() -> int:
        transport = AsyncRouterTransport(held.config, inner=held)
        async with httpx.AsyncClient(transport=transport, base_url="http://router") as client:
            await client.get("/api/version")
            async with anyio.create_task_group() as group:
                for _ in range(6):
                    group.start_soon(lambda: client.post("/api/chat", json=CHAT))
                await anyio.to_thread.run_sync(
                    lambda: wait_until(lambda: _line(transport).waiting == 5, "five wait", seconds=20)
                )
                group.cancel_scope.cancel()
            assert _line(transport).waiting == 0
            held.gate.set()
            return (await client.post("/api/chat", json=CHAT)).status_code

    assert anyio.run(run, backend=backend) == 200


def test_a_server_that_frees_up_elsewhere_takes_who_waits() -> None:
    """A model that is on both servers waits for whichever is free first."""
    held = Held()
    held.fleet = FakeFleet({"a": ["qwen3:8b"], "b": ["qwen3:8b"]})

    def opens(transport: Any) -> None:
        wait_until(lambda: _line(transport).waiting == 4, "four wait", seconds=20)
        assert held.running == {"a": 1, "b": 1}
        held.gate.set()

    assert _sync(held, 6, opens) == [200] * 6
    assert held.most == 1
