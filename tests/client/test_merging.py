"""Several servers' progress is one stream, written while they go on."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import httpx
import httpx2
import pytest

from ollama_router_core import AsyncRouterTransport, MemorySink, RouterTransport
from ollama_router_core.testing import FakeFleet
from support.pauses import stay_silent
from support.waiting import wait_until

LIBRARIES = [httpx, httpx2]
PULL = {"model": "new:1b"}
ALL = {"x-router-target": "all"}
FIRST = [{"status": "pulling manifest"}, {"status": "pulling", "digest": "sha256:1", "total": 10, "completed": 5}]
SHOWN = [FIRST[0], {**FIRST[1], "completed": 0}, FIRST[1]]
"""A layer is as far as on the server that is last."""
LAST = {"status": "success"}


def _bytes(lines: Any) -> list[bytes]:
    text = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    return [text[:30], b"", text[30:]]


class Slow:
    """Servers that say how far they are and go on once `goes_on` is set; `ends` is their last line."""

    def __init__(self, fleet: FakeFleet, library: Any) -> None:
        self.fleet = fleet
        self.library = library
        self.goes_on = threading.Event()
        self.ends: dict[str, Any] = {"a": LAST, "b": LAST}
        self.says: Any = None
        self.closed: list[str] = []

    def handle_request(self, request: Any) -> Any:
        """A pull is a stream."""
        if request.url.path != "/api/pull":
            return self.fleet.handle_request(request)
        name, slow = request.url.host, self

        class Stream(self.library.SyncByteStream, self.library.AsyncByteStream):  # type: ignore[misc, name-defined]
            def __iter__(self) -> Iterator[bytes]:
                yield from _bytes(FIRST)
                while not slow.goes_on.wait(0.01):
                    yield _bytes(FIRST)[0] + b"\n"
                yield json.dumps(slow.ends[name]).encode()

            async def __aiter__(self) -> AsyncIterator[bytes]:
                for piece in _bytes(FIRST):
                    yield piece
                while not slow.goes_on.is_set():
                    await stay_silent(0.01)
                    yield _bytes(FIRST)[0] + b"\n"
                yield json.dumps(slow.ends[name]).encode()

            def close(self) -> None:
                slow.closed.append(name)

            async def aclose(self) -> None:
                slow.closed.append(name)

        if self.says is not None:
            return self.library.Response(500, json=self.says)
        return self.library.Response(200, stream=Stream())

    async def handle_async_request(self, request: Any) -> Any:
        """The same for tasks."""
        return self.handle_request(request)

    def close(self) -> None:
        """Nothing to close."""

    async def aclose(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize("library", LIBRARIES)
def test_progress_comes_while_servers_go_on(fleet: FakeFleet, library: Any) -> None:
    """A line is read before any server has ended; `success` is said once, when all have said it."""
    inner, sink = Slow(fleet, library), MemorySink()
    transport = RouterTransport(fleet.config, inner=inner, sink=sink)
    with (
        library.Client(transport=transport, base_url="http://router", headers=ALL) as client,
        client.stream("POST", "/api/pull", json=PULL) as answer,
    ):
        assert answer.headers["x-router-server"] == "a, b"
        lines = answer.iter_lines()
        assert [json.loads(next(lines)) for _ in SHOWN] == SHOWN
        assert not inner.closed
        inner.goes_on.set()
        assert [json.loads(line) for line in lines] == [LAST]
    assert sorted(inner.closed) == ["a", "b"]
    assert [(row.status, row.error_code) for row in sink.records] == [(200, None)]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_same_for_tasks(fleet: FakeFleet, backend: str) -> None:
    """The twins behave alike."""
    inner, sink = Slow(fleet, httpx), MemorySink()

    async def run() -> None:
        transport = AsyncRouterTransport(fleet.config, inner=inner, sink=sink)
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://router", headers=ALL) as client,
            client.stream("POST", "/api/pull", json=PULL) as answer,
        ):
            lines = aiter(answer.aiter_lines())
            assert [json.loads(await anext(lines)) for _ in SHOWN] == SHOWN
            assert not inner.closed
            inner.goes_on.set()
            assert [json.loads(line) async for line in lines] == [LAST]

    anyio.run(run, backend=backend)
    assert sorted(inner.closed) == ["a", "b"]
    assert [(row.status, row.error_code) for row in sink.records] == [(200, None)]


def test_a_server_that_fails_is_named_in_the_last_line(fleet: FakeFleet) -> None:
    """What was said before stays said; the record has the error."""
    inner, sink = Slow(fleet, httpx), MemorySink()
    inner.ends["b"] = {"error": "disk full"}
    inner.goes_on.set()
    with httpx.Client(transport=RouterTransport(fleet.config, inner=inner, sink=sink), headers=ALL) as client:
        lines = [json.loads(line) for line in client.post("http://router/api/pull", json=PULL).iter_lines()]
    assert lines == [*SHOWN, {"error": "pull failed on b: disk full (done on a)"}]
    assert [row.error_code for row in sink.records] == ["partly_done"]


def test_what_no_server_begins_is_an_answer_with_its_status(fleet: FakeFleet) -> None:
    """Before the first line an error is no stream."""
    inner = Slow(fleet, httpx)
    inner.says = {"error": "disk full"}
    inner.goes_on.set()
    with httpx.Client(transport=RouterTransport(fleet.config, inner=inner), headers=ALL) as client:
        answer = client.post("http://router/api/pull", json=PULL)
    assert answer.status_code == 502
    assert answer.json()["error"] == "pull failed on a: disk full; b: disk full"


@pytest.mark.parametrize("read", [0, 1])
def test_a_program_that_reads_no_more_ends_the_order(fleet: FakeFleet, read: int) -> None:
    """Servers' connections are closed with the next piece, also when nothing was read; the record says 499."""
    inner, sink = Slow(fleet, httpx), MemorySink()
    transport = RouterTransport(fleet.config, inner=inner, sink=sink)
    with httpx.Client(transport=transport, base_url="http://router", headers=ALL) as client:
        with client.stream("POST", "/api/pull", json=PULL) as answer:
            for _, _ in zip(range(read), answer.iter_raw(), strict=False):
                pass
        wait_until(lambda: sorted(inner.closed) == ["a", "b"], "both are closed", seconds=10)
    assert [row.status for row in sink.records] == [499]
