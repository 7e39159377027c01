"""Requests to servers, sent and read in the waiting task, or concurrently in background tasks."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from ollama_router_core.client.connection_pools import ConnectionPool
from ollama_router_core.client.messages import build_request, header_fields
from ollama_router_core.client.stale_connections import ConnectionTrace
from ollama_router_core.client.tasks import Task
from ollama_router_core.errors import UpstreamError, UpstreamTimeout
from ollama_router_core.exchange.actions import Outgoing
from ollama_router_core.exchange.events import Arrival, Headers, Piece, Preempted

if TYPE_CHECKING:
    import asyncio

__all__ = ["CLOSING_SECONDS", "AsyncUpstream", "BackgroundTasks", "Waits"]

CLOSING_SECONDS = 2.0
"""Maximum seconds to close connections after a cancellation or failure."""

_tasks: set[asyncio.Task[Any]] = set()


class AsyncUpstream:
    """A request, sent when its response is first awaited, by the program's transport or a pooled one.

    Attributes:
        status: the response's status, 0 before its head.
        headers: the response's header fields.
        connect_seconds: 0, as the program's transport does not report it.
        scope: the cancel scope of the background task that reads the response, if any.
    """

    def __init__(self, transport: Any, pool: ConnectionPool, waits: Waits, task: Task, request: Outgoing) -> None:
        self._transport = transport
        self._pool = pool
        self._waits = waits
        self._lent: Any = None  # a transport of the pool
        self._task = task
        self._request = request
        self._stream: Any = None
        self._pieces: AsyncIterator[bytes] | None = None
        self._complete = False
        self.status = 0
        self.headers: Headers = ()
        self.connect_seconds = 0.0
        self.scope: anyio.CancelScope | None = None

    async def open(self) -> None:
        """Send the request and wait for the head of its response.

        Raises:
            UpstreamError: the request failed.
            Preempted: the request was preempted.
        """
        task, request, transport = self._task, self._request, self._transport
        if transport is None:
            transport = self._lent = self._pool.lend(task.library, request.destination.base_url, fresh=request.fresh)
        trace = ConnectionTrace()
        timeouts = task.timeouts(request.destination, request.patience)
        asked = build_request(task.library, request, timeouts, trace.note_async)
        server = request.destination.name
        with self._waits.scope(server) as scope:
            if request.preemption is not None:
                request.preemption.on_request(scope.cancel)
            try:
                response = await transport.handle_async_request(asked)
            except Exception as error:  # noqa: BLE001 - raised again, in our words if it is one about transport
                task.failed(error, request.destination.name, trace)
        if scope.cancelled_caught:
            if request.preemption is not None and request.preemption.requested:
                raise Preempted
            raise UpstreamTimeout(f"{server} stopped answering probes while the request was in flight", phase="probe")
        self._stream, self._pieces = response.stream, aiter(response.stream)
        self.status, self.headers = response.status_code, header_fields(response.headers)
        task.failure, task.extensions = None, response.extensions

    async def receive(self) -> Piece:
        """Wait for the next piece of the response.

        Raises:
            UpstreamError: the response broke off.
        """
        if self._pieces is None:
            await self.open()
        try:
            piece = None if self._pieces is None else await anext(self._pieces, None)
        except Exception as error:  # noqa: BLE001 - as above
            self._task.failed(error, self._request.destination.name)
        self._complete = piece is None
        return Piece(b"", complete=True) if piece is None else Piece(piece, complete=False)

    async def arrival(self) -> Arrival:
        """Wait for the next piece, or the failure."""
        try:
            return Arrival(self, await self.receive())
        except UpstreamError as error:
            return Arrival(self, error)

    async def close(self) -> None:
        """Return the connection to the pool if the response was read to its end, else close it; also if cancelled."""
        with anyio.move_on_after(CLOSING_SECONDS, shield=True):
            if self._stream is not None:
                await self._stream.aclose()
            transport, self._lent = self._lent, None
            if transport is not None and self._complete:
                transport = self._pool.give_back(self._task.library, self._request.destination.base_url, transport)
            if transport is not None:
                await transport.aclose()


class Waits:
    """The requests waiting for the first byte of a response, by server."""

    def __init__(self) -> None:
        self._scopes: dict[str, set[anyio.CancelScope]] = {}

    @contextmanager
    def scope(self, server: str) -> Iterator[anyio.CancelScope]:
        """Open a cancel scope that `give_up` cancels."""
        scopes = self._scopes.setdefault(server, set())
        with anyio.CancelScope() as scope:
            scopes.add(scope)
            try:
                yield scope
            finally:
                scopes.discard(scope)

    def give_up(self, server: str) -> None:
        """Cancel all requests waiting for a server."""
        for scope in self._scopes.get(server, ()):
            scope.cancel()


class BackgroundTasks:
    """Background work of a transport, one task for each piece of work."""

    def __init__(self) -> None:
        self._waiting: set[anyio.Event] = set()
        self._running: set[anyio.CancelScope] = set()

    def start(self, work: Callable[[], Awaitable[None]]) -> anyio.CancelScope:
        """Start a piece of work; the scope cancels it."""
        scope = anyio.CancelScope()
        self._running.add(scope)
        _spawn(self._run, scope, work)
        return scope

    async def _run(self, scope: anyio.CancelScope, work: Callable[[], Awaitable[None]]) -> None:
        try:
            with scope:
                await work()
        finally:
            self._running.discard(scope)
            self.notify()

    async def aclose(self) -> None:
        """Cancel all work."""
        for scope in tuple(self._running):
            scope.cancel()
        await self.wait_for(lambda: not self._running, CLOSING_SECONDS)

    def notify(self) -> None:
        """Make waiting tasks check their conditions."""
        for event in tuple(self._waiting):
            event.set()

    async def wait_for(self, until: Callable[[], object], seconds: float | None) -> None:
        """Wait until a condition holds, or time is up."""
        with anyio.move_on_after(seconds):
            while not until():
                event = anyio.Event()
                self._waiting.add(event)
                try:
                    await event.wait()
                finally:
                    self._waiting.discard(event)

    async def receive_any(
        self, task: Task, upstreams: Sequence[AsyncUpstream], seconds: float | None
    ) -> Arrival | None:
        """Wait for the next arrival from any of several upstreams; None when time is up."""
        if len(upstreams) == 1 and upstreams[0].scope is None:
            return await upstreams[0].arrival()
        for upstream in upstreams:
            if upstream.scope is None:
                upstream.scope = self.start(partial(self._read, task, upstream))
        await self.wait_for(lambda: task.arrivals, seconds)
        return task.arrivals.popleft() if task.arrivals else None

    async def release(self, task: Task, upstream: AsyncUpstream) -> None:
        """Release an upstream; one that a background task reads is closed by that task."""
        if upstream.scope is None:
            await upstream.close()
            return
        upstream.scope.cancel()
        task.forget(upstream)

    async def _read(self, task: Task, upstream: AsyncUpstream) -> None:
        ended = False
        try:
            while not ended:
                arrival = await upstream.arrival()
                ended = isinstance(arrival.result, UpstreamError) or arrival.result.complete
                task.arrivals.append(arrival)
                self.notify()
        finally:
            await upstream.close()


def _spawn(function: Callable[..., Awaitable[None]], *arguments: Any) -> None:
    """Run a function in a background task of the running event loop. The function must not raise."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        trio.lowlevel.spawn_system_task(partial(function, *arguments))
        return
    task = sys.modules["asyncio"].ensure_future(function(*arguments))  # the running loop has imported it
    _tasks.add(task)  # the loop keeps only weak references
    task.add_done_callback(_tasks.discard)
