"""Routers as processes that share a Redis: limits hold for all of them together, also while one is killed."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import httpx

from ollama_router_core.testing import Delay, SimulatorThread
from support.orouter import Orouter
from support.redis_server import RedisServer
from support.waiting import wait_until
from support.workers import ServedRouter, served

MODEL = "llama3.1:8b"
CHAT = {"model": MODEL, "stream": False, "messages": [{"role": "user", "content": "Hello"}]}


def entry(simulator: SimulatorThread, **settings: Any) -> dict[str, Any]:
    """A server of the config."""
    return {"host": "127.0.0.1", "port": simulator.port, **settings}


@contextmanager
def routers(
    folder: Path, redis: RedisServer, servers: dict[str, dict[str, Any]], *, count: int = 2, **coordination: Any
) -> Iterator[tuple[ServedRouter, list[str]]]:
    """The first of several routers with one config and one database, and the URLs of all."""
    settings = {"url": redis.url, "timeout": 2.0, **coordination}
    with ExitStack() as running:
        first = running.enter_context(served(folder, servers, coordination=settings))
        urls = [first.url]
        urls += [running.enter_context(Orouter(home=folder).serve("--port", "0")) for _ in range(count - 1)]
        yield first, urls


def ask(url: str, token: str) -> int:
    """The status of one chat, on a connection of its own."""
    headers = {"authorization": f"Bearer {token}"}
    return httpx.post(f"{url}/api/chat", json=CHAT, headers=headers, timeout=60, trust_env=False).status_code


def set_limits(router: ServedRouter, urls: list[str], **grants: int) -> None:
    """Give alice limits, and wait until every router knows them."""
    with router.client(router.admin_token) as admin:
        assert admin.patch("/router/users/alice", json={"grants": grants}).status_code == 200
    for url in urls:
        wait_until(lambda url=url: told_limits(url, router.token) == grants, "the router knows the limits")


def told_limits(url: str, token: str) -> dict[str, int]:
    """What a user is told about limits."""
    headers = {"authorization": f"Bearer {token}"}
    limits = httpx.get(f"{url}/router/me", headers=headers, trust_env=False).json()["grants"]
    counted = ("concurrent_requests", "requests_per_minute")
    return {name: limits[name] for name in counted if limits.get(name) is not None}


class Watch:
    """The most requests that were in flight at once on a simulator."""

    def __init__(self, simulator: SimulatorThread) -> None:
        self._simulator = simulator
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.most = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ends.wait(0.001):
            self.most = max(self.most, self._simulator.simulator.in_flight)


def test_three_routers_keep_to_one_server_s_limit(tmp_path: Path, redis_server: RedisServer) -> None:
    """60 requests at once to 2 slots: all are answered, and never more than 2 are at the server."""
    with SimulatorThread(models=[MODEL]) as simulator:
        simulator.simulator.faults.add([Delay(seconds=0.02)], path="/api/chat")
        servers = {"a": entry(simulator, max_concurrent=2)}
        with (
            routers(tmp_path, redis_server, servers, count=3) as (first, urls),
            ThreadPoolExecutor(30) as pool,
            Watch(simulator) as watch,
        ):
            statuses = Counter(pool.map(lambda number: ask(urls[number % 3], first.token), range(60)))
        assert statuses == {200: 60}
        assert watch.most == 2


def test_a_user_s_limits_hold_over_routers(tmp_path: Path, redis_server: RedisServer) -> None:
    """20 requests at once through two routers against 10 a minute: 10."""
    with (
        SimulatorThread(models=[MODEL]) as simulator,
        routers(tmp_path, redis_server, {"a": entry(simulator)}) as (first, urls),
        ThreadPoolExecutor(20) as pool,
    ):
        set_limits(first, urls, requests_per_minute=10)
        statuses = Counter(pool.map(lambda number: ask(urls[number % 2], first.token), range(20)))
        assert statuses == {200: 10, 429: 10}


def test_a_killed_router_frees_its_slots(tmp_path: Path, redis_server: RedisServer) -> None:
    """A request that waits at another router gets the slot once the lease has expired."""
    with SimulatorThread(models=[MODEL]) as simulator:
        simulator.simulator.faults.add([Delay(seconds=60.0)], path="/api/chat", times=1)
        servers = {"a": entry(simulator, max_concurrent=1)}
        with (
            routers(tmp_path, redis_server, servers, heartbeat=1.0) as (first, urls),
            ThreadPoolExecutor(2) as pool,
        ):
            lost = pool.submit(ask, urls[0], first.token)
            wait_until(lambda: simulator.simulator.in_flight == 1, "the first is under way")
            waiting = pool.submit(ask, urls[1], first.token)
            with first.client(first.admin_token) as admin:
                queue = f"{urls[1]}/router/queue"
                wait_until(lambda: admin.get(queue).json()["waiting"] == 1, "the second waits at the other router")
            first.running.process.kill()
            assert waiting.result(timeout=60) == 200
            assert isinstance(lost.exception(timeout=60), httpx.HTTPError)


def test_a_drain_reaches_every_router_and_outlasts_them_all(tmp_path: Path, redis_server: RedisServer) -> None:
    """Whoever is asked to; also where the store has forgotten it meanwhile."""
    with SimulatorThread(models=[MODEL]) as simulator:
        with (
            routers(tmp_path, redis_server, {"a": entry(simulator)}) as (first, urls),
            first.client(first.admin_token) as admin,
        ):
            draining = lambda url: admin.get(f"{url}/router/status").json()["servers"]["a"]["draining"]  # noqa: E731
            assert admin.post("/router/servers/a/drain").status_code < 300
            wait_until(lambda: draining(urls[1]), "the drain is known")
        with redis_server.client() as client:
            client.flushall()
        with Orouter(home=tmp_path).serve("--port", "0") as url, first.client(first.admin_token) as admin:
            wait_until(lambda: draining(url), "the drain holds")


def test_routers_go_on_without_the_store_and_say_so(tmp_path: Path, redis_server: RedisServer) -> None:
    """Requests are answered; `/readyz`, the status and the metrics tell; all is well when it is back."""
    with (
        SimulatorThread(models=[MODEL]) as simulator,
        routers(tmp_path, redis_server, {"a": entry(simulator, max_concurrent=4)}, timeout=0.2) as (first, urls),
        first.client(first.admin_token) as admin,
    ):
        known = lambda: admin.get("/router/status").json()["coordination"]  # noqa: E731 - it changes
        wait_until(lambda: known()["members"] == 2, "the routers know of each other")
        redis_server.stop()
        try:
            assert [ask(url, first.token) for url in urls] == [200, 200]
            wait_until(lambda: known()["away"], "it is noticed")
            status = admin.get("/router/status").json()
            assert status["status"] == "degraded"
            assert (
                "the coordination store does not answer; this router uses one part in 2 of each limit"
                in status["problems"]
            )
            assert admin.get("/readyz").status_code == 200
            assert "orouter_coordination_away 1.0" in admin.get("/metrics").text
        finally:
            redis_server.start()
        wait_until(lambda: not known()["away"], "it is back")
        told = lambda: [line["event"] for line in first.log() if line["event"].startswith("coordination")]  # noqa: E731
        wait_until(lambda: told() == ["coordination_away", "coordination_back"], "one line for each, in the log")
        assert [ask(url, first.token) for url in urls] == [200, 200]
