"""SIGTERM with streams under way, with one process and with several."""

from __future__ import annotations

import json
import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from threading import Semaphore
from typing import Any

import httpx
import pytest

from ollama_router_core.testing import Drip, SimulatorThread
from support.waiting import wait_until
from support.workers import ServedRouter, served

MODEL = "llama3.1:8b"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
STREAMS = 8


def stream(client: httpx.Client, begun: Semaphore) -> bool:
    """Read a stream to its end; says whether it was complete. A cut one raises."""
    with client.stream("POST", "/api/chat", json=CHAT) as answer:
        begun.release()
        assert answer.status_code == 200
        *_, last = answer.iter_lines()
    return bool(json.loads(last)["done"])


def begin(pool: ThreadPoolExecutor, opened: ExitStack, router: ServedRouter) -> list[Future[bool]]:
    """Streams whose answer has begun, on connections of their own."""
    clients = [opened.enter_context(router.client()) for _ in range(STREAMS)]
    begun = Semaphore(0)
    running = [pool.submit(stream, client, begun) for client in clients]
    assert all(begun.acquire(timeout=20) for _ in running)
    return running


def refused(url: str) -> bool:
    """Whether connections are not taken any more."""
    try:
        httpx.get(f"{url}/livez", trust_env=False)
    except httpx.ConnectError:
        return True
    except httpx.HTTPError:
        return False
    return False


def rows(router: ServedRouter) -> list[dict[str, Any]]:
    """The request log."""
    found: list[dict[str, Any]] = router.orouter.json("logs", "list", "--limit", "100")
    return found


@pytest.mark.parametrize("workers", ["1", "4"])
def test_streams_are_finished_and_nothing_new_is_taken(tmp_path, workers):
    """No stream is cut within the grace; the process ends by itself, with 0, and every row is there."""
    with SimulatorThread(models=[MODEL], num_parallel=STREAMS) as simulator:
        simulator.simulator.faults.add([Drip(seconds=0.05, size=64)], path="/api/chat")
        with (
            served(tmp_path, {"a": {"host": "127.0.0.1", "port": simulator.port}}, "--workers", workers) as router,
            ThreadPoolExecutor(STREAMS) as pool,
            ExitStack() as opened,
        ):
            running = begin(pool, opened, router)
            router.running.process.send_signal(signal.SIGTERM)
            wait_until(lambda: refused(router.url), "connections are refused", seconds=5)
            assert not all(one.done() for one in running), "the test is too slow to say anything"
            assert [one.result() for one in running] == [True] * STREAMS
            assert router.running.process.wait(timeout=10) == 0
            assert [row["status"] for row in rows(router)] == [200] * STREAMS


@pytest.mark.parametrize("workers", ["1", "4"])
def test_after_the_grace_streams_are_cut_and_logged(tmp_path, workers):
    """Gone within the grace and five seconds; no stream ends as if complete, and the log says of each what cut it."""
    grace = 1.0
    with SimulatorThread(models=[MODEL], num_parallel=STREAMS) as simulator:
        simulator.simulator.faults.add([Drip(seconds=0.2, size=64)], path="/api/chat")
        with (
            served(
                tmp_path,
                {"a": {"host": "127.0.0.1", "port": simulator.port}},
                "--workers",
                workers,
                limits={"shutdown_grace": grace},
            ) as router,
            ThreadPoolExecutor(STREAMS) as pool,
            ExitStack() as opened,
        ):
            running = begin(pool, opened, router)
            router.running.process.send_signal(signal.SIGTERM)
            since = time.monotonic()
            assert router.running.process.wait(timeout=20) == 0
            assert time.monotonic() - since < grace + 5
            wait(running, timeout=10)
            assert {type(one.exception()) for one in running} <= {httpx.RemoteProtocolError, httpx.ReadError}
            assert [row["error_code"] for row in rows(router)] == ["overloaded"] * STREAMS
