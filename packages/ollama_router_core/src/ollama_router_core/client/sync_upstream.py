"""Requests to servers, sent and read by blocking calls in the waiting thread, or concurrently in background threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ollama_router_core.client.messages import build_request, header_fields
from ollama_router_core.client.stale_connections import ConnectionTrace
from ollama_router_core.client.tasks import Task
from ollama_router_core.errors import UpstreamError
from ollama_router_core.exchange.actions import Outgoing
from ollama_router_core.exchange.events import Arrival, Headers, Piece, Preempted

__all__ = ["BackgroundThreads", "SyncUpstream"]


class SyncUpstream:
    """A request, sent when its response is first awaited. An `owned` transport is closed with it.

    Attributes:
        status: the response's status, 0 before its head.
        headers: the response's header fields.
        connect_seconds: 0, as the program's transport does not report it.
        shared: whether a background thread reads the response.
        released: whether the rest of the response is unwanted.
    """

    def __init__(self, transport: Any, task: Task, request: Outgoing, *, owned: bool = False) -> None:
        self._transport = transport
        self._owned = owned
        self._task = task
        self._request = request
        self._stream: Any = None
        self._pieces: Iterator[bytes] = iter(())
        self._trace = ConnectionTrace()
        self._head_came = False
        self.status = 0
        self.headers: Headers = ()
        self.connect_seconds = 0.0
        self.shared = False
        self.released = False

    def open(self) -> None:
        """Send the request and wait for the head of its response.

        Raises:
            UpstreamError: the request failed.
            Preempted: the request was preempted.
        """
        task, request = self._task, self._request
        trace, preemption = self._trace, request.preemption
        if preemption is not None:
            preemption.on_request(self._leave)
        timeouts = task.timeouts(request.destination, request.patience)
        try:
            response = self._transport.handle_request(build_request(task.library, request, timeouts, trace.note))
        except Exception as error:
            if preemption is not None and preemption.requested:
                raise Preempted from error
            task.failed(error, request.destination.name, trace)
        self._head_came = True  # before the check: either preemption was requested by now, or `_leave` sees this
        self._stream, self._pieces = response.stream, iter(response.stream)
        if preemption is not None and preemption.requested and trace.is_new:
            raise Preempted
        self.status, self.headers = response.status_code, header_fields(response.headers)
        task.failure, task.extensions = None, response.extensions

    def receive(self) -> Piece:
        """Wait for the next piece of the response.

        Raises:
            UpstreamError: the response broke off.
        """
        if self._stream is None:
            self.open()
        try:
            piece = next(self._pieces, None)
        except Exception as error:  # noqa: BLE001 - as above
            self._task.failed(error, self._request.destination.name)
        return Piece(b"", complete=True) if piece is None else Piece(piece, complete=False)

    def arrival(self) -> Arrival:
        """Wait for the next piece, or the failure."""
        try:
            return Arrival(self, self.receive())
        except UpstreamError as error:
            return Arrival(self, error)

    def end(self) -> None:
        """Make `open` fail in another thread, by shutting down a connection opened for this request."""
        self._trace.end()

    def _leave(self) -> None:
        if not self._head_came:
            self.end()

    def close(self) -> None:
        """Return the connection to the pool if the response was read to its end, else close it."""
        if self._stream is not None:
            self._stream.close()
        if self._owned:
            self._transport.close()


class BackgroundThreads:
    """Background work of a transport, one thread for each piece of work.

    Attributes:
        changed: guards the transport's state, and is notified of changes and arrivals.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self._running: set[threading.Thread] = set()

    def start(self, work: Callable[..., None], *arguments: Any) -> None:
        """Start a piece of work."""

        def run() -> None:
            try:
                work(*arguments)
            finally:
                self._running.discard(threading.current_thread())
                self.notify()

        thread = threading.Thread(target=run, name="ollama-router", daemon=True)
        self._running.add(thread)
        thread.start()

    def join(self) -> None:
        """Wait for all work to finish."""
        for thread in tuple(self._running):
            thread.join()

    def notify(self) -> None:
        """Make waiting threads check their conditions."""
        with self.changed:
            self.changed.notify_all()

    def receive_any(self, task: Task, upstreams: Sequence[SyncUpstream], seconds: float | None) -> Arrival | None:
        """Wait for the next arrival from any upstream; None on timeout."""
        if len(upstreams) == 1 and not upstreams[0].shared:
            return upstreams[0].arrival()
        for upstream in upstreams:
            if not upstream.shared:
                upstream.shared = True
                self.start(self._read, task, upstream)
        with self.changed:
            self.changed.wait_for(lambda: task.arrivals, seconds)
            return task.arrivals.popleft() if task.arrivals else None

    def release(self, task: Task, upstream: SyncUpstream) -> None:
        """Release an upstream; a background thread that reads it closes it at its next piece."""
        upstream.released = True
        if not upstream.shared:
            upstream.close()
            return
        with self.changed:
            task.forget(upstream)

    def _read(self, task: Task, upstream: SyncUpstream) -> None:
        ended = False
        try:
            while not ended and not upstream.released:
                arrival = upstream.arrival()
                ended = isinstance(arrival.result, UpstreamError) or arrival.result.complete
                with self.changed:
                    if not upstream.released:
                        task.arrivals.append(arrival)
                    self.changed.notify_all()
        finally:
            upstream.close()
